"""The contract's transactions as values: what to call, with which arguments, carrying how much native coin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sonar.chain.records import NATIVE, Admission, Entry, Settlement, Terms
from sonar.units import Address, CampaignId, Cid, Digest, Wei

__all__ = [
    "Call", "EncodedCall", "accept_campaign", "close_campaign", "create_campaign", "expire_round", "settle_round",
    "submit_gradient", "top_up", "transfer_campaign", "withdraw",
]  # fmt: skip


_NOTHING = Wei(0)


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction to the contract before it is signed."""

    function: str
    arguments: tuple[Any, ...]
    value: Wei = _NOTHING


@dataclass(frozen=True, slots=True)
class EncodedCall:
    """A transaction whose data is encoded already: to Sonar's contract, or to a token's."""

    to: Address
    data: bytes
    value: Wei = _NOTHING


def create_campaign(terms: Terms, admission: Admission, signature: bytes, spec_cid: Cid, model_cid: Cid) -> Call:
    """Escrows the bounty and opens the campaign; a native bounty travels with the transaction."""
    value = terms.bounty if terms.token == NATIVE else _NOTHING
    return Call("createCampaign", (terms.to_abi(), admission.to_abi(), signature, spec_cid, model_cid), value)


def submit_gradient(
    campaign: CampaignId,
    round: int,  # noqa: A002  (the contract's word)
    artifact: Digest,
    gradient: Digest,
    cid: Cid,
    bond: Wei,
) -> Call:
    """Posts a gradient into a round: the digests of the sealed and of the unsealed bytes, and where the sealed are."""
    return Call("submitGradient", (campaign, round, artifact, gradient, cid), bond)


def settle_round(settlement: Settlement, entries: Sequence[Entry], signature: bytes) -> Call:
    """Settles a round with the oracle's signature; `entries` in the order of submission."""
    return Call("settleRound", (settlement.to_abi(), [entry.to_abi() for entry in entries], signature))


def expire_round(campaign: CampaignId, round: int, entries: Sequence[Entry]) -> Call:  # noqa: A002
    """Gives up a round whose settlement window has passed."""
    return Call("expireRound", (campaign, round, [entry.to_abi() for entry in entries]))


def top_up(campaign: CampaignId, amount: Wei, token: Address = NATIVE) -> Call:
    """Adds to a running campaign's bounty, which is in `token`; native coin travels with the transaction."""
    return Call("topUp", (campaign, amount), amount if token == NATIVE else _NOTHING)


def transfer_campaign(campaign: CampaignId, to: Address) -> Call:
    """Offers a campaign to another account; the zero address takes the offer back."""
    return Call("transferCampaign", (campaign, to))


def accept_campaign(campaign: CampaignId) -> Call:
    """Takes over a campaign that was offered to the account."""
    return Call("acceptCampaign", (campaign,))


def close_campaign(campaign: CampaignId) -> Call:
    """Ends a campaign and credits the rest of its bounty to its owner."""
    return Call("close", (campaign,))


def withdraw(to: Address, token: Address = NATIVE) -> Call:
    """Sends all that the account is owed in `token` to `to`."""
    return Call("withdraw", (token, to))
