"""The error of secret keys and vaults."""

from sonar.errors import SonarError

__all__ = ["CapsuleSecretError"]


class CapsuleSecretError(SonarError):
    """A secret key or a vault cannot be made or opened."""

    exit_code = 8
