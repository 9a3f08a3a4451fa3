"""The models that a campaign can train: what the data scientist describes, and what the campaign's spec says of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pysonar._inputs import class_indices, feature_table, plain_array
from pysonar.errors import ModelError, ValidationSetError
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import CLIP, check_labels, check_validation_size
from sonar.protocol.spec import MAX_CLASSES, MAX_FEATURES, METRICS, AnyMap, Encoding, Feature, IdentityMap, MetricName
from sonar.syft import FeatureMap
from sonar.wording import wording

__all__ = ["LinearClassifier"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MAX_CLIPPED = 0.05
_MAPS: TypeAdapter[AnyMap] = TypeAdapter(AnyMap)


@dataclass(frozen=True, slots=True, init=False, eq=False)
class LinearClassifier:
    """A linear classifier on named features: logits = [map(clip((x - offset) / scale)), 1] W.

    `features` and `classes` are names, or how many there are: 3 features are then x0, x1, x2 and 3 classes 0, 1, 2.
    Mines match the names to the columns and labels of their own data. `offset` and `scale` are public constants, one
    for all features or one each; scaled values are clipped to +-16. `feature_map` is what the model sees of them,
    public too: the scaled features themselves unless given, or one of

        {"kind": "fourier", "count": 512, "gamma": 0.2, "seed": 0}    random features of exp(-gamma |x - y|^2)
        {"kind": "polynomial", "degree": 2, "powers": True}           products of up to 2 or 3 features

    or the same as an object of `sonar.protocol.spec`. `weights` is where training starts: an array (mapped features +
    1, classes) with the bias last, or the result of an earlier campaign on the same features with the same offset,
    scale and map; all zero unless given. `metric` is what the Capsule scores by: accuracy, balanced_accuracy, macro_f1
    or auc (of the difference of two class scores; of more classes the mean of each class's score against the rest).

    Raises ModelError for names that appear twice, wrong shapes, numbers that are not finite, maps that do not work, and
    metrics of no classifier.
    """

    features: tuple[str, ...]
    classes: tuple[str, ...]
    offset: Floats = field(repr=False)
    scale: Floats = field(repr=False)
    feature_map: AnyMap
    weights: Floats = field(repr=False)
    metric: MetricName

    def __init__(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        offset: Any = None,
        scale: Any = None,
        feature_map: AnyMap | Mapping[str, Any] | None = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        names = _names(features, "x", "features", 1, MAX_FEATURES)
        labels = _names(classes, "", "classes", 2, MAX_CLASSES)
        put = object.__setattr__  # frozen: this is the only place that sets a field
        put(self, "features", names)
        put(self, "classes", labels)
        put(self, "offset", _constants(offset, 0.0, names, "offset"))
        put(self, "scale", _constants(scale, 1.0, names, "scale"))
        put(self, "feature_map", _feature_map(feature_map, len(names)))
        put(self, "weights", _weights(weights, self.shape, self.mapping))
        put(self, "metric", _metric(metric))
        if (self.scale <= 0).any():
            at = int(np.argmax(self.scale <= 0))
            raise ModelError(f"the scale of feature {names[at]!r} is {self.scale[at]}: give a number above 0")

    @classmethod
    def standardised(
        cls,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        like: Any,
        *,
        feature_map: AnyMap | Mapping[str, Any] | None = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> Self:
        """A classifier whose public offset and scale are the mean and standard deviation of the features in `like`.

        Everybody can read those constants in the spec: take a table whose column averages may be known.
        """
        names = _names(features, "x", "features", 1, MAX_FEATURES)
        table = feature_table(like, names)
        if len(table) < 2:
            raise ValidationSetError(f"{len(table)} records have no standard deviation: give at least 2")
        spread = table.std(axis=0)
        return cls(
            names,
            classes,
            offset=table.mean(axis=0),
            scale=np.where(spread > 0, spread, 1.0),
            feature_map=feature_map,
            weights=weights,
            metric=metric,
        )

    @property
    def mapping(self) -> FeatureMap:
        """What the scaled features become before the model sees them."""
        return self.feature_map.of(len(self.features))

    @property
    def shape(self) -> tuple[int, int]:
        """The weights' shape: (mapped features + 1 for the bias, classes)."""
        return self.mapping.outputs + 1, len(self.classes)

    def spec_features(self) -> tuple[Feature, ...]:
        """The features as the spec publishes them."""
        constants = zip(self.features, self.offset.tolist(), self.scale.tolist(), strict=True)
        return tuple(Feature(name=name, offset=offset, scale=scale) for name, offset, scale in constants)

    def check_weights(self, encoding: Encoding) -> None:
        """Raises ModelError when a start weight does not fit the encoding's bound."""
        limit = encoding.weight_bound / 2**encoding.weight_bits
        largest = float(np.abs(self.weights).max())
        if largest > limit:
            raise ModelError(
                f"the largest start weight is {largest:.6g}, above the encoding's bound of {limit:.6g}: "
                "scale the features so that weights are smaller, or raise weight_bound_bits"
            )

    def check_validation(self, validation: Any) -> tuple[Floats, Ints]:
        """Features (records, features) in raw units and class indices (records,) of a pair (X, y).

        Raises ValidationSetError when they do not fit this model, or when clipping would blind it.
        """
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise ValidationSetError("the validation set must be a pair (X, y): features and labels")
        table = feature_table(validation[0], self.features)
        labels = class_indices(validation[1], self.classes, len(table))
        try:
            widest = max(len(self.features), self.mapping.outputs)
            check_validation_size(len(labels), widest, len(self.classes), self.metric)
            check_labels(labels, self.metric, self.classes)
        except ProtocolError as error:
            raise ValidationSetError(str(error)) from error
        if len(np.unique(labels)) < 2:
            raise ValidationSetError(
                f"every validation record is of class {self.classes[labels[0]]!r}: give records of several classes"
            )
        with np.errstate(over="ignore"):
            clipped = (np.abs((table - self.offset) / self.scale) > CLIP).mean(axis=0)
        if clipped.max() > _MAX_CLIPPED:
            at = int(clipped.argmax())
            raise ValidationSetError(
                f"feature {self.features[at]!r} lies beyond {CLIP:g} scales on {clipped[at]:.0%} of the validation "
                "records and would be clipped: give offset and scale, or use LinearClassifier.standardised"
            )
        return table, labels


def _names(given: int | Iterable[Any], prefix: str, what: str, least: int, most: int) -> tuple[str, ...]:
    if isinstance(given, str | bytes | bool) or not isinstance(given, int | np.integer | Iterable):
        raise ModelError(f"{what} {given!r} must be a number or a list of names")
    listed = None if isinstance(given, int | np.integer) else tuple(str(name) for name in given)
    count = int(given) if listed is None else len(listed)  # type: ignore[arg-type]
    if not least <= count <= most:
        raise ModelError(f"a model of {count} {what} cannot be trained: give {least} to {most}")
    names = tuple(f"{prefix}{at}" for at in range(count)) if listed is None else listed
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"{twice!r} appears twice in {what}: every name must be its own")
    return names


def _constants(given: Any, default: float, names: tuple[str, ...], what: str) -> Floats:
    values = _array(default if given is None else given, what)
    if values.shape not in ((), (len(names),)):
        raise ModelError(
            f"the {what} has shape {values.shape}: give one number, or one for each of {len(names)} features"
        )
    return _frozen(np.broadcast_to(values, (len(names),)).copy())


def _feature_map(given: Any, features: int) -> AnyMap:
    if given is None:
        return IdentityMap()
    try:
        feature_map = _MAPS.validate_python(dict(given) if isinstance(given, Mapping) else given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = "".join(f" {part}:" for part in problem["loc"])
        raise ModelError(
            f"the feature_map {given!r:.200} does not work:{place} {wording(problem)}; write it like "
            '{"kind": "polynomial", "degree": 2} or {"kind": "fourier", "count": 512, "gamma": 0.2}'
        ) from error
    outputs = feature_map.of(features).outputs
    if outputs > MAX_FEATURES:
        raise ModelError(
            f"the {feature_map.kind} map of {features} features gives {outputs}, above the limit of {MAX_FEATURES}: "
            "take fewer features, a lower degree, or a Fourier map"
        )
    return feature_map


def _metric(given: str) -> MetricName:
    if given == "r2":
        raise ModelError("the metric r2 scores numbers, and this model has classes: take another")
    if given not in METRICS:
        raise ModelError(f"the metric {given!r} is none of {', '.join(m for m in METRICS if m != 'r2')}")
    return given


def _weights(given: Any, shape: tuple[int, int], mapping: FeatureMap) -> Floats:
    if given is None:
        return _frozen(np.zeros(shape))
    if getattr(given, "mapping", mapping) != mapping:
        raise ModelError(f"the start model has the feature map {given.mapping}, but this one {mapping}: take the same")
    values = _array(given.weights if hasattr(given, "weights") else given, "start weights")
    if values.shape != shape:
        raise ModelError(
            f"the start weights have shape {values.shape}, but the model needs {shape}, bias in the last row"
        )
    return _frozen(values.copy())


def _array(given: Any, what: str) -> Floats:
    try:
        values = plain_array(given).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the {what} cannot be read as numbers: {error}") from error
    if not np.isfinite(values).all():
        raise ModelError(f"the {what} holds numbers that are not finite: give finite ones")
    return values


def _frozen(values: Floats) -> Floats:
    values.setflags(write=False)
    return values
