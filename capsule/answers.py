"""What a Capsule answers, as values: the same for its service and for its clients."""

from dataclasses import dataclass

from sonar.chain.records import Admission, Settlement
from sonar.storage.base import Artifact
from sonar.units import Address, KeyId, Ppm

__all__ = ["CapsuleInfo", "KeyGrant", "RoundReport", "SignedAdmission"]


@dataclass(frozen=True, slots=True)
class CapsuleInfo:
    """Who a Capsule is: its attesting account, the X25519 key to seal to, the chain it works for."""

    address: Address
    sealing_key: bytes
    chain_id: int
    contract: Address
    key_bits: int
    version: str


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """A Paillier public key (its modulus) that was made for the asking account, good for one admission."""

    n: int
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class SignedAdmission:
    """An admission with the Capsule's 65-byte signature."""

    admission: Admission
    signature: bytes


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A signed settlement; per gradient the judge's sentence and, once final, where a kept one was published.

    `seed_block` is the block whose hash, after the round's head, seeds the orders of a large round; `sampling_error`
    the standard error that they leave in the values which the shares were split by, in ppm of score.
    """

    settlement: Settlement
    signature: bytes
    reasons: tuple[str, ...]
    published: tuple[Artifact | None, ...]
    seed_block: int
    sampling_error: Ppm
