"""Errors of the judge processes; the tree is drawn in `capsule.sandbox`."""

from capsule.errors import CapsuleError, CapsuleUnavailableError
from sonar import sandbox

__all__ = ["JobLostError", "SandboxError"]


class SandboxError(sandbox.ProcessError, CapsuleUnavailableError):
    """No judge process can be started, or all were stopped: nobody's artifacts are at fault."""


class JobLostError(sandbox.JobLostError, CapsuleError):
    """A job ended without an answer; `loss` says how. Its process was replaced."""
