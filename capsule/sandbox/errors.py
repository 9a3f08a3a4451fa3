"""Errors of the judge processes; the tree is drawn in `capsule.sandbox`."""

from enum import StrEnum

from capsule.errors import CapsuleError, CapsuleUnavailableError

__all__ = ["FrameError", "JobLostError", "Loss", "SandboxError"]


class Loss(StrEnum):
    """Why a job has no answer."""

    TIME = "time"
    """It ran past its limit and was killed."""
    MEMORY = "memory"
    """It wanted more memory than its process may have."""
    CRASH = "crash"
    """Its process ended, by a signal or by itself."""
    FAILURE = "failure"
    """It raised what no input may make it raise: a mistake of ours."""
    LIE = "lie"
    """Its answer was not one that such a job can have."""


class SandboxError(CapsuleUnavailableError):
    """No judge process can be started, or all were stopped: nobody's artifacts are at fault."""


class JobLostError(CapsuleError):
    """A job ended without an answer; `loss` says how. Its process was replaced."""

    def __init__(self, loss: Loss, message: str) -> None:
        super().__init__(message)
        self.loss = loss


class FrameError(CapsuleError):
    """Bytes on a pipe are not a frame, or not one that was asked for."""
