"""Whether the content store is away, or only gives one campaign nothing.

A model that nobody has any more takes every fetch to the store's deadline, and a mine can name what a store refuses to
give. Neither says anything of the other campaigns' artifacts, so whoever gets nowhere asks the store for a few bytes
that it surely has. Only a store that does not give or take those is left alone for a while.
"""

import threading

from capsule.parts import Capsule
from capsule.probe import ask_store
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from sonar.errors import SonarError
from sonar.storage import StorageError, StoreTimeoutError, StoreUnavailableError

__all__ = ["StoreOutage"]


class StoreOutage:
    """The present outage of the store, if there is one. Safe in threads."""

    def __init__(self, capsule: Capsule, tally: Tally, patience: Patience) -> None:
        self._capsule, self._tally, self._patience = capsule, tally, patience
        self._lock = threading.Lock()
        self._asking = False
        self._stopped: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether it is time to try again, or nothing is wrong."""
        return self._patience.is_over

    @property
    def failures(self) -> int:
        """How often the store failed since it last answered."""
        return self._patience.failures

    def notice(self, what: str, error: SonarError) -> None:
        """Something was stopped by `error`: where it is the store's, the store is asked whether it is away."""
        if not isinstance(error, StoreUnavailableError | StoreTimeoutError):
            return
        with self._lock:
            self._stopped.add(what)
            if self._asking or not self._patience.is_over:
                return  # one failure for all that asked at the same time
            self._asking = True
        away = True
        try:
            ask_store(self._capsule.store)
            away = False
        except StorageError:
            pass  # as the error that stopped it, which is told
        finally:
            with self._lock:
                self._asking = False
                self._fail() if away else self._end()

    def notice_success(self, what: str) -> None:
        """Something went through: where the store had stopped it before, the store answers again."""
        with self._lock:
            if what in self._stopped:
                self._end()

    def _fail(self) -> None:
        if not self._patience.failures:
            self._tally.outages.add()
        self._patience.fail()

    def _end(self) -> None:
        self._stopped.clear()
        self._patience.succeed()
