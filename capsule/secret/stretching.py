"""From a passphrase to a key: Argon2id (RFC 9106), with its cost and salt written beside what the key opens."""

import secrets
import struct
from dataclasses import dataclass
from typing import Final

from nacl import pwhash

from capsule.secret.errors import CapsuleSecretError

__all__ = ["INTERACTIVE", "MODERATE", "Stretching"]

_FORMAT: Final = struct.Struct(">16sIQ")
_MOST_PASSES: Final = 64
_MOST_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Stretching:
    """How one passphrase is stretched: a salt of 16 bytes, `passes` over `memory` bytes.

    Raises CapsuleSecretError beyond 64 passes or 4 GiB: these numbers are read before anything is authenticated, and
    must not let whoever edits a file keep the machine busy.
    """

    salt: bytes
    passes: int
    memory: int

    SIZE = _FORMAT.size

    def __post_init__(self) -> None:
        fewest, least = pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN
        if not (fewest <= self.passes <= _MOST_PASSES and least <= self.memory <= _MOST_BYTES):
            raise CapsuleSecretError(
                f"a passphrase is not stretched by {self.passes} passes over {self.memory} bytes: "
                "the header is damaged, restore it from a backup"
            )

    @classmethod
    def fresh(cls, cost: tuple[int, int]) -> "Stretching":
        """A new salt, with a cost as (passes, bytes of memory)."""
        return cls(secrets.token_bytes(pwhash.argon2id.SALTBYTES), *cost)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Stretching":
        """What `to_bytes` wrote: 28 bytes."""
        return cls(*_FORMAT.unpack(data))

    def to_bytes(self) -> bytes:
        """Salt, passes as 4 and memory as 8 big-endian bytes."""
        return _FORMAT.pack(self.salt, self.passes, self.memory)

    def key(self, passphrase: str) -> bytes:
        """32 bytes; takes as long as the cost says. Raises CapsuleSecretError for an empty passphrase."""
        if not passphrase:
            raise CapsuleSecretError("the passphrase is empty: set SONAR_CAPSULE_PASSPHRASE or give a passphrase file")
        try:
            words = passphrase.encode()
        except UnicodeEncodeError:
            # `from None`: the cause holds the passphrase.
            raise CapsuleSecretError("the passphrase is not UTF-8 text: choose another one") from None
        return pwhash.argon2id.kdf(32, words, self.salt, opslimit=self.passes, memlimit=self.memory)


MODERATE: Final = (pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)
"""3 passes over 256 MiB: about half a second, once per start."""

INTERACTIVE: Final = (pwhash.argon2id.OPSLIMIT_INTERACTIVE, pwhash.argon2id.MEMLIMIT_INTERACTIVE)
"""2 passes over 64 MiB: for tests."""
