"""What the rules look at: everything about one campaign, one data set and this mine at one moment, without a chain."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from mine.policy.approval import Approval
from mine.strategy import OwnRound
from sonar.chain.records import CampaignRecord
from sonar.protocol.spec import Spec
from sonar.units import Address, Wei

__all__ = ["Facts", "Offered", "PastCampaign"]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a rule may know of a data set: its name, how many records it has, and of each class; none for numbers.

    `spent` is what was told of its records, in zCDP; `served` whether what the campaign needs was released before,
    of a network's round whether it is paid for.
    """

    name: str
    records: int
    classes: tuple[tuple[str, int], ...] = ()
    spent: Fraction = Fraction(0)
    served: bool = False


@dataclass(frozen=True, slots=True)
class PastCampaign:
    """What an ended campaign had promised for reaching its target, and what it paid, in the same coin."""

    promised: Wei
    paid: Wei


@dataclass(frozen=True, slots=True)
class Facts:
    """One campaign as `record`, `spec` and its present `round` say, and what this mine knows and holds.

    `creator` is who had it admitted; `past` are ended campaigns of the present owner in the same coin in which rounds
    were judged; `own` are this mine's rounds in it, the latest first. `submitted` counts gradients that were posted or
    are about to be: in this campaign, and in all since midnight. `at_stake` are bonds of gradients not judged yet.
    `present` is how many gradients the present round holds, `before` how many the one before had, `chain_id` which
    chain it is on. `gas_price` is what a unit of gas costs now, `highest_fee` what a transaction offers at most.
    `training_seconds` is an estimate. `offered` is the data set that would be trained on, None where none fits.
    """

    mine: Address
    record: CampaignRecord
    spec: Spec
    creator: Address
    network_capsule: str | None
    round: int
    settled: int
    past: tuple[PastCampaign, ...]
    own: tuple[OwnRound, ...]
    submitted: int
    submitted_today: int
    at_stake: Wei
    balance: Wei
    gas_price: Wei
    highest_fee: Wei
    approval: Approval | None
    training_seconds: float
    now: datetime
    offered: Offered | None = None
    unfit: str = ""
    """Why no data set fits."""
    present: int = 0
    before: int = 0
    chain_id: int = 0
