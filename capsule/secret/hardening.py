"""The Capsule's passphrase as it comes in the environment, and what a process that holds it asks of the system."""

import os
from typing import Final

from sonar.hardening import harden

__all__ = ["PASSPHRASE_VARIABLE", "harden", "take_passphrase"]

PASSPHRASE_VARIABLE: Final = "SONAR_CAPSULE_PASSPHRASE"  # noqa: S105  (a name)


def take_passphrase(variable: str = PASSPHRASE_VARIABLE) -> str | None:
    """The passphrase in the environment, which is taken out of it, so that no child process inherits it."""
    return os.environ.pop(variable, None)
