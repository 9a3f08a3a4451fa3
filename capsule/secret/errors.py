"""The error of secret keys and vaults."""

from sonar.errors import SonarError

__all__ = ["CapsuleSecretError", "WrongPassphraseError"]


class CapsuleSecretError(SonarError):
    """A secret key or a vault cannot be made or opened."""

    exit_code = 8


class WrongPassphraseError(CapsuleSecretError):
    """What is sealed is whole, and the passphrase is not the one that it was sealed with."""
