"""Where a job's time goes: measured inside the process that does it, told with every answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Meter"]


@dataclass(slots=True)
class Meter:
    """Seconds by what they were spent on; `decrypting`, `ciphertexts` (all other work on them) and `judging`."""

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
