"""R2, the metric of regressions, in exact integers; `capsule.judge.measure` says what a metric tells."""

from fractions import Fraction

import numpy as np

from capsule.judge._exact import Floats, Ints, times_ratio
from capsule.judge.measure import INFLUENCE_BITS, VALUE_BITS, Measured, Metric, Scores, clipped
from sonar.protocol.payloads import TARGET_BITS

__all__ = ["Determination"]

_LARGEST_ERROR = 1 << 31
"""An error of 2^15 scales. One such leaves at most 2^22 targets within 16 scales no R2 above 0, so no score changes."""
_ERROR_LIMIT = 1 << 34


class Determination(Metric):
    """R2, the part of the targets' variance that is predicted: the mean over targets, and 0 where that is negative."""

    def __init__(self, targets: Floats) -> None:
        """`targets` (records, targets) are integers at 2^16, at most 2^20 in magnitude, none of them constant."""
        self._targets = np.ascontiguousarray(targets.T.astype(np.int64))
        count = targets.shape[0]
        self._spread = [Fraction(count * int((t * t).sum()) - int(t.sum()) ** 2, count) for t in self._targets]
        means = [int(t.sum()) // count for t in self._targets]
        deviations = self._targets - np.array(means)[:, None]
        self._deviations = deviations * deviations >> TARGET_BITS

    @property
    def records(self) -> int:
        return int(self._targets.shape[1])

    def exact(self, scores: Ints, bits: int) -> Fraction:
        missed = [_sum_of_parts(e * e) for e in self._errors(scores, bits)]
        return self._determined(missed)

    def measure(self, scores: Scores, bits: int) -> Measured:
        values = np.zeros(len(scores), dtype=np.int64)
        influences = np.zeros((len(scores), self.records), dtype=np.int64)
        for model, one in enumerate(scores):
            squares = [e * e for e in self._errors(one, bits)]
            missed = [_sum_of_parts(row) for row in squares]
            found = self._determined(missed)
            values[model] = (found.numerator << VALUE_BITS) // found.denominator
            if found:
                influences[model] = self._influence(squares, missed)
        return Measured(values, clipped(influences))

    def _errors(self, scores: Scores, bits: int) -> Ints:
        shift = bits - TARGET_BITS
        rounded = (scores.astype(np.int64) + ((1 << shift) >> 1)) >> shift
        errors: Ints = np.clip(rounded - self._targets, 1 - _LARGEST_ERROR, _LARGEST_ERROR - 1)
        return errors

    def _determined(self, missed: list[int]) -> Fraction:
        parts = [1 - Fraction(m) / spread for m, spread in zip(missed, self._spread, strict=True)]
        return max(Fraction(), sum(parts, Fraction()) / len(parts))

    def _influence(self, squares: list[Ints], missed: list[int]) -> Ints:
        """-n / spread * (error^2 - missed / spread * deviation^2), the mean over targets."""
        total = np.zeros(self.records, dtype=np.int64)
        for row, part, spread, deviations in zip(squares, missed, self._spread, self._deviations, strict=True):
            ratio = Fraction(part) / spread
            fair = np.minimum(times_ratio(deviations, ratio.numerator, ratio.denominator), _ERROR_LIMIT)
            excess = np.minimum(row >> TARGET_BITS, _ERROR_LIMIT) - fair
            # Squares have 2 * 16 fractional bits, of which 16 are left here; the spread has all.
            scale = Fraction(self.records << INFLUENCE_BITS + TARGET_BITS) / (spread * len(squares))
            total -= times_ratio(excess, scale.numerator, scale.denominator)
        return total


def _sum_of_parts(numbers: Ints) -> int:
    """The sum of at most 2^31 numbers, each not negative and below 2^63."""
    return (int((numbers >> 31).sum()) << 31) + int((numbers & ((1 << 31) - 1)).sum())
