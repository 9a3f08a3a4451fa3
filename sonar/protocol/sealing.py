"""Sealed boxes (libsodium `crypto_box_seal`: X25519, XSalsa20-Poly1305) that say what they were made for.

A sealed box has no associated data and no sender, so anyone can copy one. The first field of every sealed plaintext is
therefore its context: purpose, chain, contract, account and subject. Whoever opens a box compares that context with the
transaction or signature that it came with, and a copied box is worth nothing.

    plaintext = len(context) as 4 big-endian bytes || context as canonical JSON || payload
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NoReturn

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from sonar import canonical
from sonar.protocol.errors import SealedBoxError
from sonar.units import Address

__all__ = ["OVERHEAD", "BoxContext", "Purpose", "SealingKeyPair", "open_box", "open_box_for", "seal"]

_MAX_CONTEXT = 1024
OVERHEAD = 48 + 4 + _MAX_CONTEXT
"""The most bytes by which a sealed artifact is longer than its payload."""


class Purpose(StrEnum):
    """What a sealed box carries."""

    VALIDATION = "validation"
    GRADIENT = "gradient"
    DELIVERY = "delivery"
    WEIGHTS = "weights"
    ATTRIBUTION = "attribution"
    PARTS = "parts"


@dataclass(frozen=True, slots=True)
class BoxContext:
    """What a box was made for.

    `subject` is the key's fingerprint in hex for a validation set, else the campaign's id in hex; `round` is the round
    of a gradient, 0 for a validation set, else the model version. `account` is who made the box, and of what a Capsule
    gives who may open it.
    """

    purpose: Purpose
    chain_id: int
    contract: Address
    account: Address
    subject: str
    round: int = 0


class SealingKeyPair:
    """An X25519 key pair for which boxes are sealed; the secret half never shows in a repr."""

    __slots__ = ("_private",)

    def __init__(self, secret: bytes) -> None:
        self._private = PrivateKey(secret)

    @classmethod
    def generate(cls) -> "SealingKeyPair":
        """A new pair from the operating system's randomness."""
        return cls(bytes(PrivateKey.generate()))

    @property
    def public(self) -> bytes:
        """The 32-byte public key, to which others seal."""
        return bytes(self._private.public_key)

    def secret_bytes(self) -> bytes:
        """The 32-byte secret key, for encrypted storage only."""
        return bytes(self._private)

    def __repr__(self) -> str:
        return f"SealingKeyPair(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SealingKeyPair is not pickled or copied: store its secret_bytes() encrypted")


def seal(payload: bytes, context: BoxContext, sealing_key: bytes) -> bytes:
    """The payload under its context, readable only by the owner of `sealing_key` (32 bytes, X25519)."""
    head = canonical.dumps(asdict(context))
    return SealedBox(PublicKey(sealing_key)).encrypt(len(head).to_bytes(4, "big") + head + payload)


def open_box(box: bytes, pair: SealingKeyPair) -> tuple[BoxContext, bytes]:
    """The context and payload of a box; the caller must compare the context. Raises SealedBoxError, nothing else."""
    try:
        plaintext = SealedBox(pair._private).decrypt(box)
    except (CryptoError, ValueError, TypeError) as error:
        raise SealedBoxError(
            f"a box of {len(box)} bytes does not open: it was sealed to another key or damaged"
        ) from error
    size = int.from_bytes(plaintext[:4], "big")
    if len(plaintext) < 4 or size > _MAX_CONTEXT or len(plaintext) < 4 + size:
        raise SealedBoxError(f"a box's context claims {size} bytes of {len(plaintext)}: it was not made by Sonar")
    try:
        context = _context(canonical.loads(plaintext[4 : 4 + size]))
    except ValueError as error:
        raise SealedBoxError(f"a box's context cannot be read: {error}") from error
    return context, plaintext[4 + size :]


def open_box_for(box: bytes, pair: SealingKeyPair, expected: BoxContext) -> bytes:
    """The payload of a box that was made for exactly `expected`; raises SealedBoxError otherwise."""
    context, payload = open_box(box, pair)
    if context != expected:
        raise SealedBoxError(
            f"a sealed box was made for {context}, but came with {expected}: a copied box is worth nothing"
        )
    return payload


def _context(fields: Any) -> BoxContext:
    shape = {"purpose": str, "chain_id": int, "contract": str, "account": str, "subject": str, "round": int}
    if not isinstance(fields, dict) or fields.keys() != shape.keys():
        raise ValueError("its fields are not those of a context")
    if any(type(fields[name]) is not kind for name, kind in shape.items()):
        raise ValueError("a field has the wrong type")
    return BoxContext(**{**fields, "purpose": Purpose(fields["purpose"])})
