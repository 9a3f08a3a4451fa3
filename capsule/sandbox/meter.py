"""Where a job's time goes: measured inside the process that does it, told with every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["PARTS", "Meter"]

PARTS = ("total", "decrypting", "ciphertexts", "judging")
"""What a job's time is told of: all of it, decryption, other work on ciphertexts, and scores and credit."""


@dataclass(slots=True)
class Meter:
    """Seconds by the part of `PARTS` that they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Adds the time spent within to `what`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def microseconds(self) -> dict[str, int]:
        """The same in whole microseconds."""
        return {what: round(seconds * 1e6) for what, seconds in self.seconds.items()}
