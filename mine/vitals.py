"""How a running mine stands, in a few numbers: for its metrics, for health checks, and for `mine status`.

The daemon makes them between two steps, and leaves them in a file of the home, so that another process need not ask it.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mine.records import State
from sonar.chain.errors import ChainError
from sonar.chain.records import NATIVE

if TYPE_CHECKING:
    from mine.daemon import Daemon
    from mine.worker import Worker

__all__ = ["Vitals", "Watch", "load_vitals"]

_COIN_SECONDS = 30.0
"""Seconds between two looks at the account's coin."""
_SAVED_SECONDS = 5.0
"""Seconds between two looks into the ledger, after which what was seen is saved."""
_SPARE_SECONDS = 300.0
"""What a step may take besides one training: answers and transactions that are waited for."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Times are Unix seconds, amounts wei of native coin; None is not known yet.

    `waiting` says what is down, or put off, and why; `kept` what a process that reads and trains could not be kept
    from.
    """

    started: float
    stepped: float
    patience: float
    """After how many seconds without a complete step something is wrong."""
    steps: int = 0
    waiting: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str | None] = field(default_factory=dict)
    campaigns: Mapping[str, int] = field(default_factory=dict)
    submissions: Mapping[str, int] = field(default_factory=dict)
    transactions: Mapping[str, int] = field(default_factory=dict)
    earned: int = 0
    bonds_lost: int = 0
    bonds_at_stake: int = 0
    gas_spent: int = 0
    balance: int | None = None
    credit: int | None = None

    def stuck(self, now: float) -> bool:
        """Whether the last complete step is too long ago."""
        return now - self.stepped > self.patience

    @property
    def ready(self) -> bool:
        """Whether chain and store are there."""
        return not {"chain", "store"} & set(self.waiting)


class Watch:
    """Looks at a daemon after each of its steps; what it saw last may be read in any thread."""

    def __init__(self, daemon: "Daemon", file: Path, clock: Callable[[], float] = time.time) -> None:
        self._daemon = daemon
        self._file = file
        self._clock = clock
        self._coin_at = self._saved_at = float("-inf")
        now = clock()
        self.vitals = Vitals(started=now, stepped=now, patience=_SPARE_SECONDS)

    def look(self) -> None:
        """Takes note of how the daemon stands after a step; of what is in the ledger and on chain only now and then.

        Also once a clock that was ahead is right: then what was seen last is in the future.
        """
        now, before, waiting = self._clock(), self.vitals, self._daemon.reasons()
        due = not 0 <= now - self._saved_at < _SAVED_SECONDS or dict(before.waiting) != waiting
        worker = self._daemon.worker
        found = {} if worker is None or not due else {**_in_ledger(worker), **self._on_chain(worker, now, waiting)}
        self.vitals = replace(
            before, stepped=now, steps=before.steps + 1, waiting=waiting,
            patience=self._daemon.policy.work.longest_training_seconds + _SPARE_SECONDS, **found,
        )  # fmt: skip
        if due:
            self._save(now)

    def _on_chain(self, worker: "Worker", now: float, waiting: Mapping[str, str]) -> dict[str, Any]:
        if 0 <= now - self._coin_at < _COIN_SECONDS or "chain" in waiting:
            return {}
        try:
            coin = {"balance": worker.client.balance(worker.address), "credit": worker.client.credit(worker.address)}
        except ChainError:
            return {}  # the next step finds out, and says so
        self._coin_at = now
        return coin

    def _save(self, now: float) -> None:
        part = self._file.with_name(f".{self._file.name}.part")  # of a home's one daemon; a kill leaves one at most
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(asdict(self.vitals), stream)
        part.replace(self._file)
        self._saved_at = now


def _in_ledger(worker: "Worker") -> dict[str, Any]:
    ledger, deployment = worker.ledger, worker.deployment
    campaigns, submissions = ledger.campaigns(deployment), ledger.submissions(deployment)
    transactions = ledger.transactions(deployment)
    native = {one.id for one in campaigns if one.token == NATIVE}
    return {
        "kept": dict(worker.room.kept),
        "campaigns": dict(Counter(one.status.name.lower() for one in campaigns)),
        "submissions": dict(Counter(one.state.value for one in submissions)),
        "transactions": dict(Counter(one.fate.value for one in transactions)),
        "earned": sum(one.payout or 0 for one in submissions if one.campaign in native),
        "bonds_lost": sum(one.bond_lost or 0 for one in submissions),
        "bonds_at_stake": sum(one.bond for one in submissions if one.state is State.SENT),
        "gas_spent": sum((one.gas_used or 0) * (one.gas_price or 0) for one in transactions),
    }


def load_vitals(file: Path) -> dict[str, Any] | None:
    """What a daemon left of itself last, or None."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
