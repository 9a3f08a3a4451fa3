"""All that holds secrets: Paillier secret keys, decryption, and their encryption at rest. Only the Capsule imports it.

CapsuleSecretError       a secret key, vault or backup that cannot be made or opened
`-- WrongPassphraseError it is whole, and needs another passphrase
"""

from capsule.secret.errors import CapsuleSecretError, WrongPassphraseError
from capsule.secret.hardening import harden
from capsule.secret.keys import SecretKey, decrypt, generate_key
from capsule.secret.vault import Record, Vault

__all__ = [
    "CapsuleSecretError", "Record", "SecretKey", "Vault", "WrongPassphraseError", "decrypt", "generate_key", "harden",
]  # fmt: skip
