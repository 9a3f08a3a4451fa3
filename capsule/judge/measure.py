"""What a metric tells of models: their values, and what each record adds to them, in integers.

The noise of a metric is that of its records. A mean of records has it from their spread; other metrics are linearised:
`influence` is what a record adds to the metric, to the first order (Hampel, "The Influence Curve and Its Role in Robust
Estimation", 1974; the infinitesimal jackknife of Jaeckel, 1972). For the area under the curve that gives the structural
components of DeLong, DeLong and Clarke-Pearson (1988), for ratios such as F1 and R2 the delta method.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from capsule.judge._exact import Floats, Ints

__all__ = ["INFLUENCE_BITS", "VALUE_BITS", "Measured", "Metric", "Scores", "clipped"]

VALUE_BITS = 36
"""The fractional bits of a measured value: a part of the score, 2^36 being a score of 1."""
INFLUENCE_BITS = 14
_LARGEST_INFLUENCE = 1 << 26
"""4,096 scores. Only where a class has less than one record in thousands is a record's influence cut off."""

Scores = Floats | Ints


@dataclass(frozen=True, slots=True)
class Measured:
    """Values (models,) at 2^VALUE_BITS, and influences (models, records) at 2^INFLUENCE_BITS, rounded down both.

    A value differs from what it would be on all records in the world by about the mean of its row of influences.
    """

    values: Ints
    influences: Ints


class Metric(ABC):
    """A metric on one validation set, for class scores or predictions of integers at 2^bits, (outputs, records)."""

    centred = False
    """Whether adding one number to all of a record's scores changes nothing."""

    @property
    @abstractmethod
    def records(self) -> int:
        """How many records there are."""

    @abstractmethod
    def exact(self, scores: Ints, bits: int) -> Fraction:
        """The metric of one model, 0 to 1."""

    @abstractmethod
    def measure(self, scores: Scores, bits: int) -> Measured:
        """The same of many models (models, outputs, records), with what each record adds; scores are integers."""

    def values(self, scores: Scores, bits: int) -> Ints:
        """The measured values alone."""
        return self.measure(scores, bits).values


def clipped(influences: Ints) -> Ints:
    """Influences at most as large as fits."""
    found: Ints = np.clip(influences, -_LARGEST_INFLUENCE, _LARGEST_INFLUENCE)
    return found
