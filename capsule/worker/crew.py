"""A few threads for jobs beside the caller: one job a name at a time, and none that keeps the process alive."""

import threading
from collections.abc import Callable

__all__ = ["Crew"]


class Crew:
    """At most `size` jobs at once; who asks for more is told to come back."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._names: set[str] = set()
        self._changed = threading.Condition()

    def start(self, name: str, job: Callable[[], object]) -> bool:
        """Runs the job, unless one of this name is running or all threads are busy. A job must not raise."""
        with self._changed:
            if name in self._names or len(self._names) >= self._size:
                return False
            self._names.add(name)
        try:
            threading.Thread(target=self._run, args=(name, job), name=f"worker {name[:16]}", daemon=True).start()
        except BaseException:
            self._give_back(name)  # the system has no thread for it now, and may have one later
            raise
        return True

    def wait(self, busy: int = 0, timeout: float | None = None) -> bool:
        """Whether at most `busy` jobs are running, now or within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._names) <= busy, timeout)

    def _run(self, name: str, job: Callable[[], object]) -> None:
        try:
            job()
        finally:
            self._give_back(name)

    def _give_back(self, name: str) -> None:
        with self._changed:
            self._names.discard(name)
            self._changed.notify_all()
