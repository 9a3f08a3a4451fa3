"""How long to leave alone what does not answer: longer each time, and never in step with others who wait for it."""

import random
import time
from collections.abc import Callable

__all__ = ["Patience"]


class Patience:
    """Waits that double from `first` to `longest` seconds, each cut by a random part of up to a half.

    Without the random part, everyone that an outage stopped would come back in the same instant.
    """

    def __init__(self, first: float, longest: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._first, self._longest, self._monotonic = first, longest, monotonic
        self._failures = 0
        self._until = float("-inf")
        self.problem = ""
        """What was told of the last failure."""

    @property
    def is_over(self) -> bool:
        """Whether it is time to try again."""
        return self._monotonic() >= self._until

    @property
    def failures(self) -> int:
        """How often it failed since it last went well."""
        return self._failures

    def fail(self, problem: str = "") -> None:
        """It failed once more."""
        wait = min(self._first * 2.0 ** min(self._failures, 32), self._longest)
        self._failures += 1
        self._until = self._monotonic() + wait * random.uniform(0.5, 1)  # noqa: S311  (no secret)
        self.problem = problem

    def succeed(self) -> None:
        """It went well: the next failure is a first one."""
        self._failures, self._until, self.problem = 0, float("-inf"), ""
