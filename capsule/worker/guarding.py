"""Runs what a worker does so that nothing of it stops the rest, and tells what is not well, and since when."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from capsule.notes import Notes
from capsule.parts import Capsule
from capsule.worker.durations import Durations
from capsule.worker.outages import StoreOutage
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from capsule.worker.troubles import Troubles, shown
from sonar.errors import SonarError

__all__ = ["AUDIT", "NOTING", "PASS", "Guard"]

_log = logging.getLogger("capsule.worker")
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
"""Seconds that a store which does not answer is left alone."""
_PASS_SECONDS = 120.0
"""How long a pass may take: each request has a deadline of seconds, and campaigns are served beside it."""
_SILENT_SECONDS = 300.0
"""How old the last pass may be until the worker counts as gone."""
PASS, AUDIT, NOTING = "pass", "audit log", "noting"
_WORKER = "worker"


class Guard:
    """What is not well with one worker. Safe in threads."""

    def __init__(self, capsule: Capsule, tally: Tally) -> None:
        self._capsule, self._tally = capsule, tally
        self.store = StoreOutage(capsule, tally, Patience(_FIRST_WAIT, _LONGEST_WAIT))
        self.troubles = Troubles(capsule.clock)
        self._notes = Notes(capsule.state)
        self._durations = Durations()
        # Gradients are opened, a round is judged and the next model made, each in a new process once more.
        self._job_seconds = _PASS_SECONDS + 6 * capsule.policy.judge_seconds
        self._heartbeat: float | None = None
        self._ended = self._stopped = False

    def guarded(self, what: str, action: Callable[[], object]) -> bool:
        """Whether the action went through; what it raised is told by `health`, and stops nothing else."""
        try:
            action()
        except SonarError as error:
            self.troubles.tell(what, str(error))
            self.store.notice(what, error)
            return False
        except Exception as error:  # noqa: BLE001
            # A mistake of ours in one campaign must not silence the Capsule for all others.
            _log.exception("%s failed", shown(what))
            self.troubles.tell(what, f"{type(error).__name__}: see the log")
            return False
        self.store.notice_success(what)
        self.troubles.end(what)
        return True

    def timing_job(self, what: str) -> AbstractContextManager[None]:
        """A job beside the passes is under way meanwhile."""
        return self._durations.timing(what, self._job_seconds)

    def timing_pass(self) -> AbstractContextManager[None]:
        """A pass is under way meanwhile."""
        return self._durations.timing(PASS, _PASS_SECONDS)

    def beat(self) -> None:
        """The worker still makes passes."""
        self._heartbeat = time.monotonic()

    def stop(self) -> None:
        """The worker was told to make no more passes: that it makes none is well."""
        self._stopped = True

    def end(self) -> None:
        """The worker makes no more passes, told to or not."""
        self._ended = True

    def note(self) -> None:
        """Stores what is not well, for who asks the database instead of this process."""
        self.guarded(AUDIT, self._capsule.state.audit.look_after)
        self.guarded(NOTING, partial(self._notes.note, self.troubles.present()))

    def close(self) -> None:
        """Leaves the place of what is noted to another worker."""
        self._notes.close()

    def health(self) -> dict[str, Any]:
        """Whether everything went through last time, else what stopped it, and since when (seconds since 1970)."""
        found = self.troubles.present()
        for what, seconds in self._durations.overdue().items():
            problem = f"it does not come to an end, after {seconds:.0f} s: a node, store or database that hangs?"
            found.setdefault(what, (problem, self._capsule.clock() - seconds))
        if (silent := self._silent_seconds()) is not None:
            problem = f"it makes no more passes, for {silent:.0f} s: restart the Capsule, and see its log"
            found[_WORKER] = (problem, self._capsule.clock() - silent)
        self._tally.pass_seconds.value = self._durations.seconds(PASS)
        problems = {what: problem for what, (problem, _) in found.items()}
        return {
            "ok": not problems,
            "problems": problems,
            "since": {what: int(since) for what, (_, since) in found.items()},
        }

    def _silent_seconds(self) -> float | None:
        """For how long the worker has made no pass although it was not stopped; None where it does, or never began."""
        if self._heartbeat is None or self._stopped:
            return None
        seconds = time.monotonic() - self._heartbeat
        return seconds if self._ended or seconds > _SILENT_SECONDS else None
