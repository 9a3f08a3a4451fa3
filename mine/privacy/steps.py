"""What a round of a network costs: noise on every step's sum of clipped gradients, and its zCDP.

Each record is seated in one batch of every epoch, at random and whatever other records there are. Its gradient is cut
to the clip C and put on a grid of C / 2^16, as integers of norm at most S = 2^16, so that one record more or less moves
one sum of every epoch by at most S in Euclidean norm, and no other. Every number of every sum gets discrete Gaussian
noise of variance V. So a round of E epochs costs

    rho = E S^2 / (2 V)

by the multivariate theorem of Canonne, Kamath and Steinke (NeurIPS 2020), in an epoch for the one batch that a record
is in, and epochs add up, though each depends on what the one before told. Whether noise hides which batch a record is
in is not asked: nothing is claimed for chance ("amplification by sampling"), so nothing rests on it. That seats are
drawn costs nothing: given everybody else's seat, the bound holds for each seat that the one record may have, and
Renyi divergences are quasi-convex (T. van Erven, P. Harremoes, Renyi divergence and Kullback-Leibler divergence, 2014).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from mine.privacy.clipping import GRID_BITS

__all__ = ["Noise", "length_of_noise", "variance_of_round"]

SQUARED_SENSITIVITY = 1 << 2 * GRID_BITS
"""The square of how far one record moves a step's sum at most, in units of the grid."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How a round is noised: all of it public, and none of it taken from the records.

    `variance` of each number of a step's sum, in units of the grid; `clip` the length to which each record's gradient
    is cut; `records` their number as the owner declared it, to two digits, by which batches and means are made.
    """

    variance: int
    clip: float
    records: int

    @property
    def most(self) -> int:
        """The most records that are declared as so many: for these time and memory are taken, whatever there are."""
        return max(1, self.records * 11 // 10)

    def batches(self, batch_size: int) -> int:
        """Into how many batches records are dealt, of about so many each."""
        return max(1, math.ceil(self.records / batch_size))

    def per_batch(self, batch_size: int) -> float:
        """How many records a batch is expected to have: what its sum is divided by."""
        return max(1, self.records) / self.batches(batch_size)

    def rho(self, epochs: int) -> Fraction:
        """The zCDP of a round, exactly."""
        return Fraction(epochs * SQUARED_SENSITIVITY, 2 * self.variance)


def variance_of_round(rho: Fraction, epochs: int) -> int:
    """The least variance for which a round of so many epochs costs at most rho > 0."""
    least = Fraction(epochs * SQUARED_SENSITIVITY, 2) / rho
    return -(-least.numerator // least.denominator)


def length_of_noise(rho: Fraction, parameters: int, records: int, batches: int) -> float:
    """How many times as long the noise of a round is, all its steps together, as all that its records can add.

    The records add most where every gradient is as long as the clip and all point one way: sqrt(parameters * batches /
    (2 rho)) / records, whatever clip and epochs are.
    """
    return math.sqrt(parameters * batches / (2 * float(rho))) / max(1, records)
