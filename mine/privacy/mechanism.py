"""The Gaussian mechanism on a data set's sums: X'X and X'Y with discrete noise, released once and used for ever.

The upper triangle of X'X gets noise of variance V on its diagonal and V / 2 beside it, X'Y of V. A record x, y adds
x_i x_j and x_i y_k, in integers with |x|^2 and |x| |y| at most S (`mine.privacy.clipping`), so between neighbours

    sum_i x_i^4 / 2V + sum_{i<j} x_i^2 x_j^2 / V + sum_ik x_i^2 y_k^2 / 2V = (|x|^4 + |x|^2 |y|^2) / 2V <= S^2 / V = rho

by the multivariate theorem of Canonne, Kamath and Steinke (NeurIPS 2020) on independent discrete Gaussians. Noise
beside the diagonal has half the variance because its entries stand twice in X'X: the sum over the triangle is then that
of the Frobenius norm, and the noise has no preferred direction. Neighbours differ by one record more or less; for one
record exchanged by another rho is four times as much.
"""

import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mine.errors import LedgerError
from mine.privacy.clipping import SENSITIVITY, Clip, IntegerSums, Ints
from mine.privacy.gaussian import DiscreteGaussian
from sonar import canonical

__all__ = ["NoisedSums", "variance_for"]


class Source(Protocol):
    """What draws noise."""

    def __call__(self, variance: int) -> "Draws":
        """Noise of a variance."""
        ...


class Draws(Protocol):
    """Noise of one variance."""

    def draw(self, count: int) -> Ints:
        """So many independent integers (count,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NoisedSums:
    """What was released: X'X (features, features) and X'Y (features, outputs) with noise, in units of the grid.

    The Capsule may know them; whoever reads them learns no more of a record than rho allows.
    """

    clip: Clip
    variance: int
    gram: Ints = field(repr=False)
    moment: Ints = field(repr=False)
    class_weights: tuple[float, ...] | None = None

    @property
    def rho(self) -> Fraction:
        """The zCDP that they cost, exactly."""
        return Fraction(SENSITIVITY**2, self.variance)

    @classmethod
    def release(cls, sums: IntegerSums, rho: Fraction, *, source: Source = DiscreteGaussian) -> Self:
        """Sums with noise for a cost of at most rho; each call costs that again."""
        variance = variance_for(rho)
        features, outputs = sums.moment.shape
        full, half = source(variance), source(variance // 2)
        gram = sums.gram.copy()
        upper = np.triu_indices(features, 1)
        gram[upper] += half.draw(len(upper[0]))
        gram[upper[::-1]] = gram[upper]
        gram[np.diag_indices(features)] += full.draw(features)
        moment = sums.moment + full.draw(features * outputs).reshape(features, outputs)
        return cls(sums.clip, variance, gram, moment, sums.class_weights)

    def to_bytes(self) -> bytes:
        """As the ledger keeps it: safetensors with one key of canonical JSON."""
        header = {
            "clip": [self.clip.rows, self.clip.targets], "variance": str(self.variance),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
        }  # fmt: skip
        return save({"gram": self.gram, "moment": self.moment}, {"sonar": canonical.dumps(header).decode()})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """What `to_bytes` wrote; raises LedgerError for anything else."""
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            values = json.loads(header["__metadata__"]["sonar"])
            weights = values["class_weights"]
            return cls(
                Clip(*values["clip"]), int(values["variance"]), tensors["gram"], tensors["moment"],
                None if weights is None else tuple(weights),
            )  # fmt: skip
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise LedgerError("a noised statistic in the ledger cannot be read: the file was damaged") from error


def variance_for(rho: Fraction) -> int:
    """The least even variance for which the noised sums cost at most rho > 0."""
    half = Fraction(SENSITIVITY**2, 2) / rho
    return 2 * -(-half.numerator // half.denominator)
