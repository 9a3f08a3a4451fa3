"""Errors of the Capsule and of those who ask it.

CapsuleError
|-- CapsuleUnavailableError  it cannot be reached, or is too busy: try again later
|   `-- CapsuleDatabaseError the Capsule's own database does not answer
|-- CapsuleReplyError        it answered something that the protocol does not know
|-- CapsuleRefusedError      it refused the request; `code` says why, for programs
|-- CapsuleHomeError         the Capsule's own directory, database or passphrase cannot be used
`-- AuditLogError            the audit log was changed; `sequence` is the first entry that does not hold

`capsule.secret` has its own: CapsuleSecretError, for keys and vaults that cannot be made or opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sonar.errors import SonarError

__all__ = [
    "AuditLogError", "CapsuleDatabaseError", "CapsuleError", "CapsuleHomeError", "CapsuleRefusedError",
    "CapsuleReplyError", "CapsuleUnavailableError", "refusing",
]  # fmt: skip


class CapsuleError(SonarError):
    """The Capsule refused, cannot be reached, or cannot run."""

    exit_code = 8


class CapsuleUnavailableError(CapsuleError):
    """The Capsule cannot be reached or is too busy; the same request may succeed later."""


class CapsuleDatabaseError(CapsuleUnavailableError):
    """The Capsule's own database does not answer. The message says where it is, which strangers need not know."""


class CapsuleReplyError(CapsuleError):
    """The Capsule's answer is not one that the protocol knows."""


class CapsuleRefusedError(CapsuleError):
    """The Capsule refused the request. `code` is stable and meant for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CapsuleHomeError(CapsuleError):
    """The Capsule's own directory, database or passphrase cannot be used."""


class AuditLogError(CapsuleError):
    """The audit log is not the one that the Capsule wrote; `sequence` is the first entry that does not hold."""

    def __init__(self, sequence: int, message: str) -> None:
        super().__init__(f"entry {sequence}: {message}")
        self.sequence = sequence


@contextmanager
def refusing(code: str, *kinds: type[SonarError]) -> Iterator[None]:
    """Turns the given errors into a refusal with this code."""
    try:
        yield
    except kinds as error:
        raise CapsuleRefusedError(code, str(error)) from error
