"""Mini-batch gradient descent: one epoch as an affine map, composed in one pass; many epochs as its power.

The records are taken in their order, `batch_size` at a time, in every epoch alike. What remains at the end joins the
batch before it: a step on fewer records would show them, above all the last step. So the last batch has `batch_size` to
2 `batch_size` - 1 records, and fewer records than `batch_size` are one batch.

The step on batch b is W <- W - (rate / L_b) (H_b W - C_b), with H_b and C_b the batch's own (`sonar.syft.training`) and
L_b the largest eigenvalue of H_b. So every step is a contraction, and nothing need be known of the other records.

A step after a map is a map again. With M = [A - I | B] (features, features + outputs), kept in this form because A is
close to I when little is learnt, the step is M <- M - s H_b (M + [I | 0]) + s [0 | C_b], and a map after a map is
M_1 + M_2 + (A_2 - I) M_1. Powers by squaring: 2 log2(epochs) products.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from sonar.syft.encoding import Floats
from sonar.syft.engines.base import Progress
from sonar.syft.errors import TrainingError
from sonar.syft.statistics import Statistics, check_class_weights, check_shapes, effective_records, not_finite, weigh
from sonar.syft.training import CENTRE, CURVATURE, AffineMap, Loss, check_schedule, quadratic, step_size

__all__ = ["Epoch", "EpochBuilder"]


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """One epoch over `records` records as M = [A - I | B] (features, features + outputs); private as the records are.

    Rate, l2, loss, weights and batch size are in it; the number of epochs is not. With class weights the records count
    as `effective_records` of equal weight, and the batch in which this is least as `effective_batch`.
    """

    augmented: Floats = field(repr=False)
    records: int
    effective_records: float = field(repr=False)
    effective_batch: float = field(repr=False)

    def training_map(self, epochs: int, *, progress: Progress | None = None) -> AffineMap:
        """The affine map of `epochs` epochs, at least 1; raises TrainingError where it leaves float64."""
        check_schedule(epochs, 1.0, 0.0, "ridge")
        features = len(self.augmented)
        with np.errstate(over="ignore", invalid="ignore"):
            power = _power(self.augmented, epochs, progress)
        return AffineMap.checked(power[:, :features].copy(), power[:, features:].copy(), norm=2.0)


class EpochBuilder:
    """Takes records in chunks of any size and composes an `Epoch`, in memory O(features^2) whatever the batch size.

    A full batch is held back until the next one is full too, because the last one takes what remains. After an error
    the builder is of no more use.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        batch_size: int,
        rate: float,
        l2: float,
        loss: Loss = "ridge",
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        """`features` counts the bias; raises TrainingError for a batch size below 1 and a schedule out of range."""
        check_schedule(1, rate, l2, loss)
        check_class_weights(class_weights, outputs)
        if batch_size < 1:
            raise TrainingError(f"a batch size of {batch_size} takes no record: give at least 1")
        self.records = 0
        self._rate, self._l2, self._loss = rate, l2, loss
        self._shape, self._batch_size, self._class_weights = (features, outputs), batch_size, class_weights
        self._augmented = np.zeros((features, features + outputs))
        self._steps = 0
        self._held = 0
        self._weight, self._squares, self._effective_batch = 0.0, 0.0, np.inf
        # A step by the records multiplies the map by X and by X', one by X'X does so once, after X'X was made. With few
        # records the former is less, L is quicker to find, and they take no more memory than X'X. Measured for 64 to
        # 2048 features it is up to 4 times as quick, as quick at 0.9 times as many records as features, slower beyond.
        self._small = 4 * batch_size <= 3 * features
        room = 2 * batch_size if self._small else 0
        self._rows, self._aims = np.empty((room, features)), np.empty((room, outputs))
        self._sums, self._next_sums = self._no_sums(), self._no_sums()

    def __repr__(self) -> str:
        return f"EpochBuilder(records={self.records})"

    def add_batch(self, design: Floats, targets: Floats) -> Self:
        """Takes the next records: design (records, features), targets (records, outputs); returns self.

        Raises TrainingError for wrong shapes and values that are not finite.
        """
        check_shapes(design, targets, *self._shape)
        start = 0
        while start < len(design):
            stop = min(len(design), start + self._batch_size - self._held % self._batch_size)
            self._hold(design[start:stop], targets[start:stop])
            if self._held == 2 * self._batch_size:
                self._step(self._batch_size)
            start = stop
        self.records += len(design)
        return self

    def finish(self) -> Epoch:
        """The epoch of all records so far, the last of which are one batch; takes no more of them.

        Raises TrainingError for no records, and for records in which every feature is zero.
        """
        if self.records < 1:
            raise TrainingError("there are no records to train on: add data first")
        self._sums.join(self._next_sums)
        self._step(self._held)
        if not self._steps:
            raise TrainingError("every feature is zero in every record: there is nothing to learn from")
        return Epoch(
            self._augmented, self.records, effective_records(self._weight, self._squares), self._effective_batch
        )

    def _hold(self, design: Floats, targets: Floats) -> None:
        if self._small:
            place = slice(self._held, self._held + len(design))
            self._rows[place], self._aims[place] = design, targets
        else:
            sums = self._sums if self._held < self._batch_size else self._next_sums
            sums.add_batch(design, targets)
        self._held += len(design)

    def _step(self, records: int) -> None:
        """Takes the first so many of the held records as a batch."""
        with np.errstate(over="ignore", invalid="ignore"):
            done = self._step_by_records(records) if self._small else self._step_by_sums()
        self._steps += done
        self._held -= records
        if self._small:
            rest = slice(records, records + self._held)
            self._rows[: self._held], self._aims[: self._held] = self._rows[rest], self._aims[rest]
        else:
            self._sums, self._next_sums = self._next_sums, self._no_sums()

    def _step_by_sums(self) -> bool:
        hessian, aim = quadratic(self._sums, self._loss)
        self._count(self._sums.weight, self._sums.squares)
        features = len(hessian)
        hessian[np.diag_indices(features)] += self._l2
        step = step_size(self._rate, float(np.linalg.eigvalsh(hessian)[-1]))
        if step is None:  # the batch is zero, and so is its gradient
            return False
        hessian *= step
        self._augmented -= hessian @ self._augmented
        self._augmented[:, :features] -= hessian
        self._augmented[:, features:] += step * aim
        return True

    def _step_by_records(self, records: int) -> bool:
        """The same with H_b = h Z'Z + l2 I, whose largest eigenvalue is that of h Z'Z or h ZZ', plus l2."""
        design, targets = self._rows[:records], self._aims[:records]
        rows, aims, weight, squares = weigh(design, targets, self._class_weights)
        self._count(weight, squares)
        curvature, centre, features = CURVATURE[self._loss], CENTRE[self._loss], rows.shape[1]
        kernel = rows @ rows.T if records < features else rows.T @ rows
        if not (np.isfinite(kernel).all() and np.isfinite(aims).all()):
            raise not_finite(design, targets)
        if centre and not (design[:, -1] == 1).all():
            raise TrainingError(f"the loss {self._loss!r} needs a constant 1 as the last column of the design")
        factor = curvature / weight
        step = step_size(self._rate, factor * max(0.0, float(np.linalg.eigvalsh(kernel)[-1])) + self._l2)
        if step is None:
            return False
        # With the last column of X a constant 1, that of the weighted rows is the roots of the weights.
        residual = rows @ self._augmented
        residual[:, :features] += rows
        residual[:, features:] -= (aims - centre * rows[:, -1:]) / curvature
        residual *= step * factor
        self._augmented *= 1 - step * self._l2
        self._augmented[np.diag_indices(features)] -= step * self._l2
        self._augmented -= rows.T @ residual
        return True

    def _count(self, weight: float, squares: float) -> None:
        self._weight += weight
        self._squares += squares
        self._effective_batch = min(self._effective_batch, effective_records(weight, squares))

    def _no_sums(self) -> Statistics:
        return Statistics.empty(*self._shape, class_weights=self._class_weights)


def _power(augmented: Floats, epochs: int, progress: Progress | None) -> Floats:
    result: Floats | None = None
    squarings = epochs.bit_length()
    while True:
        if progress is not None:
            progress(1 - epochs.bit_length() / squarings)
        if epochs & 1:
            result = augmented if result is None else _then(result, augmented)
        epochs >>= 1
        if not epochs:
            return result if result is not None else augmented
        augmented = _then(augmented, augmented)


def _then(first: Floats, second: Floats) -> Floats:
    composed: Floats = first + second + second[:, : len(second)] @ first
    return composed
