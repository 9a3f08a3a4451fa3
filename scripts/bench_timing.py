"""How the benchmark measures and prints: wall and CPU time of the best of several runs, and tables of ratios."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar

import psutil

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
MOST_SECONDS = 10.0
"""A function that has run for this long, twice at least, is not run again."""
LEAST_SECONDS = 0.3
"""A function is run until this much time has passed, however short it is; in a quick run only as often as was asked."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: on the clock, and of processor time in all threads and processes."""

    wall: float
    cpu: float

    def scaled(self, factor: float) -> "Timing":
        """What `factor` times the work would take."""
        return Timing(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True, slots=True)
class Repeat:
    """How often things are run; `best` takes the fastest."""

    times: int
    short: bool = True
    """Whether short things are run more often."""

    def best(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> tuple[Timing, Result]:
        """The fastest run of a function, and what its last run returned."""
        timings, spent = [], 0.0
        while True:
            timing, result = once(function, *args, **kwargs)
            timings.append(timing)
            spent += timing.wall
            enough = len(timings) >= self.times and (spent >= LEAST_SECONDS or not self.short)
            if enough or (spent > MOST_SECONDS and len(timings) > 1):
                return min(timings, key=lambda timing: timing.wall), result


def once(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> tuple[Timing, Result]:
    """One run of a function and what it returned."""
    children = _of_children()
    cpu, started = time.process_time(), time.perf_counter()
    result = function(*args, **kwargs)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Timing(wall, cpu + _of_children() - children), result


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement beside its baseline; `goal` is the ratio that it is meant to reach, and decides nothing."""

    what: str
    way: str
    ours: Timing
    baseline: Timing | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the baseline takes, on the clock."""
        return None if self.baseline is None else self.baseline.wall / self.ours.wall

    @property
    def cpu_ratio(self) -> float | None:
        """The same in processor time, which other programs disturb less."""
        return self.baseline.cpu / self.ours.cpu if self.baseline is not None and self.ours.cpu else None


@dataclass(slots=True)
class Section:
    """One table: what it is of, how its baseline was measured, and its rows."""

    name: str
    title: str
    bits: int | None = None
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """For JSON: the fields, and the ratios of every row."""
        rows = [{**asdict(row), "ratio": row.ratio, "cpu_ratio": row.cpu_ratio} for row in self.rows]
        return {"name": self.name, "title": self.title, "bits": self.bits, "notes": self.notes, "rows": rows}

    def markdown(self) -> str:
        """The table, with its notes above it."""
        lines = [f"### {self.title}", ""]
        if self.notes:
            lines += [*(f"- {note}" for note in self.notes), ""]
        if not self.rows:
            return "\n".join(lines)
        compared = any(row.baseline for row in self.rows)
        columns = [
            "what",
            "by",
            "seconds",
            "CPU seconds",
            *(["baseline", "ratio", "goal", "CPU ratio"] if compared else []),
        ]
        lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for row in self.rows:
            cells = [row.what, row.way, seconds(row.ours.wall), seconds(row.ours.cpu)]
            if compared:
                cells += [seconds(row.baseline.wall) if row.baseline else "", number(row.ratio), number(row.goal)]
                cells.append(number(row.cpu_ratio))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, ""])


def seconds(value: float) -> str:
    """A time with its unit, to three digits."""
    unit, factor = next((u, f) for u, f in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
                        if abs(value) * f >= 1 or u == "ns")  # fmt: skip
    return f"{number(value * factor)} {unit}"


def number(value: float | None) -> str:
    """Three digits, and no exponent; nothing for nothing."""
    if value is None:
        return ""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _of_children() -> float:
    """Processor seconds so far of the processes that this one has started, in the kernel's steps of 10 ms."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
