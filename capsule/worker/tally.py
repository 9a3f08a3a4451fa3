"""What the worker counts: plain numbers behind locks, for whoever exposes them. It knows no registry of metrics."""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

__all__ = ["Counter", "Gauge", "Seconds", "SecondsSoFar", "Tally"]

_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


class Counter:
    """A number that only rises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    @property
    def value(self) -> int:
        """What was counted so far."""
        return self._value

    def add(self, amount: int = 1) -> None:
        """Counts; raises ValueError for a negative amount."""
        if amount < 0:
            raise ValueError(f"a counter cannot fall by {-amount}")
        with self._lock:
            self._value += amount


class Gauge:
    """A number that is what it was last set to."""

    def __init__(self) -> None:
        self.value: float = 0


@dataclass(frozen=True, slots=True)
class SecondsSoFar:
    """Durations at one instant: each bound with how many were at most that long, and count and sum of all."""

    cumulative: tuple[tuple[float, int], ...]
    count: int
    total: float


class Seconds:
    """How long something took, each time: a histogram."""

    def __init__(self, bounds: Sequence[float] = _BOUNDS) -> None:
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Adds one duration."""
        with self._lock:
            self._counts[bisect_left(self._bounds, seconds)] += 1
            self._total += seconds

    def read(self) -> SecondsSoFar:
        """All durations so far, consistent in themselves."""
        with self._lock:
            counts, total = tuple(self._counts), self._total
        cumulative = tuple(zip(self._bounds, accumulate(counts), strict=False))
        return SecondsSoFar(cumulative, sum(counts), total)


@dataclass(frozen=True, slots=True)
class Tally:
    """The worker's numbers since this process began; gauges are the present ones."""

    queue_depth: Gauge = field(default_factory=Gauge)
    """Closed rounds that wait for their settlement to be signed."""
    unsettled: Gauge = field(default_factory=Gauge)
    """Signed settlements that are not final."""
    undeliverable: Gauge = field(default_factory=Gauge)
    """Campaigns that the chain took to versions which this database does not hold."""
    misfits: Gauge = field(default_factory=Gauge)
    """Campaigns that are not judged: their terms on chain, as the node tells them, are not those that were admitted."""
    head_block: Gauge = field(default_factory=Gauge)
    """The latest block that the node has shown."""
    followed_block: Gauge = field(default_factory=Gauge)
    """The block up to which events are read."""
    pass_seconds: Gauge = field(default_factory=Gauge)
    """How long the present pass had been under way when the worker's health was asked last, 0 between passes."""
    judge_seconds: Seconds = field(default_factory=Seconds)
    """From a closed round whose gradients are all opened to its stored signature."""
    rounds_judged: Counter = field(default_factory=Counter)
    gradients_judged: Counter = field(default_factory=Counter)
    rounds_settled: Counter = field(default_factory=Counter)
    """Settlements that this worker's transactions brought on chain."""
    gas_spent: Counter = field(default_factory=Counter)
    """Gas of this worker's mined transactions."""
    wei_spent: Counter = field(default_factory=Counter)
    """What that gas cost."""
    relay_failures: Counter = field(default_factory=Counter)
    """Transactions that were refused, reverted or displaced by another one with their nonce."""
    replacements: Counter = field(default_factory=Counter)
    """Transactions sent again at a higher fee."""
    reorganisations: Counter = field(default_factory=Counter)
    """How often the chain took back blocks that were read already."""
    wrong_artifacts: Counter = field(default_factory=Counter)
    """How often the store gave other bytes for a gradient than were committed to."""
    hanging_fetches: Counter = field(default_factory=Counter)
    """How often the store neither gave nor refused a gradient for minutes."""
    outages: Counter = field(default_factory=Counter)
    """How often the chain or the store stopped answering."""
