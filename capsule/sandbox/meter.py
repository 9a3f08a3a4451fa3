"""Where a job's processor time goes: measured inside the process that does it, told with every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sonar.sandbox import FrameError

__all__ = ["PARTS", "Meter", "read_spent"]

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


def read_spent(told: Any, most: float) -> dict[str, int]:
    """What a judge process tells that it spent, in microseconds by part, each at most `most` seconds.

    Raises FrameError for anything else: these numbers are added up, and their names kept, for as long as the Capsule
    runs.
    """
    if not isinstance(told, dict) or not told.keys() <= set(PARTS):
        raise FrameError("its times are not of the parts of a job")
    if not all(type(time_) is int and 0 <= time_ <= most * 1e6 for time_ in told.values()):
        raise FrameError("its times are no numbers, or longer than it had")
    return told
