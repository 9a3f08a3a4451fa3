"""The contract's structs as frozen Python values, field for field and in the order of `ISonar.sol`.

`to_abi()` gives the tuple that web3 encodes; `to_message()` the dictionary that EIP-712 signs.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, Wei, round_ether

__all__ = [
    "LARGEST_AMOUNT", "NATIVE", "Admission", "CampaignRecord", "Entry", "Outcome", "PayoutBase", "RoundRecord",
    "Settlement", "Status", "Terms", "Verdict", "show_amount",
]  # fmt: skip

NATIVE = Address("0x0000000000000000000000000000000000000000")
"""The token address that stands for the chain's native coin."""
LARGEST_AMOUNT = Wei(2**128 - 1)
"""The most that the contract takes as a bounty, and as what is added to one."""


def show_amount(amount: int, token: Address) -> str:
    """An amount for people: rounded ether, or the smallest unit of a token, whose decimals are its own to say."""
    return f"{round_ether(amount)} ether" if token == NATIVE else f"{amount} of token {token}"


class PayoutBase(IntEnum):
    """Which denominator turns a rise of the score into a part of the bounty."""

    TARGET = 0
    GAIN = 1


class Status(IntEnum):
    """The life of a campaign on chain."""

    NONE = 0
    RUNNING = 1
    FINISHED = 2
    CLOSED = 3


class Verdict(IntEnum):
    """The judge's word on one gradient."""

    LEFT_OUT = 0
    KEPT = 1
    UNAVAILABLE = 2
    INVALID = 3
    COPY = 4


class _AbiRecord:
    """A dataclass that mirrors a Solidity struct field by field."""

    __slots__ = ()

    def to_abi(self) -> tuple[Any, ...]:
        """The fields in the contract's order."""
        return tuple(_abi(getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]


def _abi(value: Any) -> Any:
    if isinstance(value, _AbiRecord):
        return value.to_abi()
    if isinstance(value, tuple):
        return [_abi(item) for item in value]
    return int(value) if isinstance(value, IntEnum) else value


@dataclass(frozen=True, slots=True)
class Terms(_AbiRecord):
    """What a campaign promises; only its bounty can still rise. Amounts in wei, times and durations in s, else ppm."""

    token: Address
    bounty: Wei
    bond: Wei
    slash: Ppm
    target: Ppm
    payout_base: PayoutBase
    min_gain: Ppm
    min_mines: int
    round_size: int
    max_rounds: int
    round_seconds: int
    settlement_seconds: int
    deadline: int

    def show(self, amount: int) -> str:
        """An amount of the bounty's coin for people, see `show_amount`."""
        return show_amount(amount, self.token)


@dataclass(frozen=True, slots=True)
class Admission(_AbiRecord):
    """The Capsule's statement that it admitted a start model; its EIP-712 digest is the campaign's id."""

    spec: Digest
    model: Digest
    key: KeyId
    sealing_key: bytes
    start_score: Ppm
    oracle: Address
    owner: Address
    valid_until: int

    def to_message(self) -> dict[str, Any]:
        """The EIP-712 message, with the contract's field names."""
        return {
            "spec": self.spec,
            "model": self.model,
            "key": self.key,
            "sealingKey": self.sealing_key,
            "startScore": self.start_score,
            "oracle": self.oracle,
            "owner": self.owner,
            "validUntil": self.valid_until,
        }


@dataclass(frozen=True, slots=True)
class Entry(_AbiRecord):
    """One gradient of a round as it entered the hash chain."""

    mine: Address
    artifact: Digest
    gradient: Digest


@dataclass(frozen=True, slots=True)
class Outcome(_AbiRecord):
    """The judge's result for one gradient."""

    verdict: Verdict
    weight: int
    share: Ppm


@dataclass(frozen=True, slots=True)
class Settlement(_AbiRecord):
    """The Capsule's result of one round; digests are 32 zero bytes and CIDs empty when the round does not advance."""

    campaign: CampaignId
    round: int
    head: bytes
    score: Ppm
    exponent: int
    model: Digest
    key: KeyId
    product: Digest
    model_cid: Cid
    product_cid: Cid
    outcomes: tuple[Outcome, ...]

    @property
    def advances(self) -> bool:
        """Whether this settlement makes a new model version."""
        return any(self.model)

    def to_message(self) -> dict[str, Any]:
        """The EIP-712 message, with the contract's field names."""
        return {
            "campaign": self.campaign,
            "round": self.round,
            "head": self.head,
            "score": self.score,
            "exponent": self.exponent,
            "model": self.model,
            "key": self.key,
            "product": self.product,
            "modelCid": self.model_cid,
            "productCid": self.product_cid,
            "outcomes": [{"verdict": int(o.verdict), "weight": o.weight, "share": o.share} for o in self.outcomes],
        }


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """What the contract knows of a campaign."""

    id: CampaignId
    owner: Address
    oracle: Address
    status: Status
    terms: Terms
    start_score: Ppm
    score: Ppm
    base: Ppm
    version: int
    paid: Wei


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A campaign's present round; times are 0 while it is empty."""

    number: int
    settled: int
    count: int
    head: bytes
    opened_at: int
    closes_at: int
    expires_at: int
    open: bool
