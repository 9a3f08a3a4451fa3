"""Errors of what actors say to each other; the tree is drawn in `sonar.protocol`."""

from sonar.errors import SonarError

__all__ = ["ProtocolError", "SealedBoxError", "SignatureError", "SpecError"]


class ProtocolError(SonarError):
    """A message between actors breaks the protocol."""

    exit_code = 7


class SpecError(ProtocolError):
    """A campaign spec breaks its schema or contradicts itself."""


class SignatureError(ProtocolError):
    """A signature is malformed, expired or another account's."""


class SealedBoxError(ProtocolError):
    """A sealed box does not open, or was made for something else."""
