"""Following the chain: events into the ledger, exactly once, whichever process reads them."""

from mine.ledger import Ledger
from mine.records import KnownCampaign
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import Event
from sonar.chain.lookups import block_hash
from sonar.errors import ConfigError
from sonar.units import Address

__all__ = ["deployment_of", "find_campaign", "follow"]


def deployment_of(client: SonarClient, start_block: int) -> str:
    """What tells this deployment from one with the same address on a chain that was started anew."""
    return f"{client.chain_id}:{client.address}:{block_hash(client, start_block).hex()}"


def follow(
    client: SonarClient, ledger: Ledger, deployment: str, mine: Address, *, start_block: int, confirmations: int = 0
) -> list[Event]:
    """Applies what is new on chain and returns it; nothing if another process was faster, which then has it all."""
    before = ledger.cursor(deployment)
    cursor = EventCursor(client, start_block if before is None else before, confirmations=confirmations)
    events = cursor.read()
    if cursor.next_block == before:
        return []
    return events if ledger.apply(deployment, mine, events, before=before, after=cursor.next_block) else []


def find_campaign(ledger: Ledger, deployment: str, text: str) -> KnownCampaign:
    """The campaign whose id is `text`, or starts with it; raises ConfigError if that is none or several."""
    digits = text.lower().removeprefix("0x")
    found = [campaign for campaign in ledger.campaigns(deployment) if campaign.id.hex().startswith(digits)]
    if len(digits) < 4 or len(found) != 1:
        raise ConfigError(
            f"{text!r} names {len(found)} campaigns: give the id, or at least 4 of its first digits (`mine campaigns`)"
        )
    return found[0]
