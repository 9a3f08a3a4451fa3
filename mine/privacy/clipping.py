"""Records as integers of bounded norm, and their exact sums: what noise of a known size can hide.

A record is a row x of the design, with its constant 1 last, and a row y of targets. With R the clip of rows and B that
of targets, it is taken as f x and f y', where y' is y cut to norm B and

    f = sqrt(v) min(1, R / |x|)

with v <= 1 its class weight. So a record that lies far out counts for less, as in weighted least squares, and is not
bent: its x and y still belong together. f x / R and f y' / B then go to a grid of 2^-16, and

    |x|^2 <= 2^32,   |x| |y| <= 2^32   for every record, in integers, whatever it holds:

adding or removing one moves X'X by at most 2^32 in Frobenius norm, and X'Y by as much. Nothing here depends on another
record: each step on floats is one operation of IEEE 754, elementwise; sums are of integers, in any order the same.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from sonar.syft._blas import small_matrices
from sonar.syft.errors import TrainingError
from sonar.syft.features import CLIP
from sonar.syft.statistics import Batches, check_shapes, fold, not_finite

__all__ = ["SENSITIVITY", "Clip", "IntegerSums"]

GRID_BITS = 16
_LIMIT = 1 << 2 * GRID_BITS
SENSITIVITY = _LIMIT
"""How far one record moves X'X, and X'Y, at most: in the Frobenius norm, in units of the grid."""
MAX_RECORDS = 1 << 28
"""Sums stay below 2^60, which leaves int64 room for noise."""
_FINE_BITS = 20
"""Of what norms are computed from: 2048 squares of 16 * 2^20 are below 2^63."""
_CHUNK = 4096
"""Records multiplied at once: sums of so many products of 2^32 are below 2^53, so float64 holds them exactly."""
_BELOW = 1 - 2.0**-40

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clip:
    """The norms that rows of the design, the constant 1 counted, and of the targets are clipped to."""

    rows: float
    targets: float

    @classmethod
    def of(cls, outputs: int, clip: float, targets: float) -> Self:
        """For `outputs` mapped features that may have a root mean square of `clip`."""
        return cls(math.sqrt(1 + clip * clip * outputs), targets)


@dataclass(slots=True, eq=False)
class IntegerSums:
    """X'X (features, features) and X'Y (features, outputs) of clipped records, in units of the grid.

    They are as private as the records, so a repr does not show them. `clip` says what a unit is. `class_weights` are
    normalised to at most 1, so only their ratios matter.
    """

    clip: Clip
    gram: Ints = field(repr=False)
    moment: Ints = field(repr=False)
    class_weights: tuple[float, ...] | None = field(default=None, repr=False)
    records: int = field(default=0, repr=False)

    @classmethod
    def empty(cls, features: int, outputs: int, clip: Clip, class_weights: tuple[float, ...] | None = None) -> Self:
        """The sums of no records; `features` counts the bias."""
        gram = np.zeros((features, features), dtype=np.int64)
        return cls(clip, gram, np.zeros((features, outputs), dtype=np.int64), class_weights)

    @classmethod
    def of(
        cls, batches: Batches, features: int, outputs: int, clip: Clip, class_weights: tuple[float, ...] | None = None
    ) -> Self:
        """The sums over a stream of batches, in one pass."""
        with small_matrices(features):
            return fold(cls.empty(features, outputs, clip, class_weights), batches)

    def add_batch(self, design: Floats, targets: Floats) -> Self:
        """Adds records in place and returns self: design (records, features), targets (records, outputs).

        What lies outside of +-16 is clipped. Raises TrainingError for shapes that do not fit, values that are not
        finite, and more records than sums have room for.
        """
        check_shapes(design, targets, *self.moment.shape)
        if self.records + len(design) > MAX_RECORDS:
            raise TrainingError(f"the sums have room for {MAX_RECORDS} records, and there are more: use a part of them")
        for start in range(0, len(design), _CHUNK):
            part = slice(start, start + _CHUNK)
            rows, aims = self.integers(design[part], targets[part])
            whole = rows.astype(np.float64)
            self.gram += (whole.T @ whole).astype(np.int64)
            self.moment += (whole.T @ aims.astype(np.float64)).astype(np.int64)
        self.records += len(design)
        return self

    def integers(self, design: Floats, targets: Floats) -> tuple[Ints, Ints]:
        """The records as they are summed: integers (records, features) and (records, outputs) of bounded norm."""
        if not (np.isfinite(design).all() and np.isfinite(targets).all()):
            raise not_finite(design, targets)
        fine, squares = _fine(design)
        limit = self.clip.rows**2 * 4.0**_FINE_BITS
        factor = np.sqrt(np.minimum(1.0, limit / np.maximum(squares, 1)))
        if self.class_weights is not None:
            roots = np.sqrt(np.array(self.class_weights) / max(self.class_weights))
            factor *= roots[targets.argmax(axis=1)]
        aims, aim_squares = _fine(targets)
        aim_factor = factor * np.sqrt(
            np.minimum(1.0, self.clip.targets**2 * 4.0**_FINE_BITS / np.maximum(aim_squares, 1))
        )
        return _grid(fine, factor / self.clip.rows), _grid(aims, aim_factor / self.clip.targets)


def _fine(values: Floats) -> tuple[Floats, Ints]:
    """Values as integers of 20 fractional bits, and the exact squares of the rows' norms (records,)."""
    fine = np.rint(np.clip(values, -CLIP, CLIP) * 2.0**_FINE_BITS)
    whole = fine.astype(np.int64)
    return fine, np.einsum("ij,ij->i", whole, whole)


def _grid(fine: Floats, factor: Floats) -> Ints:
    """Rows times their factors on the grid, each of norm at most 1 there: to the nearest, and inwards where need be."""
    scaled = fine * (factor * 2.0 ** (GRID_BITS - _FINE_BITS))[:, None]
    whole = np.rint(scaled).astype(np.int64)
    over = np.einsum("ij,ij->i", whole, whole) > _LIMIT
    if over.any():
        whole[over] = np.trunc(scaled[over] * _BELOW).astype(np.int64)
    # What all promises rest on is not left to reasoning about floats.
    if (np.einsum("ij,ij->i", whole, whole) > _LIMIT).any():
        raise AssertionError("a clipped record is longer than its bound")
    return whole
