"""Errors of encrypted models; the tree is drawn in `sonar.syft`."""

from sonar.errors import SonarError

__all__ = [
    "CiphertextError", "EncodingOverflowError", "EngineError", "PublicKeyError", "SyftError", "TrainingError",
    "WireFormatError",
]  # fmt: skip


class SyftError(SonarError):
    """An operation on encrypted models cannot be done."""

    exit_code = 6


class PublicKeyError(SyftError):
    """A Paillier modulus is too small, too big, even, or not the one that was meant."""


class EncodingOverflowError(SyftError):
    """A value or a result would not fit its slot."""


class CiphertextError(SyftError):
    """Ciphertexts are not in the group, do not match each other, or decrypt to stray bits."""


class WireFormatError(SyftError):
    """Bytes are not a canonical artifact."""


class TrainingError(SyftError):
    """No training map can be made from these records or this schedule."""


class EngineError(SonarError):
    """An engine is unknown, or cannot work on this machine, or one of its processes has ended.

    No SyftError: it says nothing of the data or ciphertexts, so nobody must be judged by it.
    """

    exit_code = 6
