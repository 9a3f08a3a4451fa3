"""The contract's events as frozen values; `sonar.chain.logs` reads them."""

from dataclasses import dataclass

from sonar.chain.records import Admission, Terms, Verdict
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, Wei

__all__ = [
    "BountyRaised", "CampaignClosed", "CampaignCreated", "CampaignFinished", "CampaignTransferStarted",
    "CampaignTransferred", "Event", "GradientJudged", "GradientSubmitted", "RoundExpired", "RoundSettled", "Withdrawn",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Event:
    block: int
    log_index: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class CampaignCreated(_Event):
    """A campaign was created and its bounty escrowed."""

    id: CampaignId
    owner: Address
    oracle: Address
    terms: Terms
    admission: Admission
    spec_cid: Cid
    model_cid: Cid


@dataclass(frozen=True, slots=True)
class GradientSubmitted(_Event):
    """A gradient entered a round at position `index`."""

    id: CampaignId
    round: int
    mine: Address
    index: int
    artifact: Digest
    gradient: Digest
    cid: Cid


@dataclass(frozen=True, slots=True)
class GradientJudged(_Event):
    """One gradient of a settled round: its verdict, weight, share of the payout, credit and returned bond."""

    id: CampaignId
    round: int
    mine: Address
    index: int
    verdict: Verdict
    weight: int
    share: Ppm
    payout: Wei
    bond_returned: Wei


@dataclass(frozen=True, slots=True)
class RoundSettled(_Event):
    """A round was settled; digests are zero and CIDs empty when it did not advance the model."""

    id: CampaignId
    round: int
    score: Ppm
    exponent: int
    model: Digest
    key: KeyId
    product: Digest
    model_cid: Cid
    product_cid: Cid
    payout: Wei

    @property
    def advances(self) -> bool:
        """Whether this round made a new model version."""
        return any(self.model)


@dataclass(frozen=True, slots=True)
class RoundExpired(_Event):
    """A round was given up: bonds were credited back, the model stays."""

    id: CampaignId
    round: int


@dataclass(frozen=True, slots=True)
class BountyRaised(_Event):
    """`sender` added `amount` to the bounty, which is `bounty` since."""

    id: CampaignId
    sender: Address
    amount: Wei
    bounty: Wei


@dataclass(frozen=True, slots=True)
class CampaignTransferStarted(_Event):
    """The owner offered the campaign to `pending_owner`; the zero address: took the offer back."""

    id: CampaignId
    owner: Address
    pending_owner: Address


@dataclass(frozen=True, slots=True)
class CampaignTransferred(_Event):
    """The campaign has a new owner."""

    id: CampaignId
    previous_owner: Address
    new_owner: Address


@dataclass(frozen=True, slots=True)
class CampaignFinished(_Event):
    """A campaign reached its target or its last round."""

    id: CampaignId
    score: Ppm


@dataclass(frozen=True, slots=True)
class CampaignClosed(_Event):
    """A campaign was closed and its remainder credited to the owner."""

    id: CampaignId
    owner: Address
    refund: Wei


@dataclass(frozen=True, slots=True)
class Withdrawn(_Event):
    """`account` withdrew `amount` of `token` to `to`."""

    token: Address
    account: Address
    to: Address
    amount: Wei


Event = (
    CampaignCreated
    | GradientSubmitted
    | GradientJudged
    | RoundSettled
    | RoundExpired
    | BountyRaised
    | CampaignTransferStarted
    | CampaignTransferred
    | CampaignFinished
    | CampaignClosed
    | Withdrawn
)
