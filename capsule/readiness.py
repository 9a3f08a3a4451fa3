"""Whether the Capsule can serve: what it is made of is asked how it is, at most every few seconds."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from capsule.parts import Capsule
from capsule.probe import PROBE
from capsule.sandbox import SandboxError
from capsule.standing import CampaignCounts, ChainHealth, HealthReply, PartHealth, WorkerHealth
from sonar.errors import SonarError
from sonar.storage import Artifact

__all__ = ["Readiness"]

_log = logging.getLogger("capsule.health")
_MOST_PROBLEMS = 100
_COUNTS = ("admissions", "running", "unsettled")
_PARTS = ("database", "keys", "chain", "store", "judge processes")
_OLDEST = 60.0
"""Seconds for which what a part answered is believed."""
_FIRST_SECONDS = 10.0
"""How long callers wait for the first answers of all."""


class Readiness:
    """The Capsule's health. Strangers learn which part fails, never how: that is told in the log, once.

    A part is well as long as its last answer is no older than a minute: one that hangs tells nothing itself, and keeps
    those that are asked after it from telling anything. Keys are well while there is a spare one, or one is being made;
    with `wait_for_key` only once there was a first one.
    """

    def __init__(
        self,
        capsule: Capsule,
        worker_health: Callable[[], dict[str, Any]],
        *,
        wait_for_key: bool = False,
        keep_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capsule, self._worker_health = capsule, worker_health
        self._keep, self._clock = keep_seconds, clock
        self._asking = threading.Lock()
        self._asked: float | None = None
        self._answers: dict[str, tuple[float, Any]] = {}
        self._told: dict[str, str] = {}
        self._probe: Artifact | None = None
        self._wait_for_key = wait_for_key

    def health(self) -> HealthReply:
        """How all parts are; one caller asks them, the others get what is known. Never raises."""
        asked = self._asked
        if asked is not None and self._clock() - asked < self._keep:
            return self.known()
        # While one asks, perhaps a chain that hangs, the others take what is known; only the first have to wait.
        if self._asking.acquire(timeout=_FIRST_SECONDS if asked is None else 0):
            try:
                if self._asked is asked:
                    begun = self._clock()
                    self._ask()
                    self._asked = begun
            finally:
                self._asking.release()
        return self.known()

    def look(self) -> None:
        """Asks all parts how they are, however recently that was. Never raises."""
        with self._asking:
            self._ask()

    def known(self) -> HealthReply:
        """How all parts were at their last answer; one that is older than a minute is not well. Asks nobody."""
        since, found = self._clock() - _OLDEST, dict(self._answers)
        silent = [part for part, (told, _) in found.items() if told < since and part not in self._told]
        if silent:
            self._told |= dict.fromkeys(silent, "silent")
            _log.warning("one of these has not answered for a minute: %s", ", ".join(silent))
        return self._reply({part: answer for part, (told, answer) in found.items() if told >= since})

    def ready(self) -> bool:
        """Whether requests of every kind can be served; the worker may be behind."""
        health = self.health()
        return health.database.ok and health.chain.ok and health.store.ok and health.keys.ok and health.judges.ok

    def _ask(self) -> None:
        self._try("database", self._capsule.state.counts)
        self._try("keys", self._ask_keys)
        self._try("chain", self._capsule.chain.block_number)
        self._try("store", self._ask_store)
        self._try("judge processes", self._ask_judges)

    def _reply(self, answers: dict[str, Any]) -> HealthReply:
        """`answers` are those that count, None for a part that failed."""
        well = {part: answers.get(part) is not None for part in _PARTS}
        worker, counts = self._worker_health(), answers.get("database")
        problems = tuple(sorted(worker.get("problems", {})))[:_MOST_PROBLEMS]
        return HealthReply(
            status="ok" if all(well.values()) and worker.get("ok", True) else "degraded",
            database=PartHealth(ok=well["database"]),
            chain=ChainHealth(ok=well["chain"], block=answers.get("chain")),
            store=PartHealth(ok=well["store"]),
            keys=PartHealth(ok=well["keys"]),
            judges=PartHealth(ok=well["judge processes"]),
            worker=WorkerHealth(ok=worker.get("ok", True), problems=problems),
            campaigns=None if counts is None else CampaignCounts(**{name: counts[name] for name in _COUNTS}),
        )

    def _ask_keys(self) -> bool | None:
        """None, without a word, where there is none: the pool itself tells why none can be made."""
        spare = self._capsule.state.spare_keys()
        if self._wait_for_key and not spare and not self._capsule.state.keys_by_use():
            return None
        self._wait_for_key = False
        return None if not spare and self._capsule.keys.failing else True

    def _ask_store(self) -> bool:
        if self._probe is None:
            self._probe = self._capsule.store.put(PROBE)
        self._capsule.store.get(self._probe, max_bytes=len(PROBE))
        return True

    def _ask_judges(self) -> bool:
        if (problem := self._capsule.sandbox.problem) is not None:
            raise SandboxError(problem)
        return True

    def _try(self, part: str, ask: Callable[[], object]) -> None:
        """Asks a part, and keeps what it answers: None where it fails, which is told once."""
        found, problem = None, ""
        try:
            found = ask()
        except (SonarError, SQLAlchemyError) as error:
            problem = f"{type(error).__name__}: {error}"
            if self._told.get(part) != problem:
                _log.warning("the %s does not answer: %s", part, error)
        except Exception as error:  # noqa: BLE001  (a mistake of ours in one part must not hide the others)
            problem = type(error).__name__
            if self._told.get(part) != problem:
                _log.exception("the %s cannot be asked", part)
        self._answers[part] = (self._clock(), found)
        if problem:
            self._told[part] = problem
        elif self._told.pop(part, None) is not None:
            _log.info("the %s answers again", part)
