"""What `sonar` does on chain for an account: top a campaign up, offer it to another, accept it; read a committee."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.committee import Committee, read_committee
from sonar.chain.events import BountyRaised
from sonar.chain.records import LARGEST_AMOUNT, NATIVE
from sonar.chain.token import ensure_allowance
from sonar.errors import ConfigError
from sonar.units import Address, CampaignId, Wei, address_of, ether, format_ether

__all__ = ["NOBODY", "accept", "committee_at", "top_up", "transfer"]

NOBODY = "nobody"
"""The word for a receiver that takes an offer back."""


def top_up(client: SonarClient, campaign: CampaignId, amount: str, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Adds to a campaign's bounty: ether, or whole units of the token that it pays in.

    The contract is allowed to take exactly that of a token. `say` is told what is added before anything is sent. Raises
    ConfigError for another amount, and ChainError.
    """
    token = client.campaign(campaign).terms.token
    native = token == NATIVE
    added = ether(amount) if native else _units(amount, token)
    unit = "wei" if native else f"smallest units of token {token}"
    if added == 0:
        raise ConfigError("the amount is zero: add something")
    if added > LARGEST_AMOUNT:
        given = f"{amount} ether" if native else amount
        raise ConfigError(f"{given} is above 2^128 - 1 {unit}, the most that the contract takes: add less")
    shown = f" ({format_ether(added)} ether)" if native else ""
    say(f"adding {added} {unit}{shown} to campaign 0x{campaign.hex()}")
    ensure_allowance(client, token, added)
    receipt = client.transact(calls.top_up(campaign, added, token))
    bounty = next(event.bounty for event in receipt.events if isinstance(event, BountyRaised))
    return {
        "campaign": "0x" + campaign.hex(),
        "token": None if native else token,
        "added_wei": added,
        "bounty_wei": bounty,
        "transaction": "0x" + receipt.hash.hex(),
    }


def transfer(client: SonarClient, campaign: CampaignId, to: str) -> dict[str, Any]:
    """Offers a campaign to an address, or to nobody; raises ConfigError for what is neither, and ChainError."""
    receiver = NATIVE if to == NOBODY else address_of(to, besides=f", or {NOBODY}")
    receipt = client.transact(calls.transfer_campaign(campaign, receiver))
    return {
        "campaign": "0x" + campaign.hex(),
        "pending_owner": None if receiver == NATIVE else receiver,
        "transaction": "0x" + receipt.hash.hex(),
    }


def accept(client: SonarClient, campaign: CampaignId) -> dict[str, Any]:
    """Makes the client's account the owner of a campaign that was offered to it; raises ChainError."""
    receipt = client.transact(calls.accept_campaign(campaign))
    return {
        "campaign": "0x" + campaign.hex(),
        "owner": client.campaign(campaign).owner,
        "transaction": "0x" + receipt.hash.hex(),
    }


def committee_at(client: SonarClient, address: str) -> Committee:
    """The committee at an address; raises ConfigError for what is none, and ChainError."""
    return read_committee(client.web3, address_of(address))


def _units(text: str, token: Address) -> Wei:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{text!r} is not a whole number: the bounty is in the smallest unit of token {token}")
    return Wei(int(Decimal(text)))  # int() alone refuses very long text
