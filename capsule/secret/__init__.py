"""All that holds secrets: Paillier secret keys, decryption, and their encryption at rest. Only the Capsule imports it.

CapsuleSecretError   a secret key, vault or backup that cannot be made or opened
"""

from capsule.secret.errors import CapsuleSecretError
from capsule.secret.hardening import harden
from capsule.secret.keys import SecretKey, decrypt, generate_key
from capsule.secret.vault import Record, Vault

__all__ = ["CapsuleSecretError", "Record", "SecretKey", "Vault", "decrypt", "generate_key", "harden"]
