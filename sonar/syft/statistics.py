"""Sums over a data set's records: one pass, in memory that does not grow with the records."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import numpy as np

from sonar.syft._blas import small_matrices
from sonar.syft.encoding import Floats
from sonar.syft.engines.base import Progress
from sonar.syft.errors import TrainingError

__all__ = [
    "MAX_WEIGHT_RATIO", "Accumulator", "Batches", "Statistics", "check_class_weights", "effective_records", "fold",
    "weigh",
]  # fmt: skip

Batches = Iterable[tuple[Floats, Floats]]
"""Design (records, features), the last column a constant 1, and targets (records, outputs); any number of records."""

CHUNK = 4096
"""Records that are multiplied at once: 64 features of them stay in a core's cache between X'X and X'Y."""
MAX_WEIGHT_RATIO = 100.0
"""The largest class weight over the smallest: beyond it a rare class's records stand alone, however many others."""


_TOLD_EVERY = 1 << 14
"""Records between two calls of a progress callback."""


class Accumulator(Protocol):
    """What takes records batch by batch."""

    records: int

    def add_batch(self, design: Floats, targets: Floats) -> Self:
        """Adds records in place and returns self."""
        ...


Taker = TypeVar("Taker", bound=Accumulator)


def fold(accumulator: Taker, batches: Batches, *, total: int | None = None, progress: Progress | None = None) -> Taker:
    """Gives an accumulator every batch of a stream; it is returned.

    `progress` is told the part of `total` records that is done, within large batches as well, and 1 at the end; it
    needs `total`, which may be an estimate. Raises TrainingError as the accumulator does.
    """
    if progress is not None and not total:
        raise TrainingError(f"a total of {total} records has no parts to report: give the number of records as total")
    for design, targets in batches:
        if progress is None or not total or len(design) != len(targets):
            accumulator.add_batch(design, targets)
            continue
        for start in range(0, len(design), _TOLD_EVERY):
            part = slice(start, start + _TOLD_EVERY)
            accumulator.add_batch(design[part], targets[part])
            progress(min(1.0, accumulator.records / total))
    if progress is not None:
        progress(1.0)
    return accumulator


@dataclass(slots=True, eq=False)
class Statistics:
    """The sufficient statistics of a data set for full-batch training: memory does not grow with the records.

    With v_n the weight of record n (1 unless there are class weights), `gram` is the sum of v_n x_n x_n' (features,
    features), `moment` that of v_n x_n y_n' (features, outputs), `weight` that of v_n and `squares` that of v_n^2, over
    `records` records. All are as private as the records, so a repr does not show them.
    """

    gram: Floats = field(repr=False)
    moment: Floats = field(repr=False)
    records: int
    weight: float = field(repr=False)
    squares: float = field(repr=False)
    class_weights: tuple[float, ...] | None = field(default=None, repr=False)

    @property
    def effective_records(self) -> float:
        """As how many records of equal weight the data set counts."""
        return effective_records(self.weight, self.squares)

    @property
    def effective_batch(self) -> float:
        """The same of the smallest batch, which here is all records."""
        return self.effective_records

    @classmethod
    def empty(cls, features: int, outputs: int, *, class_weights: tuple[float, ...] | None = None) -> Self:
        """The statistics of no records; `features` counts the bias.

        With `class_weights`, one above 0 for each output, every record counts as its class does, and targets must be
        one-hot. Raises TrainingError for other class weights, and where one is above MAX_WEIGHT_RATIO times another.
        """
        check_class_weights(class_weights, outputs)
        return cls(np.zeros((features, features)), np.zeros((features, outputs)), 0, 0.0, 0.0, class_weights)

    @classmethod
    def of(
        cls,
        batches: Batches,
        features: int,
        outputs: int,
        *,
        class_weights: tuple[float, ...] | None = None,
        total: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """The statistics of a stream of batches, in one pass; `total` and `progress` as in `fold`."""
        empty = cls.empty(features, outputs, class_weights=class_weights)
        with small_matrices(features):
            return fold(empty, batches, total=total, progress=progress)

    def add_batch(self, design: Floats, targets: Floats) -> Self:
        """Adds records in place and returns self: design (records, features), targets (records, outputs).

        Large batches are cut into chunks, so that a memory-mapped array of any size and type may be one batch. Raises
        TrainingError for wrong shapes, values that are not finite, and sums beyond float64; nothing is added then.
        """
        features, outputs = self.moment.shape
        check_shapes(design, targets, features, outputs)
        gram, moment, weight, squares = np.zeros_like(self.gram), np.zeros_like(self.moment), 0.0, 0.0
        # What is not finite stays so in a sum: one look at the sums, instead of one at every record.
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(design), CHUNK):
                rows, aims, part, part_squares = weigh(
                    design[start : start + CHUNK], targets[start : start + CHUNK], self.class_weights
                )
                gram += rows.T @ rows
                moment += rows.T @ aims
                weight += part
                squares += part_squares
        if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
            raise not_finite(design, targets)
        with np.errstate(over="ignore"):  # `training_map` looks at the whole
            self.gram += gram
            self.moment += moment
        self.records += len(design)
        self.weight += weight
        self.squares += squares
        return self

    def join(self, other: Self) -> Self:
        """Adds another data set's statistics, of the same shape and class weights, in place and returns self."""
        with np.errstate(over="ignore"):  # `training_map` looks at the whole
            self.gram += other.gram
            self.moment += other.moment
        self.records += other.records
        self.weight += other.weight
        self.squares += other.squares
        return self


def check_class_weights(class_weights: tuple[float, ...] | None, outputs: int) -> None:
    """Raises TrainingError unless there are none, or a finite one above 0 for each output, no two far apart."""
    if class_weights is None:
        return
    if len(class_weights) != outputs:
        raise TrainingError(f"there are {len(class_weights)} class weights for {outputs} classes: give one for each")
    for weight in class_weights:
        if not 0 < weight < np.inf:
            raise TrainingError(f"a class weight is {weight}: give a finite number above 0")
    least, most = min(class_weights), max(class_weights)
    if most / MAX_WEIGHT_RATIO > least:
        raise TrainingError(
            f"the class weight {most:g} is above {MAX_WEIGHT_RATIO:g} times the class weight {least:g}, so that a few "
            "records would outweigh and not hide among the others: give weights closer together"
        )


def effective_records(weight: float, squares: float) -> float:
    """(sum v)^2 / (sum v^2): the number of records if all weigh the same, 1 if one outweighs all others.

    A billionth is added, so that n equal weights make no less than n in rounded arithmetic.
    """
    return weight / squares * weight * (1 + 1e-9) if squares > 0 else 0.0


def check_shapes(design: Floats, targets: Floats, features: int, outputs: int) -> None:
    """Raises TrainingError unless a batch is (records, features) and (records, outputs)."""
    if np.ndim(design) != 2 or np.shape(design)[1] != features or np.shape(targets) != (len(design), outputs):
        raise TrainingError(
            f"a batch has design {np.shape(design)} and targets {np.shape(targets)}, but the statistics need "
            f"(records, {features}) and (records, {outputs})"
        )


def weigh(
    design: Floats, targets: Floats, class_weights: tuple[float, ...] | None
) -> tuple[Floats, Floats, float, float]:
    """A batch in double precision, its records times the root of their weights, and these weights' sum and squares'."""
    rows, aims = np.asarray(design, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if class_weights is None:
        return rows, aims, float(len(rows)), float(len(rows))
    if not (((aims == 0) | (aims == 1)).all() and (aims @ np.ones(aims.shape[1]) == 1).all()):
        raise TrainingError("class weights need one-hot targets: a 1 for the record's class and 0 elsewhere")
    weights = aims @ np.array(class_weights)
    roots = np.sqrt(weights)[:, None]
    return rows * roots, aims * roots, float(weights.sum()), float(weights @ weights)


def not_finite(design: Floats, targets: Floats) -> TrainingError:
    """Why sums over these records are not finite."""
    for name, values in (("features", design), ("targets", targets)):
        bad = next((start for start in range(0, len(values), CHUNK)
                    if not np.isfinite(values[start : start + CHUNK]).all()), None)  # fmt: skip
        if bad is not None:
            record = bad + int(np.argwhere(~np.isfinite(values[bad : bad + CHUNK]))[0][0])
            return TrainingError(
                f"a batch of {len(design)} records has {name} that are not finite, first in its record {record + 1}: "
                "clean the data"
            )
    return TrainingError(f"the sums over a batch of {len(design)} records overflow float64: scale the features")
