"""Local training as one affine map of the weights: full-batch gradient descent in closed form.

A loss that is quadratic in the weights has the gradient H W - C. With N the total weight of the records:

    ridge            H = X'X / N + l2 I,      C = X'Y / N
    taylor-logistic  H = X'X / (4 N) + l2 I,  C = X'(Y - 1/2) / N

The second is one-vs-rest logistic regression with sigmoid(z) = 1/2 + z/4, its first-order Taylor polynomial about 0
(Aono, Hayashi, Phong, Wang, Privacy-preserving logistic regression with distributed data sources via homomorphic
encryption, IEICE Transactions E99-D (2016), section 3). As the last column of X is a constant 1, X'1 is in X'X.

Full-batch descent is W <- W - (rate / L) (H W - C) with L the largest eigenvalue of H. After T epochs it is
W <- A W + B with A = (I - rate / L * H)^T and B = (I - A) H^{-1} C, which the eigenvectors of H give in closed form,
whatever T is. So a whole training run on N records costs one homomorphic map: Enc(change) = (A - I) Enc(W) + B.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from sonar.syft._blas import small_matrices
from sonar.syft.encoding import Floats
from sonar.syft.errors import TrainingError
from sonar.syft.statistics import Statistics

__all__ = ["AffineMap", "Loss", "check_schedule", "quadratic", "training_map"]

Loss = Literal["ridge", "taylor-logistic"]

CURVATURE: dict[Loss, float] = {"ridge": 1.0, "taylor-logistic": 0.25}
"""The factor of X'X in H: the second derivative of the loss at 0."""
CENTRE: dict[Loss, float] = {"ridge": 0.0, "taylor-logistic": 0.5}
"""What is taken from every target: the first derivative of the loss at 0."""

_SLACK = 1e-6
_BIAS_SLACK = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """Training as a map of the weights: their change is `change` W + `constant`.

    `change` is A - I (features, features), with A a contraction: its norm is at most 2, and for full-batch descent,
    where it is symmetric and negative semidefinite, at most 1: `norm` says which. `constant` is B (features, outputs).
    Both matrices tell much about the records, so a repr does not show them.
    """

    change: Floats = field(repr=False)
    constant: Floats = field(repr=False)
    norm: float = field(default=1.0, repr=False)

    @classmethod
    def checked(cls, change: Floats, constant: Floats, *, norm: float) -> Self:
        """A map that may be encoded; raises TrainingError if it is not finite or `change` is larger than `norm`."""
        if not (np.isfinite(change).all() and np.isfinite(constant).all()):
            raise TrainingError("the training map is not finite: scale the features or raise l2")
        largest = float(np.sqrt(max(0.0, np.linalg.eigvalsh(change.T @ change)[-1])))
        if largest > norm + _SLACK:
            raise TrainingError(
                f"the training map changes weights by up to {largest:.9g} times their size, which exact arithmetic "
                f"keeps to {norm:g}: scale the features or raise l2"
            )
        return cls(change, constant, norm)

    def within(self, bound: float, *, weight_bound: float, rounding: float) -> Self:
        """The map with `constant` clipped so that its result on weights up to `weight_bound` is at most `bound`.

        A row of `change`, each entry rounded by at most `rounding`, has magnitudes that sum to at most norm *
        sqrt(features) + features * rounding, whatever the records. So nobody can tell from whether a gradient fits its
        bound what records it was made from. Raises TrainingError where the bound leaves no room for any constant.
        """
        features = len(self.change)
        room = bound - weight_bound * ((self.norm + _SLACK) * np.sqrt(features) + features * rounding)
        if room <= 0:
            raise TrainingError(
                f"a gradient bound of {bound:.6g} cannot hold every map of {features} features on weights up to "
                f"{weight_bound:.6g}: it needs {bound - room:.6g}, so raise gradient_bound_bits"
            )
        return replace(self, constant=np.clip(self.constant, -room, room))


def check_schedule(epochs: int, rate: float, l2: float, loss: str) -> None:
    """Raises TrainingError for numbers outside of their ranges, and for a loss that is not known."""
    if epochs < 1 or not 0 < rate <= 1 or not 0 <= l2 < np.inf:
        raise TrainingError(f"epochs {epochs}, rate {rate}, l2 {l2}: need epochs >= 1, 0 < rate <= 1 and l2 >= 0")
    if loss not in CURVATURE:
        raise TrainingError(f"the loss {loss!r} is not known: choose one of {', '.join(CURVATURE)}")


def quadratic(statistics: Statistics, loss: Loss) -> tuple[Floats, Floats]:
    """H without its l2 (features, features) and C (features, outputs) of a loss on some records.

    Raises TrainingError for no records, sums beyond float64, and a logistic loss without a constant 1 as last column.
    """
    if statistics.records < 1:
        raise TrainingError("there are no records to train on: add data first")
    gram, moment = statistics.gram / statistics.weight, statistics.moment / statistics.weight
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        raise TrainingError("the statistics overflow float64: scale the features")
    if CENTRE[loss] and abs(gram[-1, -1] - 1) > _BIAS_SLACK:
        raise TrainingError(
            f"the last column of the design has the mean square {gram[-1, -1]:.6g}, but the loss {loss!r} needs a "
            "constant 1 there"
        )
    return CURVATURE[loss] * gram, moment - CENTRE[loss] * gram[:, -1:]


def training_map(statistics: Statistics, *, epochs: int, rate: float, l2: float, loss: Loss = "ridge") -> AffineMap:
    """The affine map of `epochs` steps of gradient descent with step `rate` / L, 0 < rate <= 1, and ridge `l2` >= 0.

    float64 throughout. Raises TrainingError for no records, statistics without information, or a schedule outside the
    ranges above.
    """
    check_schedule(epochs, rate, l2, loss)
    hessian, aim = quadratic(statistics, loss)
    with small_matrices(len(hessian)):
        return _closed_form(hessian, aim, epochs, rate, l2)


def _closed_form(hessian: Floats, aim: Floats, epochs: int, rate: float, l2: float) -> AffineMap:
    eigenvalues, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    curvature = np.maximum(eigenvalues, 0.0) + l2
    step = step_size(rate, float(curvature[-1]))
    if step is None:
        raise TrainingError("every feature is zero in every record: there is nothing to learn from")
    # expm1(T log1p(-x)) keeps full precision for small x, and log1p(-1) = -inf is the exact limit A = 0.
    with np.errstate(divide="ignore"):
        shrink = np.expm1(epochs * np.log1p(-np.minimum(step * curvature, 1.0)))
    # (1 - (1 - x)^T) / h tends to T * step as h tends to 0.
    flat = curvature < np.finfo(np.float64).tiny
    gain = np.where(flat, epochs * step, -shrink / np.where(flat, 1.0, curvature))
    with np.errstate(over="ignore", invalid="ignore"):
        change = (vectors * shrink) @ vectors.T
        constant = (vectors * gain) @ (vectors.T @ aim)
    return AffineMap.checked((change + change.T) / 2, constant, norm=1.0)


def step_size(rate: float, largest: float) -> float | None:
    """rate / L; None where the largest eigenvalue L is so small that nothing can be learnt."""
    step = rate / largest if largest > 0 else np.inf
    return step if np.isfinite(step) else None
