"""Simulated campaigns for the judge's benchmark: tables, shares, honest mines and attackers, all in plain numbers.

A mine's gradient is the one that the encrypted path gives, to the last bit: the same map, rounded as `apply_map` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from demo_data import dirichlet
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from capsule.judge import ValidationSet, judge_round, score
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Feature, Payout, Rounds, Spec, Training
from sonar.syft import AffineMap, encode
from sonar.units import PPM

TABLES = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
LEAST_RECORDS = 10

Weights = np.ndarray
Attack = Callable[[Weights, np.random.Generator], Weights]


@dataclass(frozen=True, slots=True)
class Split:
    """A table as one seed splits it: a fifth to validate, a fifth to test, the rest in unlike shares."""

    spec: Spec
    validation: ValidationSet
    test: ValidationSet
    shares: list[tuple[np.ndarray, np.ndarray]]
    raw: tuple[np.ndarray, np.ndarray]
    """The validation set as its owner has it."""

    @property
    def start(self) -> Weights:
        return np.zeros(self.spec.shape, dtype=np.int64)


SHORT = {"epochs": 5, "batch_size": 16}
"""A round's local training where nothing else is said: few epochs, as federated averaging does it."""


def split(name: str, seed: int, mines: int, *, training: dict[str, int] = SHORT, alike: bool = False,
          metric: str = "accuracy", noise: float = 2.0) -> Split:  # fmt: skip
    """Digits see pixels / 16, other tables are standardised by the validation set, as a data scientist would.

    Shares differ by Dirichlet(1.0) over classes, or not at all where they are `alike`; records are in no order.
    """
    rng = np.random.default_rng(seed)
    data = TABLES[name]()
    order = rng.permutation(len(data.target))
    X, y = data.data[order].astype(float), data.target[order].astype(np.int64)
    fifth = len(y) // 5
    offset, scale = np.zeros(X.shape[1]), np.full(X.shape[1], 16.0)
    if name != "digits":
        offset, scale = X[:fifth].mean(axis=0), np.maximum(X[:fifth].std(axis=0), 1e-9)
    spec = Spec.build(
        name=name, metric=metric, payout=Payout(target=PPM), classes=tuple(str(k) for k in np.unique(y)),
        features=tuple(Feature(name=f"x{i}", offset=float(o), scale=float(s))
                       for i, (o, s) in enumerate(zip(offset, scale, strict=True))),
        training=Training(**training), rounds=Rounds(round_size=64, noise=noise),
    )  # fmt: skip
    rest, labels = X[2 * fifth :], y[2 * fifth :]
    least = min(LEAST_RECORDS, len(labels) // (4 * mines))
    equal = np.array_split(rng.permutation(len(labels)), mines)
    parts = equal if alike else [rng.permutation(part) for part in dirichlet(labels, mines, least, rng)]
    return Split(
        spec,
        ValidationSet.of(spec, X[:fifth], y[:fifth]),
        ValidationSet.of(spec, X[fifth : 2 * fifth], y[fifth : 2 * fifth]),
        [(rest[part], labels[part]) for part in parts],
        (X[:fifth], y[:fifth]),
    )


def affine_map(spec: Spec, X: np.ndarray, y: np.ndarray) -> AffineMap:
    """What a mine finds on its records."""
    schedule = spec.training.schedule
    batch = design_matrix(spec, X), np.eye(spec.shape[1])[y]
    return schedule.training_map(schedule.gather([batch], *spec.shape))


def gradient(spec: Spec, affine: AffineMap, weights: Weights) -> Weights:
    """The integers that a mine's encrypted gradient decrypts to (without thin factors, as below 192 rows)."""
    encoding = spec.encoding
    change = encode(affine.change, encoding.map_bits, 1 << 62).astype(object)
    constant = encode(affine.constant, encoding.gradient_scale, encoding.gradient_bound).astype(object)
    return (change @ weights.astype(object) << encoding.factor_bits) + constant


@dataclass(slots=True)
class Mine:
    """A data owner behind `accounts` accounts: what it trains on, and what it makes of each gradient."""

    X: np.ndarray
    y: np.ndarray
    attack: Attack | None = None
    accounts: int = 1
    poisons: bool = False
    paid: float = 0.0
    _affine: AffineMap | None = field(default=None, repr=False)

    def gradients(self, spec: Spec, weights: Weights, rng: np.random.Generator) -> list[Weights]:
        """One gradient an account; the first of several is as it is, unless the mine always noises."""
        if self._affine is None:
            self._affine = affine_map(spec, self.X, self.y)
        honest = gradient(spec, self._affine, weights)
        if self.attack is None:
            return [honest] * self.accounts
        return [self.attack(honest, rng) for _ in range(self.accounts)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A campaign's end: scores as parts of 1, rounds that advanced, and what the judge said of sampling."""

    validation: float
    test: float
    rounds: int
    largest_share: float
    smallest_share: float
    """Of the honest."""
    poisoned_share: float
    sampling_error: int
    kept_poison: int


def run(data: Split, mines: list[Mine], seed: int, rounds: int = 20) -> Outcome:
    """Rounds until one does not advance; `paid` of each mine is its part of the whole pay."""
    rng = np.random.default_rng(seed)
    weights, now = data.start, score(data.validation, data.start)
    first, done, error, kept_poison = now, 0, 0, 0
    for mine in mines:
        mine.paid = 0.0
    for number in range(rounds):
        given = [(mine, g) for mine in mines for g in mine.gradients(data.spec, weights, rng)]
        judged = judge_round(data.spec, data.validation, weights, now, [g for _, g in given], bytes([number]))
        error = max(error, judged.sampling_error)
        if judged.weights is None:
            break
        for (mine, _), result in zip(given, judged.results, strict=True):
            mine.paid += (judged.score - now) * result.share / PPM
            kept_poison += mine.poisons and result.kept
        weights, now, done = judged.weights, judged.score, done + 1
    whole = max(1, now - first)
    for mine in mines:
        mine.paid /= whole
    return Outcome(
        now / PPM, score(data.test, weights) / PPM, done, max(mine.paid for mine in mines),
        min(mine.paid for mine in mines if not mine.poisons),
        sum(mine.paid for mine in mines if mine.poisons), error, kept_poison,
    )  # fmt: skip


def honest(data: Split) -> list[Mine]:
    """A mine a share."""
    return [Mine(X, y) for X, y in data.shares]


def central(data: Split, shares: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The test score of the same ridge regression, solved on these shares pooled."""
    X, y = (np.concatenate(part) for part in zip(*shares, strict=True))
    design, targets = design_matrix(data.spec, X), np.eye(data.spec.shape[1])[y]
    gram = design.T @ design / len(y) + data.spec.training.l2 * np.eye(design.shape[1])
    solved = np.linalg.solve(gram, design.T @ targets / len(y))
    encoding = data.spec.encoding
    return score(data.test, encode(solved, encoding.weight_bits, encoding.weight_bound).astype(np.int64)) / PPM


def scaled(factor: float) -> Attack:
    """The honest gradient, so many times."""
    return lambda vector, _: np.array([round(float(v) * factor) for v in vector.ravel()], dtype=object).reshape(
        vector.shape
    )


def noised(noise: float, factors: tuple[float, ...] = (1.0,)) -> Attack:
    """The honest gradient with Gaussian noise of this size relative to it, times one of the factors."""

    def attack(vector: Weights, rng: np.random.Generator) -> Weights:
        floats = vector.astype(float)
        drawn = rng.normal(size=floats.shape)
        drawn *= noise * np.linalg.norm(floats) / np.linalg.norm(drawn)
        return whole((floats + drawn) * rng.choice(factors))

    return attack


def nonsense(vector: Weights, rng: np.random.Generator) -> Weights:
    """Noise as long as the honest gradient."""
    drawn = rng.normal(size=vector.shape)
    return whole(drawn * np.linalg.norm(vector.astype(float)) / np.linalg.norm(drawn))


def guess(vector: Weights, rng: np.random.Generator) -> Weights:  # noqa: ARG001
    """As long as the honest gradient, and all on the first feature, for the first class: no record of digits has it."""
    found = np.zeros(vector.shape)
    found[0, 0] = np.linalg.norm(vector.astype(float))
    return whole(found)


def whole(floats: np.ndarray) -> Weights:
    """Python integers."""
    return np.array([int(value) for value in np.rint(floats).ravel()], dtype=object).reshape(floats.shape)


POISONS: dict[str, Callable[[Mine, np.random.Generator], Mine]] = {
    "shuffled labels": lambda m, rng: Mine(m.X, rng.permutation(m.y), poisons=True),
    "flipped labels": lambda m, _: Mine(m.X, m.y.max() - m.y, poisons=True),
    "random gradients": lambda m, _: Mine(m.X, m.y, nonsense, poisons=True),
    "random gradients, x 0.1": lambda m, _: Mine(
        m.X, m.y, lambda v, rng: scaled(0.1)(nonsense(v, rng), rng), poisons=True
    ),
    "random gradients, x 0.00001": lambda m, _: Mine(
        m.X, m.y, lambda v, rng: scaled(1e-5)(nonsense(v, rng), rng), poisons=True
    ),
    "gradients of zeros": lambda m, _: Mine(m.X, m.y, scaled(0), poisons=True),
    "a guess on the first feature": lambda m, _: Mine(m.X, m.y, guess, poisons=True),
    "scaled gradients, x 10": lambda m, _: Mine(m.X, m.y, scaled(10), poisons=True),
    "scaled gradients, x 3": lambda m, _: Mine(m.X, m.y, scaled(3), poisons=True),
    "scaled gradients, x -1": lambda m, _: Mine(m.X, m.y, scaled(-1), poisons=True),
}


def towards(direction: Weights, noise: float = 0.0) -> Attack:
    """As long as the honest gradient, in a direction that is known before, with noise relative to it."""

    def attack(vector: Weights, rng: np.random.Generator) -> Weights:
        drawn = rng.normal(size=vector.shape)
        found = direction / np.linalg.norm(direction) + noise * drawn / np.linalg.norm(drawn)
        return whole(found * np.linalg.norm(vector.astype(float)) / np.linalg.norm(found))

    return attack


def _pair(mines: list[Mine], direction: Callable[[tuple[int, ...]], Weights]) -> list[Mine]:
    """One posts harm, the other what undoes it: the second is worth much as long as the first is counted."""

    def one(mine: Mine, sign: int, noise: float) -> Mine:
        return Mine(mine.X, mine.y, lambda v, rng: towards(sign * direction(v.shape), noise)(v, rng), poisons=True)

    return [one(mine, 1 - 2 * (at % 2), 0.02 if at % 2 else 0.5) for at, mine in enumerate(mines)]


def _bias(shape: tuple[int, ...]) -> Weights:
    found = np.full(shape, 0.0)
    found[-1] = -1 / shape[1]
    found[-1, 0] += 1
    return found


PAIRS: dict[str, Callable[[list[Mine]], list[Mine]]] = {
    "a direction and its opposite": lambda mines: _pair(mines, lambda s: np.random.default_rng(0).normal(size=s)),
    "a class pushed up and down": lambda mines: _pair(mines, _bias),
}
