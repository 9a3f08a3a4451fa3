"""Telling a caller how far a long operation is, and giving it the chance to stop it by raising."""

import time
from collections.abc import Callable, Iterator

from sonar.syft.engines import Progress

__all__ = ["paced", "slices", "span"]

_SLICE = 256
"""Elements that are worked on between two calls: a tenth of a second to a second with gmpy2."""


def span(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The progress of a part that takes the whole from `start` to `stop`."""
    return None if progress is None else lambda done: progress(start + (stop - start) * done)


def slices(count: int, progress: Progress | None, size: int = _SLICE) -> Iterator[slice]:
    """Slices that cover `count` elements, telling what is done after each; all at once where nobody wants to know."""
    if progress is None:
        yield slice(0, count)
        return
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
        progress(min(start + size, count) / count)


def paced(tell: Progress, seconds: float, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A progress that passes on at most one call in so many seconds, and none in the first: for logs."""
    last = clock()

    def progress(done: float) -> None:
        nonlocal last
        now = clock()
        if now - last >= seconds and done < 1:
            last = now
            tell(done)

    return progress
