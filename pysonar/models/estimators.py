"""Fitted scikit-learn estimators read as what they are: affine maps of features, behind scalers and products.

scikit-learn is not imported: what an estimator has learned is in its public attributes (`coef_`, `scale_`, ...), and
which it is in the names of its classes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pysonar._inputs import class_name
from pysonar.errors import ModelError
from pysonar.models.parts import array

__all__ = ["Estimator", "is_estimator", "read_estimator"]

Floats = npt.NDArray[np.float64]
Scores = Literal["signs", "logits", "numbers"]
"""What the outputs are meant to be: +-1, logarithms of odds, or the numbers themselves."""

_LOGITS = {"LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"}
_PROBES = 256
"""Records of which an estimator is asked what it predicts."""
_NEAR = 1e-4
"""What single precision leaves of an estimator's outputs, and more."""
_TAKEN = (
    "a linear estimator, alone or in a Pipeline after StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler "
    "and PolynomialFeatures"
)


@dataclass(frozen=True, slots=True)
class Estimator:
    """outputs = monomials((x - offset) / scale) @ weights + bias, for features (inputs,) in raw units.

    `weights` are (monomials, outputs); without `monomials` they are the features in order. Outputs are those of
    `classes`, with one column each, or so many `targets`.
    """

    weights: Floats
    bias: Floats
    offset: Floats
    scale: Floats
    features: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    scores: Scores
    monomials: tuple[tuple[int, ...], ...] | None = None

    @property
    def inputs(self) -> int:
        """How many features it takes."""
        return len(self.offset)

    @property
    def targets(self) -> int:
        """How many outputs it has."""
        return int(self.weights.shape[1])

    def of(self, records: Floats) -> Floats:
        """The outputs (records, outputs) of features (records, inputs) in raw units."""
        scaled = (records - self.offset) / self.scale
        if self.monomials is not None:
            products = [scaled[:, list(monomial)].prod(axis=1) for monomial in self.monomials]
            scaled = np.stack(products, axis=1) if products else scaled[:, :0]
        return np.asarray(scaled @ self.weights + self.bias)

    def as_probabilities(self) -> "Estimator":
        """The same decisions by outputs that are about the classes' probabilities, as least squares has them.

        Every class is moved and stretched alike, so the highest stays the highest: +-1 become 1 and 0, logits their
        part of a softmax to the first order.
        """
        if self.scores == "numbers":
            return self
        classes = self.targets
        factor, middle = (0.5, 0.5) if self.scores == "signs" else (1 / classes, 1 / classes)
        return replace(self, weights=self.weights * factor, bias=self.bias * factor + middle)


def is_estimator(given: Any) -> bool:
    """Whether this is an estimator of scikit-learn's kind, fitted or not."""
    return hasattr(given, "get_params") and hasattr(given, "fit")


def read_estimator(given: Any) -> Estimator:
    """What a fitted estimator computes, and of a search its best one.

    Raises ModelError for one that is not linear, and for one that is not fitted. It is asked what it predicts of random
    records, because coefficients may mean something else: one class against another, or numbers behind a link.
    """
    given = getattr(given, "best_estimator_", given)
    found = _read(given)
    _check_predictions(given, found)
    return found


def _read(given: Any) -> Estimator:
    steps = _steps(given)
    if not steps:
        raise ModelError(f"the pipeline has no estimator: give {_TAKEN}")
    *before, last = steps
    if not hasattr(last, "coef_") or not hasattr(last, "intercept_"):
        name = type(last).__name__
        if is_estimator(last) and any(hasattr(type(last), word) for word in ("coef_", "decision_function", "predict")):
            raise ModelError(
                f"the {name} has no coef_ and intercept_, as it is not fitted, or not linear: give {_TAKEN}"
            )
        raise ModelError(f"training cannot start from what is of type {name}: give {_TAKEN}")
    weights, bias, classes, scores = _read_last(last)
    offset, scale, monomials = _read_before(before, len(weights))
    names = getattr(steps[0], "feature_names_in_", None)
    if hasattr(given, "steps"):
        names = getattr(given, "feature_names_in_", names)
    features = None if names is None else tuple(str(name) for name in names)
    if monomials is not None:
        # PolynomialFeatures begins with a constant unless told otherwise.
        constant = [at for at, monomial in enumerate(monomials) if not monomial]
        bias = bias + weights[constant].sum(axis=0)
        kept = [at for at, monomial in enumerate(monomials) if monomial]
        weights, monomials = weights[kept], tuple(monomials[at] for at in kept)
    return Estimator(weights, bias, offset, scale, features, classes, scores, monomials)


def _steps(given: Any) -> list[Any]:
    """The estimators of a pipeline in order, those of the pipelines in it among them."""
    if not hasattr(given, "steps"):
        return [] if given is None or given == "passthrough" else [given]
    return [step for _, inner in given.steps for step in _steps(inner)]


def _check_predictions(given: Any, found: Estimator) -> None:
    """Raises ModelError where the estimator predicts something else than its coefficients make of the features."""
    if not hasattr(given, "predict"):
        return
    rng = np.random.default_rng(0)
    # Some near to where its scaler lies, some far, so that no threshold is missed that divides one from the other.
    spread = found.scale * 10.0 ** rng.uniform(-1, 3, size=(_PROBES, 1))
    records = found.offset + spread * rng.normal(size=(_PROBES, found.inputs))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that columns should have, and numbers that overflow
            told = np.asarray(given.predict(records))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"the {type(given).__name__} cannot be asked what it predicts of {found.inputs} numbers a record "
            f"({error!s:.200}): give {_TAKEN}"
        ) from error
    ours = found.of(records)
    if found.outputs is None:
        same = told.size == ours.size and np.allclose(told.reshape(ours.shape), ours, rtol=_NEAR, atol=_NEAR)
    else:
        ranked = np.sort(ours, axis=1)
        clear = ranked[:, -1] - ranked[:, -2] > _NEAR * (1 + np.abs(ranked[:, -1]))
        named = [class_name(label) for label in told.tolist()] if told.ndim == 1 else []
        decided = [found.outputs[at] for at in ours.argmax(axis=1)]
        same = len(named) == len(decided) and all(
            one == other for one, other, sure in zip(named, decided, clear, strict=True) if sure
        )
    if not same:
        raise ModelError(
            f"the {type(_steps(given)[-1]).__name__} predicts something else than its coef_ and intercept_ make of the "
            "features (it compares classes two by two, predicts several labels, or has a link between): it cannot be "
            f"where training starts; give {_TAKEN} whose highest output, or output itself, is the prediction"
        )


def _read_last(last: Any) -> tuple[Floats, Floats, tuple[str, ...] | None, Scores]:
    coefficients = np.atleast_2d(array(last.coef_, "estimator's coef_")).T
    bias = np.atleast_1d(array(last.intercept_, "estimator's intercept_"))
    bias = np.broadcast_to(bias.ravel(), (coefficients.shape[1],)).copy()
    classes = getattr(last, "classes_", None)
    if classes is None:
        return coefficients, bias, None, "numbers"
    names = tuple(class_name(label) for label in np.asarray(classes).tolist())
    logistic = type(last).__name__ in _LOGITS or getattr(last, "loss", None) == "log_loss"
    if coefficients.shape[1] == 1:
        # One output decides between two classes by its sign; halves of it, one against the other, do the same.
        halves = 0.5 if logistic else 1.0
        coefficients = np.hstack([-coefficients, coefficients]) * halves
        bias = np.concatenate([-bias, bias]) * halves
    if coefficients.shape[1] != len(names):
        raise ModelError(
            f"the {type(last).__name__} has {coefficients.shape[1]} outputs for {len(names)} classes: give an "
            "estimator with one output a class, or a single one for two"
        )
    return coefficients, bias, names, "logits" if logistic else "signs"


def _read_before(steps: Sequence[Any], width: int) -> tuple[Floats, Floats, tuple[tuple[int, ...], ...] | None]:
    """The scaling of the raw features, and the products that follow it, of a pipeline's steps but the last."""
    offset: Floats | None = None
    scale: Floats | None = None
    monomials: tuple[tuple[int, ...], ...] | None = None
    for step in steps:
        kind = type(step).__name__
        if kind == "PolynomialFeatures" and hasattr(step, "powers_") and monomials is None:
            monomials = tuple(
                tuple(int(at) for at, power in enumerate(row) for _ in range(power)) for row in step.powers_
            )
            continue
        move, stretch = _scaler(step, kind)
        if monomials is not None:
            raise ModelError(f"the pipeline has a {kind} after PolynomialFeatures: scale before, where a campaign does")
        # x -> (x - offset) / scale, and then the same again.
        offset, scale = (move, stretch) if offset is None or scale is None else (
            offset + scale * move, scale * stretch
        )  # fmt: skip
    inputs = width
    if monomials is not None:
        products = next(step for step in steps if type(step).__name__ == "PolynomialFeatures")
        inputs = int(products.n_features_in_)
    if offset is None or scale is None:
        offset, scale = np.zeros(inputs), np.ones(inputs)
    return offset, scale, monomials


def _scaler(step: Any, kind: str) -> tuple[Floats, Floats]:
    """The offset and scale (features,) of a fitted scaler: x becomes (x - offset) / scale."""
    if not hasattr(step, "scale_"):
        raise ModelError(f"the pipeline's step {kind} cannot be published as a scaling: give {_TAKEN}, all fitted")
    inputs = int(step.n_features_in_)

    def numbers(name: str, default: float) -> Floats:
        found = getattr(step, name, None)
        return np.full(inputs, default) if found is None else array(found, f"{kind}'s {name}")

    factor = numbers("scale_", 1.0)
    match kind:
        case "StandardScaler":
            # It has a mean also where it takes none off.
            return (numbers("mean_", 0.0) if step.with_mean else np.zeros(inputs)), factor
        case "RobustScaler":
            return numbers("center_", 0.0), factor
        case "MaxAbsScaler":
            return np.zeros(inputs), factor
        case "MinMaxScaler":
            if step.clip:
                raise ModelError("a MinMaxScaler that clips is not a scaling: take clip=False")
            return -numbers("min_", 0.0) / factor, 1 / factor
        case _:
            raise ModelError(f"the pipeline's step {kind} cannot be published as a scaling: give {_TAKEN}")
