"""Whether the Capsule can serve: what it is made of is asked how it is, at most every few seconds."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from capsule.parts import Capsule
from capsule.sandbox import SandboxError
from capsule.standing import CampaignCounts, ChainHealth, HealthReply, PartHealth, WorkerHealth
from sonar.errors import SonarError
from sonar.storage import Artifact

__all__ = ["Readiness"]

_log = logging.getLogger("capsule.health")
_PROBE = b"A Capsule keeps this to see whether its content store answers."
_MOST_PROBLEMS = 100
_COUNTS = ("admissions", "running", "unsettled")

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class _Seen:
    time: float
    health: HealthReply


class Readiness:
    """The Capsule's health. Strangers learn which part fails, never how: that is told in the log, once.

    With `wait_for_key` the keys are well only once there was a first one; a pool that is empty later is refilled.
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
        self._seen: _Seen | None = None
        self._told: dict[str, str] = {}
        self._probe: Artifact | None = None
        self._wait_for_key = wait_for_key

    def health(self) -> HealthReply:
        """How all parts are; one caller asks them, the others get what was seen last. Never raises."""
        seen = self._seen
        if seen is not None and self._clock() - seen.time < self._keep:
            return seen.health
        # While one asks, perhaps a chain that hangs, the others take what is known; only the first have to wait.
        if not self._asking.acquire(blocking=seen is None) and seen is not None:
            return seen.health
        try:
            latest = self._seen
            if latest is None or latest is seen:
                latest = self._seen = _Seen(self._clock(), self._ask())
            return latest.health
        finally:
            self._asking.release()

    def look(self) -> HealthReply:
        """How all parts are now, for the log's sake; what callers are told stays as it was. Never raises."""
        with self._asking:
            return self._ask()

    def ready(self) -> bool:
        """Whether requests of every kind can be served; the worker may be behind."""
        health = self.health()
        return health.database.ok and health.chain.ok and health.store.ok and health.keys.ok and health.judges.ok

    def _ask(self) -> HealthReply:
        capsule = self._capsule
        counts = self._try("database", capsule.state.counts)
        keys = self._try("keys", self._ask_keys)
        block = self._try("chain", capsule.chain.block_number)
        store = self._try("store", self._ask_store)
        judges = self._try("judge processes", self._ask_judges)
        worker = self._worker_health()
        problems = tuple(sorted(worker.get("problems", {})))[:_MOST_PROBLEMS]
        answers = (counts, keys, block, store, judges)
        well = all(answer is not None for answer in answers) and bool(keys) and worker.get("ok", True)
        return HealthReply(
            status="ok" if well else "degraded",
            database=PartHealth(ok=counts is not None),
            chain=ChainHealth(ok=block is not None, block=block),
            store=PartHealth(ok=store is not None),
            keys=PartHealth(ok=bool(keys)),
            judges=PartHealth(ok=judges is not None),
            worker=WorkerHealth(ok=worker.get("ok", True), problems=problems),
            campaigns=None if counts is None else CampaignCounts(**{name: counts[name] for name in _COUNTS}),
        )

    def _ask_keys(self) -> bool:
        if self._wait_for_key and self._capsule.state.keys_by_use():
            self._wait_for_key = False
        return not self._wait_for_key

    def _ask_store(self) -> bool:
        if self._probe is None:
            self._probe = self._capsule.store.put(_PROBE)
        self._capsule.store.get(self._probe, max_bytes=len(_PROBE))
        return True

    def _ask_judges(self) -> bool:
        if (problem := self._capsule.sandbox.problem) is not None:
            raise SandboxError(problem)
        return True

    def _try(self, part: str, ask: Callable[[], Found]) -> Found | None:
        try:
            found = ask()
        except (SonarError, SQLAlchemyError) as error:
            problem = f"{type(error).__name__}: {error}"
            if self._told.get(part) != problem:
                _log.warning("the %s does not answer: %s", part, error)
            self._told[part] = problem
            return None
        if self._told.pop(part, None) is not None:
            _log.info("the %s answers again", part)
        return found
