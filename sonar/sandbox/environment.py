"""What processes that work apart get of the environment: what Python needs, and nothing that is secret."""

import os
from typing import Final

__all__ = ["inherited_environment"]

_INHERITED: Final = (
    "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "SYSTEMROOT", "SONAR_ENGINE",
)  # fmt: skip
"""No passphrase, no token, no database's URL."""


def inherited_environment() -> dict[str, str]:
    """The variables of this process that its children get, by name."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}
