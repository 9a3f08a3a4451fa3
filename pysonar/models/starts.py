"""Where training starts: from zero, an array, a torch layer, another campaign's result, a scikit-learn estimator.

What was learned on features scaled otherwise is carried over exactly where the model is linear in them; what cannot be
carried over is refused, never approximated.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pysonar.errors import ModelError
from pysonar.models.estimators import Estimator, is_estimator, read_estimator
from pysonar.models.parts import array, frozen
from sonar.syft import FeatureMap, Identity, Polynomial

if TYPE_CHECKING:
    from pysonar.models.base import Model

__all__ = ["start_weights"]

Floats = npt.NDArray[np.float64]

_NEAR = 1e-9
"""Constants that differ by less, relatively, were the same before somebody wrote them down."""


def start_weights(model: "Model", given: Any) -> Floats:
    """The weights (mapped features + 1, outputs) in `given` for a model; raises ModelError where they do not fit it."""
    if given is None:
        return frozen(np.zeros(model.shape))
    if hasattr(given, "present_round"):
        given = given.result()  # of a campaign what has come of it
    if hasattr(given, "mapping"):
        values = _of_result(model, given)
    elif is_estimator(given):
        values = _of_estimator(model, read_estimator(given))
    elif hasattr(given, "weight") and hasattr(given, "bias"):
        bias = given.bias
        bias = np.zeros(len(given.weight)) if bias is None else array(bias, "start bias")
        values = np.vstack([array(given.weight, "start weights").T, bias])
    else:
        values = array(given, "start weights")
    if values.shape != model.shape:
        raise ModelError(
            f"the start weights have shape {values.shape}, but the model needs {model.shape}, bias in the last row"
        )
    return frozen(values.copy())


def _of_result(model: "Model", start: Any) -> Floats:
    if hasattr(start, "network"):
        raise ModelError(
            "the start model is a network, which has no weights of a linear model: pysonar.Network(result.network, "
            "...) starts from it"
        )
    for what, theirs, own in (
        ("features", start.features, model.features),
        ("classes" if hasattr(model, "classes") else "targets", start.outputs, model.outputs),
    ):
        if tuple(theirs) != tuple(own):
            odd = next((a for a, b in zip(theirs, own, strict=False) if a != b), f"{len(theirs)} in all")
            raise ModelError(f"the start model has other {what} ({odd!r}): describe this one with the same, in order")
    if start.mapping != model.mapping:
        raise ModelError(
            f"the start model has the feature map {start.mapping}, but this one {model.mapping}: take the same"
        )
    offset, scale = (array(constant, "start scaling") for constant in (start.offset, start.scale))
    values = array(start.weights, "start weights")
    if not _same(offset, model.offset) or not _same(scale, model.scale):
        _require_linear(model, f"the start model's features are scaled otherwise ({_difference(model, offset, scale)})")
        raw = values[:-1] / scale[:, None]
        values = _scaled(model, raw, values[-1] - offset @ raw)
    target_offset, target_scale = getattr(start, "target_offset", None), getattr(start, "target_scale", None)
    if target_offset is not None and target_scale is not None:
        numbers = values * array(target_scale, "start target_scale")
        numbers[-1] += array(target_offset, "start target_offset")
        values = _for_targets(model, numbers)
    return values


def _of_estimator(model: "Model", found: Estimator) -> Floats:
    found = _in_order(model, found.as_probabilities())
    if found.scores != "numbers" and model.training.get("loss") == "taylor-logistic":
        # There an output z stands for the probability 1/2 + z / 4.
        found = _moved(found, 4.0, -2.0)
    mapping = model.mapping
    if isinstance(mapping, Identity) and found.monomials is None:
        raw = found.weights / found.scale[:, None]
        return _for_targets(model, _scaled(model, raw, found.bias - found.offset @ raw))
    if not isinstance(mapping, Polynomial):
        raise ModelError(
            f"the estimator is linear in its features{'' if found.monomials is None else ' and their products'}, and "
            f"the model in those of {_told(mapping)}: give a model of the estimator's own features, or other weights"
        )
    monomials = found.monomials or tuple((at,) for at in range(found.inputs))
    if not _same(found.offset, model.offset) or not _same(found.scale, model.scale):
        raise ModelError(
            "the estimator's products are of features scaled otherwise "
            f"({_difference(model, found.offset, found.scale)}): give the model the scaler's offset and scale"
        )
    places = {monomial: at for at, monomial in enumerate(mapping.monomials)}
    if unknown := [monomial for monomial in monomials if monomial not in places]:
        names = "*".join(model.features[at] for at in unknown[0])
        raise ModelError(
            f"the estimator has the product {names}, and the model has not: take the same degree and powers"
        )
    values = np.zeros((len(places) + 1, found.targets))
    for row, monomial in zip(found.weights, monomials, strict=True):
        values[places[monomial]] += row
    values[-1] = found.bias
    return _for_targets(model, values)


def _in_order(model: "Model", found: Estimator) -> Estimator:
    """The estimator with the model's features and outputs in the model's order."""
    if (found.outputs is None) != (not hasattr(model, "classes")):
        kinds = ("numbers", "classes") if found.outputs is None else ("classes", "numbers")
        raise ModelError(f"the estimator predicts {kinds[0]}, and the model {kinds[1]}: take one of its kind")
    if found.inputs != len(model.features):
        raise ModelError(
            f"the estimator was fitted on {found.inputs} features, and the model has {len(model.features)}: give it "
            "the same"
        )
    columns = list(range(found.inputs))
    if found.features is not None and found.features != model.features:
        if set(found.features) != set(model.features):
            odd = next(name for name in found.features if name not in model.features)
            raise ModelError(f"the estimator has the feature {odd!r}, and the model has not: name them alike")
        if found.monomials is not None:
            raise ModelError("the estimator's features are in another order: give the model theirs")
        columns = [found.features.index(name) for name in model.features]
    outputs = list(range(found.targets))
    if found.outputs is not None:
        names = model.outputs
        if set(found.outputs) == set(names):
            outputs = [found.outputs.index(name) for name in names]
        elif found.outputs != tuple(str(at) for at in range(len(names))):
            # Whole numbers from 0 are the classes' indices, as they are in a validation set.
            raise ModelError(
                f"the estimator's classes {', '.join(found.outputs[:8])} are not the model's {', '.join(names[:8])}"
            )
    elif found.targets != len(model.outputs):
        raise ModelError(f"the estimator predicts {found.targets} numbers, and the model {len(model.outputs)}")
    rows = found.weights if found.monomials is not None else found.weights[columns]
    return Estimator(
        rows[:, outputs], found.bias[outputs], found.offset[columns], found.scale[columns], model.features,
        found.outputs and model.outputs, found.scores, found.monomials,
    )  # fmt: skip


def _moved(found: Estimator, factor: float, constant: float) -> Estimator:
    return Estimator(
        found.weights * factor, found.bias * factor + constant, found.offset, found.scale, found.features,
        found.outputs, found.scores, found.monomials,
    )  # fmt: skip


def _scaled(model: "Model", raw: Floats, bias: Floats) -> Floats:
    """Weights for the model's scaled features from those for raw features (features, outputs) and their bias."""
    return np.vstack([raw * model.scale[:, None], bias + model.offset @ raw])


def _for_targets(model: "Model", values: Floats) -> Floats:
    """Weights for a regression's scaled targets from those for targets in raw units; of classes the same."""
    offset, scale = getattr(model, "target_offset", None), getattr(model, "target_scale", None)
    if offset is None or scale is None:
        return values
    moved = values.copy()
    moved[-1] -= offset
    return np.asarray(moved / scale)


def _require_linear(model: "Model", why: str) -> None:
    if not isinstance(model.mapping, Identity):
        raise ModelError(f"{why}, and so would be those of its {_told(model.mapping)}: give this one the same scaling")


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=_NEAR, atol=0.0))


def _difference(model: "Model", offset: Floats, scale: Floats) -> str:
    alike = np.isclose(offset, model.offset, rtol=_NEAR, atol=0) & np.isclose(scale, model.scale, rtol=_NEAR, atol=0)
    at = int(np.argmin(alike))
    return (
        f"{model.features[at]!r} by offset {offset[at]:g} and scale {scale[at]:g}, here by {model.offset[at]:g} and "
        f"{model.scale[at]:g}"
    )


def _told(mapping: FeatureMap) -> str:
    return type(mapping).__name__
