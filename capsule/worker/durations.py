"""How long what is under way has been so: whoever waits without end cannot tell of it himself, and others ask here."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Durations"]


class Durations:
    """What is under way, by its name, since when and for how long it may be. Safe in threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._began: dict[str, tuple[float, float]] = {}

    @contextmanager
    def timing(self, what: str, limit: float) -> Iterator[None]:
        """It is under way meanwhile, for `limit` seconds without being overdue; one of a name at a time."""
        with self._lock:
            self._began[what] = (self._monotonic(), limit)
        try:
            yield
        finally:
            with self._lock:
                del self._began[what]

    def seconds(self, what: str) -> float:
        """For how long it has been under way, 0 where it is not."""
        with self._lock:
            began, _ = self._began.get(what, (self._monotonic(), 0.0))
            return self._monotonic() - began

    def overdue(self) -> dict[str, float]:
        """What is under way for longer than it may be, and for how many seconds it has been in all."""
        with self._lock:
            now = self._monotonic()
            return {what: now - began for what, (began, limit) in self._began.items() if now - began > limit}
