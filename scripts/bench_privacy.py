"""Measures accuracy against epsilon: five mines, the judge as it is in plain numbers, real records, noise by the rule.

A fifth of a table is the owner's validation set, a fifth tests, the rest is dealt to five mines alike. Each mine noises
its sums once and trains every round from them. Beside it: the same campaign without noise, and one mine alone without
noise, whose ridge regression is solved. Splits differ by seed; noise never repeats. docs/privacy.md has what came out.
"""

import json
import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import bench_judge_mines as sim
import click
import numpy as np
from bench_privacy_plot import plot

from capsule.judge import ValidationSet
from mine.privacy.accountant import rho_of
from mine.privacy.adassp import statistics_of
from mine.privacy.clipping import IntegerSums
from mine.privacy.estimate import estimate
from mine.privacy.mechanism import NoisedSums
from mine.privacy.release import clip_of
from mine.privacy.rule import PrivacyRule
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.syft import AffineMap
from sonar.units import PPM

MINES = 5
EPSILONS = (0.1, 0.3, 1.0, 3.0, 10.0)


def _randhie() -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data
    return table.drop(columns="mdvis").to_numpy(float), (table["mdvis"] > 1).to_numpy(np.int64)


def _fair() -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.datasets import fair

    table = fair.load_pandas().data
    return table.drop(columns="affairs").to_numpy(float), (table["affairs"] > 0).to_numpy(np.int64)


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return data.data.astype(float), data.target.astype(np.int64)


TABLES: dict[str, tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]] = {
    "randhie": ("RAND Health Insurance Experiment: more than one visit or not", _randhie),
    "fair": ("Fair's survey: an affair or not", _fair),
    "breast cancer": ("Wisconsin breast cancer: malignant or benign", _breast_cancer),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One epsilon: accuracy on the test set, what that is below the same campaign without noise, and errors of both.

    `expected` is what `mine policy check` would say of one mine's data, averaged with four alike.
    """

    epsilon: float
    accuracy: float
    error: float
    loss: float
    loss_error: float
    rounds: float
    expected: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A table's lines; parts of 1, means over seeds."""

    name: str
    title: str
    records: int
    features: int
    records_of_a_mine: int
    always_the_larger_class: float
    one_mine: float
    five_mines: float
    points: tuple[Point, ...]


def split(name: str, seed: int) -> sim.Split:
    """A table as a seed splits it: standardised by the validation set, as a data scientist would."""
    rng = np.random.default_rng(seed)
    X, y = TABLES[name][1]()
    order = rng.permutation(len(y))
    X, y = X[order], y[order]
    fifth = len(y) // 5
    offset, scale = X[:fifth].mean(axis=0), np.maximum(X[:fifth].std(axis=0), 1e-9)
    spec = Spec.build(
        name=name, payout=Payout(target=PPM), classes=("0", "1"),
        features=tuple(Feature(name=f"x{i}", offset=float(o), scale=float(s))
                       for i, (o, s) in enumerate(zip(offset, scale, strict=True))),
    )  # fmt: skip
    rest, labels = X[2 * fifth :], y[2 * fifth :]
    return sim.Split(
        spec,
        ValidationSet.of(spec, X[:fifth], y[:fifth]),
        ValidationSet.of(spec, X[fifth : 2 * fifth], y[fifth : 2 * fifth]),
        [(rest[part], labels[part]) for part in np.array_split(rng.permutation(len(labels)), MINES)],
        (X[:fifth], y[:fifth]),
    )


def private_map(spec: Spec, X: np.ndarray, y: np.ndarray, rule: PrivacyRule) -> AffineMap:
    """What a mine trains with under a rule."""
    batch = design_matrix(spec, X), np.eye(spec.shape[1])[y]
    sums = IntegerSums.of([batch], *spec.shape, clip_of(spec, rule))
    noised = NoisedSums.release(sums, rho_of(rule.epsilon, rule.delta))
    return spec.training.schedule.training_map(statistics_of(noised, one_hot=True))


def campaign(data: sim.Split, seed: int, rule: PrivacyRule | None) -> tuple[float, int]:
    """Accuracy on the test set at a campaign's end, and its rounds."""
    mines = sim.honest(data)
    if rule is not None:
        for mine in mines:
            mine._affine = private_map(data.spec, mine.X, mine.y, rule)
    end = sim.run(data, mines, seed)
    return end.test, end.rounds


def measure(name: str, seeds: int, rule: PrivacyRule, epsilons: tuple[float, ...]) -> Curve:
    """One table's curve."""
    splits = [split(name, seed) for seed in range(seeds)]
    without = np.array([campaign(data, seed, None)[0] for seed, data in enumerate(splits)])
    mine_records, features = len(splits[0].shares[0][1]), len(splits[0].spec.features)
    points = []
    for epsilon in epsilons:
        at = rule.model_copy(update={"epsilon": epsilon, "budget": epsilon})
        runs = [campaign(data, seed, at) for seed, data in enumerate(splits)]
        found, rounds = np.array([test for test, _ in runs]), float(np.mean([number for _, number in runs]))
        error, loss = math.sqrt(seeds), without - found
        points.append(Point(
            epsilon, float(found.mean()), float(found.std()) / error, float(loss.mean()), float(loss.std()) / error,
            rounds, estimate(mine_records, features, at).of_five,
        ))  # fmt: skip
    larger = max(np.mean(TABLES[name][1]()[1] == k) for k in (0, 1))
    alone = np.mean([sim.central(data, data.shares[:1]) for data in splits])
    return Curve(
        name, TABLES[name][0], len(TABLES[name][1]()[1]), features, mine_records, float(larger), float(alone),
        float(without.mean()), tuple(points),
    )  # fmt: skip


def markdown(curve: Curve) -> str:
    """A curve as a table; points of accuracy."""
    head = (
        f"**{curve.title}** ({curve.records:,} records, {curve.features} features, {curve.records_of_a_mine:,} a "
        f"mine). Without noise: five mines {100 * curve.five_mines:.1f}, one mine alone {100 * curve.one_mine:.1f}, "
        f"always the larger class {100 * curve.always_the_larger_class:.1f}."
    )
    columns = ["epsilon", "accuracy", "below five mines without noise", "estimated", "rounds"]
    lines = [head, "", f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    lines += [
        f"| {p.epsilon:g} | {100 * p.accuracy:.1f} ± {100 * p.error:.1f} | {100 * p.loss:.1f} ± "
        f"{100 * p.loss_error:.1f} | {100 * p.expected:.1f} | {p.rounds:.1f} |"
        for p in curve.points
    ]
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(list(TABLES)), multiple=True, help="A table; may be given again.")
@click.option("--quick", is_flag=True, help="Two seeds and two epsilons: numbers that mean little.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--clip", type=float, default=PrivacyRule().clip, show_default=True, help="The rule's clip.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers to a file.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves as SVG.")
def main(
    only: tuple[str, ...], quick: bool, seeds: int, clip: float, target: Path | None, picture: Path | None
) -> None:
    rule, epsilons = PrivacyRule(mode="on", clip=clip), EPSILONS
    if quick:
        seeds, epsilons = 2, (1.0, 10.0)
    curves = []
    for name in only or TABLES:
        curves.append(measure(name, seeds, rule, epsilons))
        click.echo(markdown(curves[-1]))
    if picture is not None:
        picture.write_text(plot(curves))
    if target is not None:
        report = {
            "seeds": seeds, "rule": rule.model_dump(mode="json"), "curves": [asdict(curve) for curve in curves],
            "machine": {"processor": platform.machine(), "python": platform.python_version(), "numpy": np.__version__},
        }  # fmt: skip
        target.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
