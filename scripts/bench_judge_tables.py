"""The tables of the judge's benchmark: honest rounds, poison, replicas, likeness, splitting, sampling, speed."""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import bench_judge_mines as sim
import numpy as np
from bench_judge_mines import Mine, Split

from capsule.judge import ValidationSet, judge_round, score
from capsule.judge.blend import Blend, limits
from capsule.judge.credit import credit
from capsule.judge.game import Game
from capsule.judge.likeness import unions
from sonar.protocol.spec import Feature, Payout, Rounds, Spec


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run."""

    seeds: int = 8
    accounts: tuple[int, ...] = (1, 2, 3, 4, 5)
    noises: tuple[float, ...] = (0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.5, 1.0)
    largest: tuple[tuple[int, int], ...] = ((1 << 22, 4), (3 << 19, 10), (1 << 18, 64))
    bits: int = 3072


QUICK = Sizes(seeds=1, accounts=(1, 3), noises=(0.0, 0.03), largest=((1 << 12, 12),), bits=512)


@dataclass(slots=True)
class Table:
    """A table of the report: its columns, its rows of numbers and words, and what is to be said above it."""

    name: str
    title: str
    columns: list[str]
    notes: list[str] = field(default_factory=list)
    rows: list[list[str | float]] = field(default_factory=list)

    def markdown(self) -> str:
        """As the documents show it."""
        lines = [f"### {self.title}", ""]
        lines += [*(f"- {note}" for note in self.notes), ""] if self.notes else []
        lines += [f"| {' | '.join(self.columns)} |", "|" + "---|" * len(self.columns)]
        lines += [f"| {' | '.join(c if isinstance(c, str) else f'{c:.4g}' for c in row)} |" for row in self.rows]
        return "\n".join([*lines, ""])


LONG = {"epochs": 100}


def rounds(sizes: Sizes) -> Table:
    """Honest mines alone."""
    table = Table(
        "rounds", "Four honest mines with unlike shares",
        ["table", "local training", "validation", "test", "central test", "rounds", "largest mine's share of the pay",
         "smallest mine's"],
    )  # fmt: skip
    cases = [
        ("digits", sim.SHORT), ("digits", {"epochs": 20, "batch_size": 16}), ("digits", LONG),
        ("digits", {"epochs": 5}),
        ("breast cancer", sim.SHORT), ("breast cancer", LONG), ("wine", sim.SHORT), ("wine", LONG),
    ]  # fmt: skip
    for name, training in cases:
        found = []
        for seed in range(sizes.seeds):
            data = sim.split(name, seed, 4, training=training)
            end = sim.run(data, sim.honest(data), seed)
            shares = end.largest_share, end.smallest_share
            found.append([end.validation, end.test, sim.central(data, data.shares), end.rounds, *shares])
        table.rows.append([name, describe(training), *means(found)])
    return table


def poison(sizes: Sizes) -> Table:
    """Two of six mines poison."""
    table = _poison_table("poison", "Two of six mines poison")
    trainings = {
        "digits": (sim.SHORT, LONG, {"epochs": 5}),
        "breast cancer": (sim.SHORT, LONG),
        "wine": (sim.SHORT, LONG),
    }
    for name, each in trainings.items():
        for training in each:
            for kind in (*sim.POISONS, *sim.PAIRS):
                table.rows.append(_poisoned(sizes, name, training, kind, 6, 2))
    return table


def halves(sizes: Sizes) -> Table:
    """Three of six mines poison."""
    table = _poison_table("halves", "Three of six mines poison: more than the judge is made for")
    for name in ("digits", "breast cancer"):
        for kind in sim.POISONS:
            table.rows.append(_poisoned(sizes, name, sim.SHORT, kind, 6, 3))
    return table


def _poison_table(name: str, title: str) -> Table:
    return Table(
        name, title,
        ["table", "poison", "local training", "validation", "test", "central test of the honest",
         "poisoners' share of the pay", "worst seed", "rounds", "poisoned gradients kept a campaign"],
    )  # fmt: skip


def _poisoned(
    sizes: Sizes, name: str, training: dict[str, int], kind: str, mines: int, poisoners: int
) -> list[str | float]:
    """A row: the last mines are the poisoners."""
    found, good = [], mines - poisoners
    for seed in range(sizes.seeds):
        data = sim.split(name, seed, mines, training=training)
        rng = np.random.default_rng(seed)
        given = sim.honest(data)
        given[good:] = (
            sim.PAIRS[kind](given[good:])
            if kind in sim.PAIRS
            else [sim.POISONS[kind](mine, rng) for mine in given[good:]]
        )
        end = sim.run(data, given, seed)
        central = sim.central(data, data.shares[:good])
        found.append([end.validation, end.test, central, end.poisoned_share, end.rounds, end.kept_poison])
    *first, share, done, kept = means(found)
    return [name, kind, describe(training), *first, share, max(row[3] for row in found), done, kept]


def replicas(sizes: Sizes) -> Table:
    """One of four mines posts its gradient under several accounts."""
    table = Table(
        "replicas", "What a mine earns with its gradient under several accounts, as a part of the whole pay",
        ["shares", "noise", "scale", *(f"{k} account{'s'[k == 1 :]}" for k in sizes.accounts)],
        ["digits, the fourth of four mines; noise relative to the gradient's length, fresh for every account"],
    )  # fmt: skip
    scales = (0.5, 1.0, 2.0)
    ways = [(noise, (1.0,)) for noise in sizes.noises] + [(noise, scales) for noise in (0.0, 0.03, 0.1)]
    for alike in (False, True):
        for noise, factors in ways:
            row: list[float] = []
            for accounts in sizes.accounts:
                paid = []
                for seed in range(sizes.seeds):
                    data = sim.split("digits", seed, 4, alike=alike)
                    mines = sim.honest(data)
                    attack = sim.noised(noise, factors) if noise or len(factors) > 1 else None
                    mines[3] = Mine(*data.shares[3], attack, accounts)
                    sim.run(data, mines, seed)
                    paid.append(mines[3].paid)
                row.append(float(np.mean(paid)))
            words = "0.5, 1 or 2" if len(factors) > 1 else "1"
            table.rows.append(["alike" if alike else "unlike", f"{noise:g}", words, *row])
    return table


def splitting(sizes: Sizes) -> Table:
    """One of four mines cuts its data up."""
    table = Table(
        "splitting", "What a mine earns with its records split over several accounts, as a part of the whole pay",
        ["table", "shares", *(f"{k} account{'s'[k == 1 :]}" for k in sizes.accounts)],
    )  # fmt: skip
    for name, alike in (("digits", False), ("digits", True), ("breast cancer", False), ("breast cancer", True)):
        row: list[float] = []
        for accounts in sizes.accounts:
            paid = []
            for seed in range(sizes.seeds):
                data = sim.split(name, seed, 4, alike=alike)
                X, y = data.shares[3]
                parts = [Mine(X[at::accounts], y[at::accounts]) for at in range(accounts)]
                sim.run(data, [*sim.honest(data)[:3], *parts], seed)
                paid.append(sum(part.paid for part in parts))
            row.append(float(np.mean(paid)))
        table.rows.append([name, "alike" if alike else "unlike", *row])
    return table


def likeness(sizes: Sizes) -> Table:
    """Honest mines whose data are alike: does sharing a part cost them anything?"""
    table = Table(
        "likeness", "Four honest mines with alike data",
        ["table", "local training", "test", "central test", "largest mine's share of the pay", "smallest mine's"],
    )  # fmt: skip
    for name in sim.TABLES:
        for training in (sim.SHORT, LONG):
            found = []
            for seed in range(sizes.seeds):
                data = sim.split(name, seed, 4, training=training, alike=True)
                end = sim.run(data, sim.honest(data), seed)
                found.append([end.test, sim.central(data, data.shares), end.largest_share, end.smallest_share])
            table.rows.append([name, describe(training), *means(found)])
    return table


def sampling(sizes: Sizes) -> Table:
    """Sampled values beside exact ones."""
    table = Table(
        "sampling", "Sampled values beside exact ones, in percent points of score",
        ["gradients", "stated error", "largest miss", "mean miss", "largest value"],
        ["digits, first round, unlike shares; exact values take every coalition"],
    )  # fmt: skip
    import capsule.judge.credit as module

    for count in (6, 8, 10):
        found = []
        for seed in range(min(sizes.seeds, 4)):
            data = sim.split("digits", seed, count)
            given = [mine.gradients(data.spec, data.start, np.random.default_rng(0))[0] for mine in sim.honest(data)]
            game, blend = game_of(data, given)
            exact = credit(game, blend, b"").values
            most, module.EXACT = module.EXACT, 2
            sampled = credit(game, blend, bytes([seed]))
            module.EXACT = most
            misses = [abs(float(a.value - b.value)) for a, b in zip(exact, sampled.values, strict=True)]
            largest = max(float(value.value) for value in exact)
            found.append([sampled.sampling_error / 1e4, 100 * max(misses), 100 * np.mean(misses), 100 * largest])
        table.rows.append([str(count), *means(found)])
    return table


def speed(sizes: Sizes) -> Table:
    """How long a round takes to judge, which is the work of one thread."""
    table = Table("speed", "The time to judge one round", ["round", "CPU seconds"], ["a cold start excluded"])
    for count in (4, 8, 10, 16, 64):
        data = sim.split("digits", 0, count, alike=True)
        given = [mine.gradients(data.spec, data.start, np.random.default_rng(0))[0] for mine in sim.honest(data)]
        table.rows.append([f"digits, {count} gradients", _seconds(lambda d=data, g=given: judged(d, g))])  # type: ignore[misc]
    for (scores, count), classes in itertools.product(sizes.largest, (2, 256)):
        table.rows.append(
            [f"{scores:,} class scores of {classes} classes, {count} gradients", _large(scores, count, classes)]
        )
    return table


def judged(data: Split, given: list[np.ndarray]) -> object:
    """The first round of a campaign."""
    return judge_round(data.spec, data.validation, data.start, score(data.validation, data.start), given, b"")


def game_of(data: Split, given: list[np.ndarray]) -> tuple[Game, Blend]:
    """The first round as the judge plays it, but for what it does to long gradients."""
    bits = data.spec.encoding.gradient_shift
    moves = [((g + (1 << bits - 1)) >> bits).astype(np.int64) for g in given]
    pushes = [data.validation.scores(move) for move in moves]
    blend = Blend(unions(pushes, centred=True), limits([0] * len(given), 0))
    return Game(data.validation, data.validation.scores(data.start), pushes), blend


def describe(training: dict[str, int]) -> str:
    """In words."""
    batch = f" in batches of {training['batch_size']}" if "batch_size" in training else ", full batch"
    return f"{training['epochs']} epochs{batch}"


def means(rows: Iterable[list[float]]) -> list[float]:
    """Of each column."""
    return [float(value) for value in np.mean(list(rows), axis=0)]


def _large(scores: int, count: int, classes: int) -> float:
    """The most class scores that a validation set may have, and gradients that all help."""
    rng = np.random.default_rng(0)
    records = scores // classes
    spec = Spec.build(
        name="large", features=tuple(Feature(name=f"x{i}") for i in range(7)), payout=Payout(target=990_000),
        classes=tuple(str(k) for k in range(classes)), rounds=Rounds(round_size=64),
    )  # fmt: skip
    truth = rng.normal(size=(8, classes))
    X = rng.normal(size=(records, 7))
    y = (np.c_[X, np.ones(records)] @ truth + rng.gumbel(size=(records, classes))).argmax(axis=1)
    validation = ValidationSet.of(spec, X, y)
    start = np.zeros(spec.shape, dtype=np.int64)
    given = [sim.whole((truth + rng.normal(size=truth.shape)) * 2.0**36) for _ in range(count)]
    return _seconds(lambda: judge_round(spec, validation, start, score(validation, start), given, b""), repeat=1)


def _seconds(function: Callable[[], object], repeat: int = 3) -> float:
    times = []
    for _ in range(repeat):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


TABLES: dict[str, Callable[[Sizes], Table]] = {
    "rounds": rounds, "poison": poison, "halves": halves, "replicas": replicas, "splitting": splitting,
    "likeness": likeness, "sampling": sampling, "speed": speed,
}  # fmt: skip
