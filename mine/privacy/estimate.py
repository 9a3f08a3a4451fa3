"""What noise will cost in accuracy, from the numbers of records and features and epsilon alone: before it is spent.

The model of the data is the plainest: d features, uncorrelated, of mean 0 and variance 1, and two classes that a linear
rule without noise tells apart in 9 of 10 cases; for regressions, targets half of whose variance features explain. With
S = N I, the noise's deviations tau on X'X and t on X'Y, and AdaSSP's ridge l, the slopes point away from the best ones
by an angle with

    tan^2 = d / m (2 t^2 / (N g)^2 + tau^2 / (2 (N + l)^2)),

g = E[x y] of the rule and m mines that are averaged. A linear rule whose scores correlate by r with what decides a
class is right with probability 1/2 + arcsin(r cos) / pi (W. F. Sheppard, On the application of the theory of error to
cases of normal distribution and normal correlation, 1899).

Correlated features lose more than this, and so do classes that are told apart nearly always; unequal classes that are
hard to tell lose less. So there is an upper figure, too: of 19 in 20 cases, and twice the noise.
"""

import math
from dataclasses import dataclass

from mine.privacy.accountant import rho_of
from mine.privacy.adassp import noise_bound
from mine.privacy.clipping import Clip
from mine.privacy.rule import PrivacyRule

__all__ = ["Estimate", "estimate"]

_RIGHT = 0.9
_RIGHT_AT_WORST = 0.95
_MORE_AT_WORST = 2.0
"""How many times the square of the noise correlated features may be worth."""
_EXPLAINED = 0.5
_MOST_RECORDS = 1 << 40


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected to be lost, as a part of 1 of accuracy or R2, by a model of this data set alone.

    `of_five` is the same where five such mines are averaged, `at_worst` that of data that suffer most, `enough` the
    records with which one mine loses a point.
    """

    loss: float
    of_five: float
    at_worst: float
    enough: int
    sentence: str


def estimate(records: int, features: int, rule: PrivacyRule, *, targets: int = 0) -> Estimate:
    """For so many `records` and mapped `features`; `targets` is the number of those of a regression."""
    alone = _loss(records, features, rule, 1, targets)
    five = _loss(records, features, rule, 5, targets)
    worst = _loss(records, features, rule, 1, targets, _RIGHT_AT_WORST, _MORE_AT_WORST)
    low, high = 1, _MOST_RECORDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _loss(middle, features, rule, 1, targets) <= 0.01 else (middle + 1, high)
    what = "R2" if targets else "accuracy"
    most = "" if _points(alone) == _points(worst) else f" (up to {_points(worst)})"
    said = (
        f"with {records} records, {features} features and epsilon {rule.epsilon:g} a model of this data set alone is "
        f"expected to lose {_points(alone)} of {what} to the noise{most}, and {_points(five)} averaged with four alike"
    )
    if alone > 0.01:
        said += f"; about {_rounded(low)} records would lose one point"
    return Estimate(alone, five, worst, low, said)


def _loss(
    records: int, features: int, rule: PrivacyRule, mines: int, targets: int, right: float = _RIGHT, more: float = 1.0
) -> float:
    clip = Clip.of(features, rule.clip, rule.target_clip * math.sqrt(targets) if targets else 1.0)
    unit = 1 / math.sqrt(rho_of(rule.epsilon, rule.delta))  # a deviation, in units of the largest norm
    tau, t = clip.rows**2 * unit, clip.rows * clip.targets * unit
    weight = records * min(1.0, clip.rows**2 / (1 + features))
    ridge = max(0.0, noise_bound(features, tau) + tau * math.sqrt(2 * features) - weight)
    if targets:
        size = _EXPLAINED
        noise = more * features / mines * (t**2 + tau**2 * size / 2) / (weight + ridge) ** 2
        return min(size, noise + size * (ridge / (weight + ridge)) ** 2)
    slope = math.sin((right - 0.5) * math.pi)
    g = math.sqrt(2 / math.pi) * slope
    noised = more * features / mines * (2 * t**2 / (weight * g) ** 2 + tau**2 / (2 * (weight + ridge) ** 2))
    return right - _right(slope, noised)


def _right(slope: float, tangent_squared: float) -> float:
    """How often a rule is right that points so far away from the best one."""
    return 0.5 + math.asin(slope / math.sqrt(1 + tangent_squared)) / math.pi


def _points(loss: float) -> str:
    if loss < 0.001:
        return "less than 0.1 points"
    return f"{100 * loss:.1f} points"


def _rounded(number: int) -> str:
    """Two digits: it is an estimate."""
    digits = max(0, len(str(number)) - 2)
    return f"{round(number, -digits):,}"
