"""Jobs beside the caller, in threads that do not keep the process alive; one that hangs takes no place from others."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Background", "Running"]

Answer = TypeVar("Answer")


class Running(Generic[Answer]):
    """A job that was begun: its `answer`, and for how long it has waited for somebody else."""

    def __init__(self, give_back: Callable[[], None], monotonic: Callable[[], float]) -> None:
        self.answer: Future[Answer] = Future()
        self._began: float | None = monotonic()
        self._monotonic, self._give_back = monotonic, give_back
        self._lock = threading.Lock()
        self._has_place = True

    @property
    def waiting_seconds(self) -> float:
        """How long it has been waiting; 0 once `go_on` was called."""
        began = self._began
        return 0.0 if began is None else self._monotonic() - began

    def go_on(self) -> None:
        """It waits for nobody any more: how long it takes is this process's own business."""
        self._began = None

    def leave(self) -> None:
        """Gives its place to another job, whether it has come to an end or hangs."""
        with self._lock:
            had, self._has_place = self._has_place, False
        if had:
            self._give_back()


class Background(Generic[Answer]):
    """Runs at most `limit` jobs, and those that were left besides.

    Fetching what nobody has takes until the store's deadline; whoever posts such gradients must not stop the others.
    `shared` are places that several of these have together: many campaigns of such gradients must not take all threads.
    """

    def __init__(
        self, shared: threading.Semaphore, limit: int = 16, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared, self._free, self._monotonic = shared, threading.BoundedSemaphore(limit), monotonic

    def start(self, job: Callable[[Callable[[], None]], Answer]) -> Running[Answer] | None:
        """The job, which is given `Running.go_on`; None while too many are running."""
        if not self._free.acquire(blocking=False):
            return None
        if not self._shared.acquire(blocking=False):
            self._free.release()
            return None
        running: Running[Answer] = Running(self._give_back, self._monotonic)
        try:
            threading.Thread(target=self._run, args=(job, running), name="fetch", daemon=True).start()
        except BaseException:
            running.leave()
            raise
        return running

    def _give_back(self) -> None:
        self._shared.release()
        self._free.release()

    @staticmethod
    def _run(job: Callable[[Callable[[], None]], Answer], running: Running[Answer]) -> None:
        try:
            result = job(running.go_on)
        except BaseException as error:  # noqa: BLE001  (whoever asks for the result gets it)
            running.answer.set_exception(error)
        else:
            running.answer.set_result(result)
        finally:
            running.leave()
