"""Credit for a rise of the score: Shapley values per validation record, in exact integers.

A coalition's worth is the number of validation records that the model classifies correctly after the coalition's mean
gradient. Up to `EXACT` gradients every coalition is evaluated; above, random orders are, drawn from a public seed, so
that anyone with the same plaintexts gets the same values. (Shapley, "A Value for n-Person Games", 1953; sampling of
orders: Castro, Gomez and Tejada, 2009; each order also runs backwards, which lowers the variance.)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from sonar.units import PPM, Ppm

__all__ = ["EXACT", "Value", "coalitions", "split", "values"]

EXACT = 10
"""The most gradients for which every coalition is evaluated."""
ORDERS = 128
"""How many orders are drawn above that; even, because each also runs backwards."""

Scores = npt.NDArray[np.float64]
Correct = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Value:
    """One gradient's Shapley value as a mean over records, with what its standard error needs.

    Per record the value is an integer over `denominator`; `total` and `squares` sum these integers and their squares.
    """

    total: int
    squares: int
    records: int
    denominator: int

    @property
    def mean(self) -> float:
        """The value as a part of the score, 0.01 being one percent point."""
        return self.total / (self.records * self.denominator)

    @property
    def standard_error(self) -> float:
        """The standard error of `mean` over the validation records."""
        spread = self.squares * self.records - self.total**2
        return math.sqrt(spread / self.records) / (self.records * self.denominator)

    def above_noise(self, noise: float) -> bool:
        """Whether the value is positive and more than `noise` standard errors, decided without rounding."""
        spread = self.squares * self.records - self.total**2
        return self.total > 0 and self.total**2 * self.records > Fraction(noise) ** 2 * spread


def values(gradients: Sequence[Scores], correct: Callable[[Scores, int], Correct], seed: bytes) -> list[Value]:
    """The Shapley value of each gradient.

    `gradients` are what each adds to the records' class scores, (records, classes); `correct(total, size)` says which
    records (0 or 1) are right after adding a coalition's mean, given the sum over it and its size.
    """
    count = len(gradients)
    if count == 0:
        return []
    if count <= EXACT:
        per_record, denominator = _exact(gradients, correct), math.factorial(count)
    else:
        per_record, denominator = _sampled(gradients, correct, seed), ORDERS
    return [_value(row, denominator) for row in per_record]


def coalitions(gradients: Sequence[Scores]) -> Iterator[tuple[tuple[int, ...], Scores]]:
    """Every non-empty coalition with the sum over its members, always added in ascending order."""
    stack: list[tuple[tuple[int, ...], Scores]] = [
        ((index,), scores) for index, scores in reversed(list(enumerate(gradients)))
    ]
    while stack:
        members, total = stack.pop()
        yield members, total
        stack += [((*members, i), total + gradients[i]) for i in range(len(gradients) - 1, members[-1], -1)]


def split(weights: Sequence[int]) -> list[Ppm]:
    """Shares in ppm of positive integers: they sum to exactly 1,000,000, and each is at least 1 (largest remainder)."""
    total, free = sum(weights), PPM - len(weights)
    shares = [1 + weight * free // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(weights[i] * free % total), i))
    for index in by_remainder[: PPM - sum(shares)]:
        shares[index] += 1
    return [Ppm(share) for share in shares]


def _exact(gradients: Sequence[Scores], correct: Callable[[Scores, int], Correct]) -> Correct:
    count = len(gradients)
    factorial = math.factorial
    empty = correct(np.zeros_like(gradients[0]), 0)
    per_record = np.repeat(-factorial(count - 1) * empty[None, :], count, axis=0)
    for members, total in coalitions(gradients):
        size = len(members)
        right = correct(total, size)
        joined = factorial(size - 1) * factorial(count - size) * right
        missing = factorial(size) * factorial(count - size - 1) * right if size < count else None
        inside = set(members)
        for index in range(count):
            if index in inside:
                per_record[index] += joined
            elif missing is not None:
                per_record[index] -= missing
    return per_record


def _sampled(gradients: Sequence[Scores], correct: Callable[[Scores, int], Correct], seed: bytes) -> Correct:
    count = len(gradients)
    empty = correct(np.zeros_like(gradients[0]), 0)
    per_record = np.zeros((count, len(empty)), dtype=np.int64)
    for number in range(ORDERS // 2):
        order = sorted(range(count), key=lambda i, n=number: _draw(seed, n, i))  # type: ignore[misc]
        for members in (order, order[::-1]):
            total, before = np.zeros_like(gradients[0]), empty
            for size, index in enumerate(members, start=1):
                total = total + gradients[index]
                after = correct(total, size)
                per_record[index] += after - before
                before = after
    return per_record


def _draw(seed: bytes, order: int, index: int) -> bytes:
    return sha256(seed + order.to_bytes(4, "big") + index.to_bytes(4, "big")).digest()


def _value(row: Correct, denominator: int) -> Value:
    distinct, counts = np.unique(row, return_counts=True)
    pairs = [(int(value), int(times)) for value, times in zip(distinct, counts, strict=True)]
    return Value(
        total=sum(value * times for value, times in pairs),
        squares=sum(value * value * times for value, times in pairs),
        records=len(row),
        denominator=denominator,
    )
