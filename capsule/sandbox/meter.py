"""Where a job's processor time goes: measured inside the process that does it, told with every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["PARTS", "Meter"]

PARTS = ("total", "decrypting", "ciphertexts", "judging")
"""What a job's processor time is told of: all of it, decryption, other work on ciphertexts, and scores and credit."""


@dataclass(slots=True)
class Meter:
    """Seconds of processor time by the part of `PARTS` that they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Adds the time spent within to `what`."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.process_time() - start

    def microseconds(self) -> dict[str, int]:
        """The same in whole microseconds."""
        return {what: round(seconds * 1e6) for what, seconds in self.seconds.items()}
