"""Following the chain: events into the ledger, exactly once, whichever process reads them."""

from mine.ledger import Ledger
from mine.records import KnownCampaign
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import Event
from sonar.chain.lookups import block_hash
from sonar.errors import ConfigError, printable
from sonar.units import Address

__all__ = ["deployment_of", "find_campaign", "follow"]

_DIGITS = frozenset("0123456789abcdef")
_LONGEST_SHOWN = 80


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
    digits, shown = text.lower().removeprefix("0x"), repr(printable(text, _LONGEST_SHOWN))
    if not 4 <= len(digits) <= 64 or not set(digits) <= _DIGITS:
        raise ConfigError(
            f"{shown} is not a campaign's id: give 0x and its 64 hexadecimal digits, or at least the first 4 "
            "(`mine campaigns`)"
        )
    known = ledger.campaigns(deployment)
    found = [campaign for campaign in known if campaign.id.hex().startswith(digits)]
    if not found:
        others = "`mine campaigns` lists them all" if known else "there is no campaign on this chain yet"
        raise ConfigError(f"no campaign's id begins with {shown}: {others}")
    if len(found) > 1:
        raise ConfigError(f"the ids of {len(found)} campaigns begin with {shown}: give more digits (`mine campaigns`)")
    return found[0]
