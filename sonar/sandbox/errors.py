"""Errors of processes that work apart; the tree is drawn in `sonar.sandbox`."""

from enum import StrEnum

from sonar.errors import SonarError

__all__ = ["FrameError", "JobLostError", "Loss", "ProcessError"]


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


class ProcessError(SonarError):
    """No process can be started: nobody's input is at fault."""


class JobLostError(SonarError):
    """A job ended without an answer; `loss` says how. Its process has ended, too."""

    def __init__(self, loss: Loss, message: str) -> None:
        super().__init__(message)
        self.loss = loss


class FrameError(SonarError):
    """Bytes on a pipe are not a frame, or not one that was asked for."""
