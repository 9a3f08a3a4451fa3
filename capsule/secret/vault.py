"""Secrets at rest: each under a data key of its own, all data keys under one master key, that under a passphrase.

A database keeps one header and many records. All numbers are big-endian, `||` joins bytes, AEAD is libsodium's
XChaCha20-Poly1305-IETF with a random nonce of 24 bytes.

    header = that of `capsule.secret.stretching`, with the magic "sonar vault 2\\n"
    record = "sonar record 2\\n" || master id (16)
             || nonce || AEAD(wrapping key, data key, "sonar data key" || master id)
             || nonce || AEAD(data key, secret, len(purpose) as 1 byte || purpose || subject)

    wrapping key = the header's key for "sonar wrapping"
    master id    = the header's id

Purpose and subject bind a record to its place: what was sealed for one campaign does not open for
another. A rotation wraps the data keys again and leaves what they encrypt alone.
"""

import secrets
from enum import StrEnum
from typing import Final, NoReturn

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from capsule.secret.errors import CapsuleSecretError
from capsule.secret.stretching import ID_BYTES, MODERATE, Stretched

__all__ = ["Record", "Vault"]

_HEADER: Final = b"sonar vault 2\n"
_RECORD: Final = b"sonar record 2\n"
_OLD: Final = b"sonar vault 1\n"
_DATA_KEY: Final = b"sonar data key"
_ID: Final = ID_BYTES
_KEY, _NONCE, _TAG = 32, 24, 16
_WRAPPED: Final = _NONCE + _KEY + _TAG


class Record(StrEnum):
    """What a sealed record is, and what its subject is."""

    PAILLIER_KEY = "paillier-key"
    """A secret key; `capsule.keypool.key_subject`: its fingerprint, since when it is, and what it is taken for."""
    SEALING_KEY = "sealing-key"
    """The Capsule's X25519 secret; nothing, since there is one."""
    VALIDATION = "validation"
    """A campaign's validation set; the campaign."""
    WEIGHTS = "weights"
    """A model version's weights; `capsule.weights`: the campaign, and the version's score, key and model."""
    AUDIT_KEY = "audit-key"
    """The key that authenticates the audit log's head; nothing, since there is one."""


class Vault:
    """Seals and opens records under one master key. It never shows in a repr and cannot be pickled or copied.

    Safe in threads. Python cannot wipe memory: who reads this process's memory has the master key.
    """

    __slots__ = ("_wrapping", "header", "master_id")

    def __init__(self, passphrase: str, header: bytes) -> None:
        """The vault whose header this is; raises CapsuleSecretError for a wrong passphrase and for damaged bytes."""
        if header.startswith(_OLD):
            raise CapsuleSecretError(
                "this Capsule was made by an early version whose vault is not read any more: make a new one"
            )
        self._take(Stretched.of(passphrase, header, magic=_HEADER, what="this Capsule"))

    @classmethod
    def create(cls, passphrase: str, *, cost: tuple[int, int] = MODERATE) -> "Vault":
        """A vault with a new master key; `header` must be stored, or nothing that it seals opens again."""
        vault = cls.__new__(cls)
        vault._take(Stretched.create(passphrase, cost, magic=_HEADER))
        return vault

    def _take(self, stretched: Stretched) -> None:
        self.header, self.master_id = stretched.header, stretched.id
        self._wrapping = stretched.key(b"sonar wrapping")

    def __repr__(self) -> str:
        return f"Vault(master_id={self.master_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Vault is not pickled or copied: open another one with the passphrase")

    def seal(self, secret: bytes, purpose: Record, subject: bytes = b"") -> bytes:
        """The secret, encrypted and authenticated, for this purpose and subject alone."""
        key = secrets.token_bytes(_KEY)
        return self._wrap(key) + _encrypt(key, secret, _place(purpose, subject))

    def open(self, sealed: bytes, purpose: Record, subject: bytes = b"") -> bytes:
        """The secret in what `seal` made for the same purpose and subject; raises CapsuleSecretError otherwise."""
        key = self._unwrap(sealed)
        try:
            return _decrypt(key, sealed[len(_RECORD) + _ID + _WRAPPED :], _place(purpose, subject))
        except (CryptoError, ValueError):
            raise CapsuleSecretError(
                f"a sealed {purpose} does not open: its bytes are damaged or another record's; restore a backup"
            ) from None

    def rewrap(self, sealed: bytes, under: "Vault") -> bytes:
        """The same record under another vault's master key; the secret itself is not opened."""
        return under._wrap(self._unwrap(sealed)) + sealed[len(_RECORD) + _ID + _WRAPPED :]

    def _wrap(self, key: bytes) -> bytes:
        return _RECORD + self.master_id + _encrypt(self._wrapping, key, _DATA_KEY + self.master_id)

    def _unwrap(self, sealed: bytes) -> bytes:
        start = len(_RECORD) + _ID
        if not sealed.startswith(_RECORD) or len(sealed) < start + _WRAPPED:
            raise CapsuleSecretError(f"{len(sealed)} bytes were not sealed by a vault: restore them from a backup")
        if sealed[len(_RECORD) : start] != self.master_id:
            raise CapsuleSecretError(
                f"a record is sealed under master key {sealed[len(_RECORD) : start].hex()}, "
                f"not {self.master_id.hex()}: it is damaged or another database's, restore a backup"
            )
        try:
            return _decrypt(self._wrapping, sealed[start : start + _WRAPPED], _DATA_KEY + self.master_id)
        except (CryptoError, ValueError):
            raise CapsuleSecretError("a record's data key does not open: it is damaged, restore a backup") from None


def _place(purpose: Record, subject: bytes) -> bytes:
    name = purpose.encode()
    return bytes([len(name)]) + name + subject


def _encrypt(key: bytes, message: bytes, associated: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(message, associated, nonce, key)


def _decrypt(key: bytes, box: bytes, associated: bytes) -> bytes:
    if len(box) < _NONCE + _TAG:
        raise ValueError("shorter than its nonce and tag")
    return crypto_aead_xchacha20poly1305_ietf_decrypt(box[_NONCE:], associated, box[:_NONCE], key)
