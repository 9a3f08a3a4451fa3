"""A validation set in the judge's integers: it scores a model exactly, and the same on every machine."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from capsule.judge._exact import BigInts, Floats, Ints
from capsule.judge.measure import Metric
from capsule.judge.metrics import metric_of
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec
from sonar.units import PPM, Ppm

__all__ = ["PULL_BOUND", "AnySet", "ValidationSet", "score"]

PULL_BOUND = (1 << 111) - 1
"""No integer of a pull is larger: it sums 2^22 products of inputs below 2^20 and class scores below 2^63."""

_INPUT_BITS = 16
_CLIP_BITS = 4
_HALF_BITS = 18
_LIMB_BITS = 16
_PULLED = 1 << 16
"""Records that are summed at once."""


class AnySet(Protocol):
    """A validation set that scores one kind of model."""

    @property
    def metric(self) -> Metric:
        """What knows the labels."""

    @property
    def bits(self) -> int:
        """The fractional bits of class scores."""

    @property
    def records(self) -> int:
        """How many records there are."""

    def scores(self, weights: Ints) -> Ints:
        """The class scores (outputs, records) of weights (rows, columns)."""

    def push(self, weights: Ints, move: Ints) -> Ints:
        """What a move (rows, columns) adds to the class scores (outputs, records) of weights (rows, columns)."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Scaled inputs (records, mapped features + 1) as integers at 2^input_bits, and the metric that knows the labels.

    `bits` are the fractional bits of the class scores that it gives.
    """

    inputs: Ints
    metric: Metric
    bits: int
    _floats: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_floats", self.inputs.astype(np.float64))

    @classmethod
    def of(cls, spec: Spec, features: Floats, labels: npt.NDArray[np.int64] | Floats) -> "ValidationSet":
        """The set in the spec's public scaling, at as many fractional bits as leave every class score below 2^62."""
        encoding = spec.encoding
        spare = 62 - _CLIP_BITS - encoding.weight_bits - encoding.weight_bound_bits - spec.shape[0].bit_length()
        input_bits = min(_INPUT_BITS, spare)
        inputs = np.rint(design_matrix(spec, features) * float(1 << input_bits)).astype(np.int64)
        return cls(inputs, metric_of(spec, labels), input_bits + encoding.weight_bits)

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.metric.records

    def scores(self, weights: Ints) -> Ints:
        """inputs @ weights as (outputs, records), exactly, for weights (features + 1, outputs) below 2^38.

        Thirty times as fast as in int64: the halves' sums of 2^11 products of 20 and 20 bits are below 2^53, so float64
        holds them whatever the order.
        """
        high, low = weights >> _HALF_BITS, weights & ((1 << _HALF_BITS) - 1)
        above, below = (half.T.astype(np.float64) @ self._floats.T for half in (high, low))
        exact: Ints = (above.astype(np.int64) << _HALF_BITS) + below.astype(np.int64)
        return exact

    def pull(self, move: Ints) -> BigInts:
        """inputs' @ (inputs @ move) as (features + 1, outputs), exactly, for a move that is below 2^37.

        The sum of what weights W add to all class scores, each times what the move adds to it, is that of W * pull.
        """
        pushed = self.scores(move)
        total: BigInts = np.zeros(move.shape, dtype=object)
        for shift in range(0, 64, _LIMB_BITS):
            # The highest keeps the sign. A block's sums are of 2^16 products of 20 and 16 bits, and so below 2^53.
            limb = pushed >> shift if shift + _LIMB_BITS == 64 else (pushed >> shift) & ((1 << _LIMB_BITS) - 1)
            part = np.zeros(move.shape, dtype=np.int64)
            for start in range(0, self.records, _PULLED):
                block = slice(start, start + _PULLED)
                part += (self._floats[block].T @ limb[:, block].T.astype(np.float64)).astype(np.int64)
            total = total + part.astype(object) * (1 << shift)
        return total

    def push(self, weights: Ints, move: Ints) -> Ints:  # noqa: ARG002  (it is the same for all weights)
        """What a move (features + 1, outputs) adds to the class scores (outputs, records), wherever it starts."""
        return self.scores(move)


def score(validation: AnySet, weights: Ints) -> Ppm:
    """The metric of weights (rows, columns) in ppm, rounded down."""
    found = validation.metric.exact(validation.scores(weights), validation.bits)
    return Ppm(found.numerator * PPM // found.denominator)
