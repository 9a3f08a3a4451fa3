"""How the parts of a mine tell whoever runs it what happened."""

from collections.abc import Callable
from typing import Any

__all__ = ["Report"]

Report = Callable[[str, dict[str, Any]], None]
"""Takes what happened, as a word, and its facts."""
