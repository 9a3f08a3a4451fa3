"""Secrets at rest: encrypted under what a passphrase is stretched to."""

import secrets
from threading import Lock
from typing import Final, NoReturn

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from capsule.secret.errors import CapsuleSecretError

__all__ = ["Vault"]


class Vault:
    """Encrypts small secrets under a passphrase: Argon2id (RFC 9106), then XSalsa20-Poly1305.

    A sealed secret is magic || salt || nonce and box. The passphrase is stretched once per salt (about half a second
    and 256 MiB); a process seals under the salt that it used last, with a random 24-byte nonce each. Safe in threads.
    """

    _MAGIC: Final = b"sonar vault 1\n"

    __slots__ = ("_boxes", "_lock", "_passphrase", "_salt")

    def __init__(self, passphrase: str) -> None:
        if not passphrase:
            raise CapsuleSecretError("the passphrase is empty: set SONAR_CAPSULE_PASSPHRASE or give a passphrase file")
        self._passphrase = passphrase.encode()
        self._boxes: dict[bytes, SecretBox] = {}
        self._salt: bytes | None = None
        self._lock = Lock()

    def __repr__(self) -> str:
        return "Vault()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Vault is not pickled or copied: give its passphrase to another one")

    def seal(self, secret: bytes) -> bytes:
        """The secret, encrypted and authenticated."""
        salt = self._salt or secrets.token_bytes(pwhash.argon2id.SALTBYTES)
        return self._MAGIC + salt + bytes(self._box(salt).encrypt(secret))

    def open(self, sealed: bytes) -> bytes:
        """The secret in what `seal` made; raises CapsuleSecretError for a wrong passphrase or damaged bytes."""
        start, end = len(self._MAGIC), len(self._MAGIC) + pwhash.argon2id.SALTBYTES
        if not sealed.startswith(self._MAGIC) or len(sealed) < end:
            raise CapsuleSecretError(f"{len(sealed)} bytes were not sealed by a vault: restore them from a backup")
        try:
            return self._box(sealed[start:end]).decrypt(sealed[end:])
        except (CryptoError, ValueError) as error:
            raise CapsuleSecretError(
                "a sealed secret does not open: the passphrase is wrong or the bytes are damaged"
            ) from error

    def _box(self, salt: bytes) -> SecretBox:
        with self._lock:
            if salt not in self._boxes:
                self._boxes[salt] = SecretBox(
                    pwhash.argon2id.kdf(
                        SecretBox.KEY_SIZE,
                        self._passphrase,
                        salt,
                        opslimit=pwhash.argon2id.OPSLIMIT_MODERATE,
                        memlimit=pwhash.argon2id.MEMLIMIT_MODERATE,
                    )
                )
            self._salt = salt
            return self._boxes[salt]
