"""From a passphrase to keys: Argon2id (RFC 9106), with its cost and salt in a header beside what the keys open.

    header = magic || salt (16) || passes (4) || memory (8) || id (16) || first 8 bytes of SHA-256(everything before)

    stretched = Argon2id(passphrase, salt, passes, memory)       the only slow step
    id        = BLAKE2b-128(key=stretched, person="sonar master id")
    a key     = BLAKE2b-256(key=stretched, person=what it is for)

Numbers are big-endian. The sum tells damage from a wrong passphrase, which the id tells; the id also commits what is
encrypted to one passphrase, as the AEADs of libsodium alone do not.
"""

import secrets
import struct
from hashlib import blake2b, sha256
from typing import Final, NoReturn, Self

from nacl import pwhash

from capsule.secret.errors import CapsuleSecretError, WrongPassphraseError

__all__ = ["ID_BYTES", "INTERACTIVE", "LEAST", "MODERATE", "Stretched"]

MODERATE: Final = (pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)
"""3 passes over 256 MiB: about half a second, once per start."""
INTERACTIVE: Final = (pwhash.argon2id.OPSLIMIT_INTERACTIVE, pwhash.argon2id.MEMLIMIT_INTERACTIVE)
"""2 passes over 64 MiB: for tests."""
LEAST: Final = (pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN)
"""No time at all: for Capsules whose Paillier keys anyone can factor."""

ID_BYTES: Final = 16
_KEY: Final = 32
_SUM: Final = 8
_COST: Final = struct.Struct(">IQ")
_MOST_PASSES: Final = 64
_MOST_BYTES: Final = 4 << 30


class Stretched:
    """A stretched passphrase and its header. It never shows in a repr and cannot be pickled or copied."""

    __slots__ = ("_stretched", "header", "id")

    def __init__(self, passphrase: str, salt: bytes, cost: tuple[int, int], *, magic: bytes) -> None:
        """Stretches the passphrase by a cost of (passes, bytes of memory).

        Raises CapsuleSecretError for an empty passphrase, and for a cost beyond 64 passes or 4 GiB: a header's numbers
        are used before anything is authenticated, and must not let whoever edits one keep the machine busy.
        """
        passes, memory = cost
        fewest, least = pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN
        if not (fewest <= passes <= _MOST_PASSES and least <= memory <= _MOST_BYTES):
            raise CapsuleSecretError(
                f"a passphrase is not stretched by {passes} passes over {memory} bytes: the header was edited"
            )
        words = _encode(passphrase)
        self._stretched = pwhash.argon2id.kdf(_KEY, words, salt, opslimit=passes, memlimit=memory)
        self.id = blake2b(key=self._stretched, person=b"sonar master id", digest_size=ID_BYTES).digest()
        start = magic + salt + _COST.pack(passes, memory) + self.id
        self.header = start + sha256(start).digest()[:_SUM]

    @classmethod
    def create(cls, passphrase: str, cost: tuple[int, int], *, magic: bytes) -> Self:
        """A new salt, so that nothing in common shows with another header of the same passphrase."""
        return cls(passphrase, secrets.token_bytes(pwhash.argon2id.SALTBYTES), cost, magic=magic)

    @classmethod
    def of(cls, passphrase: str, header: bytes, *, magic: bytes, what: str) -> Self:
        """What the passphrase opens of `what`.

        Raises WrongPassphraseError, and CapsuleSecretError for a damaged header.
        """
        salt, cost = len(magic), len(magic) + pwhash.argon2id.SALTBYTES
        whole = header.startswith(magic) and len(header) == cls.size(magic)
        if not whole or sha256(header[:-_SUM]).digest()[:_SUM] != header[-_SUM:]:
            raise CapsuleSecretError(f"the header of {what} is damaged: restore it from a backup")
        made = cls(passphrase, header[salt:cost], _COST.unpack_from(header, cost), magic=magic)
        if not secrets.compare_digest(made.header, header):
            raise WrongPassphraseError(f"the passphrase does not open {what}: give the one that it was made with")
        return made

    @staticmethod
    def size(magic: bytes) -> int:
        """How many bytes a header has."""
        return len(magic) + pwhash.argon2id.SALTBYTES + _COST.size + ID_BYTES + _SUM

    def __repr__(self) -> str:
        return f"Stretched(id={self.id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stretched passphrase is not pickled or copied: stretch it again")

    def key(self, person: bytes) -> bytes:
        """32 bytes for one purpose, named in at most 16 bytes."""
        return blake2b(key=self._stretched, person=person, digest_size=_KEY).digest()


def _encode(passphrase: str) -> bytes:
    if not passphrase:
        raise CapsuleSecretError("the passphrase is empty: set SONAR_CAPSULE_PASSPHRASE or give a passphrase file")
    try:
        return passphrase.encode()
    except UnicodeEncodeError:
        # `from None`: the cause holds the passphrase.
        raise CapsuleSecretError("the passphrase is not UTF-8 text: choose another one") from None
