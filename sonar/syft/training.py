"""Local training of a ridge model as one affine map of its weights.

Full-batch gradient descent on the ridge loss is W <- W - (rate / L) (H W - C) with H = X'X / N + l2 I, C = X'Y / N and
L the largest eigenvalue of H. After T epochs it is W <- A W + B with A = (I - rate / L * H)^T and
B = (I - A) H^{-1} C, which the eigenvectors of H give in closed form, whatever T is. So a whole training run on N
records costs one homomorphic map: Enc(change) = (A - I) Enc(W) + B.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from sonar.syft.encoding import Floats
from sonar.syft.errors import TrainingError

__all__ = ["AffineMap", "Statistics", "training_map"]

_SLACK = 1e-9


@dataclass(slots=True, eq=False)
class Statistics:
    """The sufficient statistics of a data set for ridge training: memory does not grow with the records.

    `gram` is X'X (features, features) and `moment` X'Y (features, outputs) over `records` records. They are as private
    as the records, so a repr does not show them.
    """

    gram: Floats = field(repr=False)
    moment: Floats = field(repr=False)
    records: int

    @classmethod
    def empty(cls, features: int, outputs: int) -> Self:
        """The statistics of no records; `features` counts the bias."""
        return cls(np.zeros((features, features)), np.zeros((features, outputs)), 0)

    def add_batch(self, design: Floats, targets: Floats) -> Self:
        """Adds records in place and returns self: design (records, features), targets (records, outputs).

        Raises TrainingError for wrong shapes and for values that are not finite.
        """
        features, outputs = self.moment.shape
        design, targets = np.asarray(design, dtype=np.float64), np.asarray(targets, dtype=np.float64)
        if design.ndim != 2 or design.shape[1] != features or targets.shape != (len(design), outputs):
            raise TrainingError(
                f"a batch has design {design.shape} and targets {targets.shape}, but the statistics need "
                f"(records, {features}) and (records, {outputs})"
            )
        if not (np.isfinite(design).all() and np.isfinite(targets).all()):
            raise TrainingError(f"a batch of {len(design)} records has values that are not finite: clean the data")
        self.gram += design.T @ design
        self.moment += design.T @ targets
        self.records += len(design)
        return self


@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """Training as a map of the weights: their change is `change` W + `constant`.

    `change` is A - I (features, features), negative semidefinite with norm at most 1; `constant` is B (features,
    outputs). Both tell much about the records, so a repr does not show them.
    """

    change: Floats = field(repr=False)
    constant: Floats = field(repr=False)


def training_map(statistics: Statistics, *, epochs: int, rate: float, l2: float) -> AffineMap:
    """The affine map of `epochs` steps of gradient descent with step `rate` / L, 0 < rate <= 1, and ridge `l2` >= 0.

    float64 throughout. Raises TrainingError for no records, statistics without information, or a schedule outside the
    ranges above.
    """
    if epochs < 1 or not 0 < rate <= 1 or not 0 <= l2 < np.inf:
        raise TrainingError(f"epochs {epochs}, rate {rate}, l2 {l2}: need epochs >= 1, 0 < rate <= 1 and l2 >= 0")
    if statistics.records < 1:
        raise TrainingError("there are no records to train on: add data first")
    gram, moment = statistics.gram / statistics.records, statistics.moment / statistics.records
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        raise TrainingError("the statistics overflow float64: scale the features")
    eigenvalues, vectors = np.linalg.eigh((gram + gram.T) / 2)
    curvature = np.maximum(eigenvalues, 0.0) + l2
    step = rate / curvature[-1] if curvature[-1] > 0 else np.inf
    if not np.isfinite(step):
        raise TrainingError("every feature is zero in every record: there is nothing to learn from")
    # expm1(T log1p(-x)) keeps full precision for small x, and log1p(-1) = -inf is the exact limit A = 0.
    with np.errstate(divide="ignore"):
        shrink = np.expm1(epochs * np.log1p(-np.minimum(step * curvature, 1.0)))
    # (1 - (1 - x)^T) / h tends to T * step as h tends to 0.
    flat = curvature < np.finfo(np.float64).tiny
    gain = np.where(flat, epochs * step, -shrink / np.where(flat, 1.0, curvature))
    change = (vectors * shrink) @ vectors.T
    constant = (vectors * gain) @ (vectors.T @ moment)
    if not (np.isfinite(change).all() and np.isfinite(constant).all()):
        raise TrainingError("the training map is not finite: scale the features or raise l2")
    if np.abs(change).max() > 1 + _SLACK:
        raise TrainingError("the training map expands the weights, which it cannot in exact arithmetic: scale the data")
    return AffineMap((change + change.T) / 2, constant)
