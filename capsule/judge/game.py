"""A round as a cooperative game: what the model is worth after some gradients' parts of a mean are added to it.

Gradients are taken at what they do to the validation set's class scores, their pushes. A coalition is a row of
integer multipliers that sum to at most 2^16, the steps of a settlement in finer units. All numbers are integers in
float64 whose sums stay below 2^53, so a product of matrices is exact and the same on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np

from capsule.judge._exact import Floats, Ints, excess_bits, rounded_shift, sum_of_squares
from capsule.judge.measure import INFLUENCE_BITS, VALUE_BITS, Measured
from capsule.judge.validation import AnySet, ValidationSet

__all__ = ["STEP_BITS", "Estimate", "Game"]

STEP_BITS = 16
_PUSH_BITS = 34
"""With 2^16 of them, the multiplied base and the sum of pushes stay below 2^51 each."""
_AT_ONCE = 1 << 20
"""How many class scores are in memory at once, besides those of the gradients."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A part of the score, exact on these validation records, with its variance over their choice."""

    value: Fraction
    variance: Fraction

    @classmethod
    def of(cls, value: Fraction, influences: Ints) -> "Estimate":
        """`influences` (records,) are what each record adds, at 2^INFLUENCE_BITS and up to 2^28."""
        count = len(influences)
        spread = sum_of_squares(influences) * count - int(influences.sum()) ** 2
        return cls(value, Fraction(spread, count**3 << 2 * INFLUENCE_BITS))

    def above(self, noise: float) -> bool:
        """Whether the value is positive and more than `noise` standard errors, decided without rounding."""
        return self.value > 0 and self.value**2 > Fraction(noise) ** 2 * self.variance

    def reaches_above(self, noise: float) -> bool:
        """Whether the value and `noise` standard errors together are above 0: it may be harmless for all one knows."""
        return self.value > 0 or self.value**2 < Fraction(noise) ** 2 * self.variance


class Game:
    """The present model's class scores and the gradients' pushes (outputs, records), rounded to 34 bits together."""

    def __init__(self, validation: AnySet, base: Ints, pushes: Sequence[Ints]) -> None:
        self._validation = validation
        shift = self._shift = excess_bits([base, *pushes], _PUSH_BITS)
        self._shape = base.shape
        self._bits = validation.bits - shift + STEP_BITS
        self._base: Floats = rounded_shift(base, shift).ravel() * float(1 << STEP_BITS)
        self._pushes: Floats = np.empty((len(pushes), base.size))
        for place, push in enumerate(pushes):
            self._pushes[place] = rounded_shift(push, shift).ravel()

    @property
    def size(self) -> int:
        """How many class scores a model has."""
        return len(self._base)

    @property
    def count(self) -> int:
        """How many gradients there are."""
        return len(self._pushes)

    @property
    def outputs(self) -> int:
        """How many class scores or predictions a record has."""
        return int(self._shape[0])

    @property
    def records(self) -> int:
        """How many validation records there are."""
        return self._validation.records

    def measure(self, rows: Sequence[Sequence[int]]) -> Measured:
        """The worth of every row of multipliers (gradients,), which are not negative."""
        parts = list(self.measured(rows))
        values, influences = (np.concatenate([getattr(part, name) for part in parts]) for name in Measured.__slots__)
        return Measured(values, influences)

    def measured(self, rows: Sequence[Sequence[int]]) -> Iterator[Measured]:
        """The same, as many rows at once as fit into memory."""
        for scores in self._scores(rows):
            yield self._validation.metric.measure(scores, self._bits)

    def values(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The measured values alone."""
        return [int(v) for scores in self._scores(rows) for v in self._validation.metric.values(scores, self._bits)]

    def _scores(self, rows: Sequence[Sequence[int]]) -> Iterator[Floats]:
        many = max(1, _AT_ONCE // self.size)
        for start in range(0, len(rows), many):
            table = np.array(rows[start : start + many], dtype=np.float64)
            scores = table @ self._pushes
            scores += self._base
            yield scores.reshape(len(table), *self._shape)

    @property
    def weights(self) -> tuple[int, int]:
        """The shape of what `push` takes."""
        return self._linear().inputs.shape[1], self.outputs

    def push(self, direction: Ints) -> Ints:
        """What a direction of +1 and -1 adds to the class scores (outputs, records), in units of its own."""
        return self._linear().scores(direction)

    def _linear(self) -> ValidationSet:
        assert isinstance(self._validation, ValidationSet)  # other kinds of model have games of their own
        return self._validation

    def lengths(self) -> list[int]:
        """The lengths of the pushes in the game's units, rounded down."""
        return [isqrt(sum_of_squares(push.astype(np.int64))) for push in self._pushes]

    def beside(self, push: Ints, part: int) -> Measured:
        """The worth of the model with so many 2^STEP_BITS-ths of a push (outputs, records) that is no gradient's.

        The push is in the game's units, and cut off at 2^34.
        """
        limit = 1 << _PUSH_BITS
        scores = self._base + np.clip(push, -limit, limit).ravel() * float(part)
        return self._validation.metric.measure(scores.reshape(1, *self._shape), self._bits)

    def compare(self, better: Measured, worse: Measured) -> list[Estimate]:
        """How much the one better model (in its first row) is better than each of the others."""
        return [
            Estimate.of(Fraction(int(better.values[0] - value), 1 << VALUE_BITS), better.influences[0] - influences)
            for value, influences in zip(worse.values, worse.influences, strict=True)
        ]
