"""What is not well, by the name of a part or a campaign in hex, and since when; each change of it is in the log."""

import logging
import threading
from collections.abc import Callable

from capsule.notes import Problems
from sonar.errors import printable

__all__ = ["Troubles", "shown"]

_log = logging.getLogger("capsule.worker")
_ID_DIGITS = 64
_LONGEST = 2000


class Troubles:
    """The problems of one worker. Safe in threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._problems: Problems = {}

    def __contains__(self, what: str) -> bool:
        return what in self._problems

    def present(self) -> Problems:
        """All that is not well now."""
        with self._lock:
            return dict(self._problems)

    def tell(self, what: str, problem: str) -> None:
        """Something is not well, or still. The words may be a stranger's in part, and are stored and shown."""
        problem = printable(problem, _LONGEST)
        with self._lock:
            before = self._problems.get(what)
            self._problems[what] = (problem, self._clock() if before is None else before[1])
        if before is None or before[0] != problem:
            _log.warning("%s: %s", shown(what), problem)

    def end(self, what: str) -> None:
        """It is well."""
        with self._lock:
            before = self._problems.pop(what, None)
        if before is not None:
            _log.info("%s: going on", shown(what))

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Drops, without a word, what is about things that are no more."""
        with self._lock:
            self._problems = {what: problem for what, problem in self._problems.items() if not gone(what)}


def shown(what: str) -> str:
    """A part by its name, a campaign by its id."""
    return "campaign 0x" + what if len(what) == _ID_DIGITS else what
