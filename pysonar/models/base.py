"""What every model that a campaign can train has in common; `classifiers` and `regressors` have the kinds."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from pysonar._inputs import feature_table, plain_array
from pysonar.errors import ModelError, ValidationSetError
from pysonar.models.estimators import read_estimator
from pysonar.models.parts import MapOptions, constants, feature_map_of, frozen, names_of, scales
from pysonar.models.starts import start_weights
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import CLIP, check_labels, check_validation_size
from sonar.protocol.spec import MAX_FEATURES, AnyMap, Encoding, Feature, MetricName, Spec
from sonar.syft import FeatureMap, encode

if TYPE_CHECKING:
    from pysonar.results import TrainedModel

__all__ = ["Floats", "Ints", "Labels", "Model", "check_clipped"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = Ints | Floats

_MAX_CLIPPED = 0.05
_LEAST_RECORDS = 100
_RECORDS_PER_OUTPUT = 2
"""Mines do not train on a map that gives more features than half of their records."""


@dataclass(frozen=True, init=False, eq=False)
class Model(ABC):
    """A model that stays encrypted while it is trained: outputs = [map(clip((x - offset) / scale)), 1] W.

    `features` are the names of its inputs, which mines match to the columns of their data; `offset` and `scale`
    (features,) are public constants in the features' own units, and what comes out is clipped to +-16; `feature_map`
    is the public map of the scaled features. `weights` (mapped features + 1, outputs), bias last, is where training
    starts; `metric` is what the Capsule scores by; `training` are the options of `sonar.protocol.spec.Training` that
    suit the model, which a campaign's own `training` comes before.
    """

    features: tuple[str, ...]
    offset: Floats = field(repr=False)
    scale: Floats = field(repr=False)
    feature_map: AnyMap
    weights: Floats = field(repr=False)
    metric: MetricName
    training: Mapping[str, Any]

    kind: ClassVar[str] = "model"
    """What it is called in a campaign's name."""

    # ---- what the kinds say

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives: classes or targets."""

    @abstractmethod
    def spec_outputs(self) -> dict[str, Any]:
        """The fields of a spec that tell of the outputs."""

    @abstractmethod
    def labels_of(self, given: Any, records: int) -> Labels:
        """What a notebook gives as y, as the spec's metric takes it; raises ValidationSetError."""

    @abstractmethod
    def module(self) -> "TrainedModel":
        """The model with its start weights as a torch module that predicts: what a campaign would start from."""

    # ---- what all do

    def _describe(
        self,
        features: int | Iterable[str],
        *,
        offset: Any,
        scale: Any,
        feature_map: MapOptions,
        metric: MetricName,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets all fields but the weights; raises ModelError."""
        names = names_of(features, "x", "features", 1, MAX_FEATURES)
        self._put(
            features=names,
            offset=constants(offset, 0.0, names, "offset"),
            scale=scales(scale, names),
            feature_map=feature_map_of(feature_map, len(names)),
            metric=metric,
            training=MappingProxyType(dict(training or {})),
        )

    def _put(self, **fields: Any) -> None:
        """Frozen: this is the only place that sets a field."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _start(self, weights: Any) -> None:
        self._put(weights=start_weights(self, weights))

    @classmethod
    def _standardising(
        cls, features: int | Iterable[str], like: Any, *, together: bool
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Names, and the offset and scale that give the features in `like` mean 0 and deviation 1."""
        names = names_of(features, "x", "features", 1, MAX_FEATURES)
        table = feature_table(like, names)
        if len(table) < 2:
            raise ValidationSetError(f"{len(table)} records have no standard deviation: give at least 2")
        if together:
            spread = float(table.std())
            return names, {"offset": float(table.mean()), "scale": spread if spread > 0 else 1.0}
        spreads = table.std(axis=0)
        return names, {"offset": table.mean(axis=0), "scale": np.where(spreads > 0, spreads, 1.0)}

    @classmethod
    def from_fitted(cls, fitted: Any, **options: Any) -> Self:
        """The model that starts where a fitted scikit-learn estimator, or another campaign's result, has come to.

        Features, outputs, offset, scale and of a result the map are `fitted`'s own unless `options`, which are the
        constructor's, say otherwise; what it decides stays the same but where a scaled feature, or a product of them,
        is beyond +-16. An estimator may be any classifier or regressor whose prediction is the highest of
        `coef_ @ x + intercept_`, or that itself, alone, as a search's best, or at the end of a Pipeline after
        StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler and, for a PolynomialClassifier of the same degree,
        PolynomialFeatures. It is asked what it predicts of random records. Raises ModelError for any other, and for one
        that is not fitted.
        """
        if hasattr(fitted, "present_round"):
            fitted = fitted.result()
        if hasattr(fitted, "mapping"):
            told = {
                "features": fitted.features, "offset": plain_array(fitted.offset), "scale": plain_array(fitted.scale),
                **cls._map_options(feature_map_of(fitted.feature_map, len(fitted.features))),
                **cls._outputs_of_result(fitted),
            }  # fmt: skip
        else:
            found = read_estimator(fitted)
            told = {
                "features": found.features or found.inputs, "offset": found.offset, "scale": found.scale,
                **cls._outputs_of_estimator(found.outputs, found.targets),
            }  # fmt: skip
        return cls(**{**told, "weights": fitted, **options})

    @classmethod
    def _map_options(cls, feature_map: AnyMap) -> dict[str, Any]:
        """The constructor's arguments for a map; raises ModelError for one that is not of its kind."""
        return {"feature_map": feature_map}

    @classmethod
    @abstractmethod
    def _outputs_of_result(cls, result: Any) -> dict[str, Any]:
        """The constructor's arguments for the outputs of a result; raises ModelError for one of another kind."""

    @classmethod
    @abstractmethod
    def _outputs_of_estimator(cls, classes: tuple[str, ...] | None, targets: int) -> dict[str, Any]:
        """The same for those of an estimator."""

    def start_score(self, features: Floats, labels: Labels) -> float:
        """The metric of the start model, 0 to 1, on what `check_validation` gives."""
        return self.module()._score_checked(features, labels)

    def fitted_on(self, features: Any, labels: Any) -> Self:
        """The same model, started from what is trained here, in the clear, on records of one's own.

        `features` (records, features) and `labels` (records,) are as in a validation set. A campaign that starts from
        zero pays nearly all of its bounty for the first round, which any mine's work would have given; the more of
        that the owner can do with data of her own, the more she pays for what only mines have. Take other records than
        those of the validation set: on these the start would score too well, and mines would be paid too little.
        Raises ValidationSetError, also where clipping would blind the model, and TrainingError for records from which
        nothing can be learned.
        """
        table = feature_table(features, self.features)
        known = self.labels_of(labels, len(table))
        self.check_scales(table, known)
        module = self.module()
        module.learn(table, known, self.training)
        return self._copy(weights=frozen(module.weights))

    def _copy(self, **changes: Any) -> Self:
        """The same with other fields."""
        new = object.__new__(type(self))
        new._put(**{**self.__dict__, **changes})
        return new

    @property
    def mapping(self) -> FeatureMap:
        """What the scaled features become before the model sees them."""
        return self.feature_map.of(len(self.features))

    @property
    def shape(self) -> tuple[int, int]:
        """The weights' shape: (mapped features + 1 for the bias, outputs)."""
        return self.mapping.outputs + 1, len(self.outputs)

    @property
    def least_records(self) -> int:
        """How many records a mine needs: 100, and of a map's outputs twice as many, without which none takes part."""
        mapped = 0 if self.feature_map.kind == "identity" else _RECORDS_PER_OUTPUT * self.mapping.outputs
        return max(_LEAST_RECORDS, mapped)

    @property
    def rounds(self) -> Mapping[str, Any]:
        """What a campaign's rounds are unless its owner says otherwise, beside the spec's own defaults."""
        return MappingProxyType({})

    @property
    def name(self) -> str:
        """What a campaign is called unless it is given a name."""
        kind = {"identity": "Linear", "backbone": "Head"}.get(self.feature_map.kind, self.feature_map.kind.capitalize())
        return f"{kind} {self.kind} of {len(self.features)} features, {self._told_outputs()}"

    @abstractmethod
    def _told_outputs(self) -> str: ...

    def spec_features(self) -> tuple[Feature, ...]:
        """The features as the spec publishes them."""
        told = zip(self.features, self.offset.tolist(), self.scale.tolist(), strict=True)
        return tuple(Feature(name=name, offset=offset, scale=scale) for name, offset, scale in told)

    def encoding(self) -> Encoding:
        """The fixed-point scales and slots that suit it, where a campaign names none."""
        return Encoding.for_rows(self.shape[0])

    def encoded(self, spec: Spec) -> Ints:
        """The start weights as the spec encrypts them: integers of its shape; raises EncodingOverflowError."""
        return encode(self.weights, spec.encoding.weight_bits, spec.encoding.weight_bound)

    def check_weights(self, encoding: Encoding) -> None:
        """Raises ModelError when a start weight does not fit the encoding's bound."""
        limit = encoding.weight_bound / 2**encoding.weight_bits
        largest = float(np.abs(self.weights).max())
        if largest > limit:
            raise ModelError(
                f"the largest start weight is {largest:.6g}, above the encoding's bound of {limit:.6g}: "
                "scale the features so that weights are smaller, or raise weight_bound_bits"
            )

    def check_validation(self, validation: Any) -> tuple[Floats, Labels]:
        """Features (records, features) in raw units and labels of a pair (X, y).

        Raises ValidationSetError when they do not fit this model, or when clipping would blind it.
        """
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise ValidationSetError("the validation set must be a pair (X, y): features and labels")
        table = feature_table(validation[0], self.features)
        labels = self.labels_of(validation[1], len(table))
        try:
            widest = max(len(self.features), self.mapping.outputs)
            check_validation_size(len(labels), widest, len(self.outputs), self.metric)
            check_labels(labels, self.metric, self.outputs)
        except ProtocolError as error:
            raise ValidationSetError(str(error)) from error
        self.check_scales(table, labels)
        return table, labels

    def check_scales(self, table: Floats, labels: Labels) -> None:  # noqa: ARG002  (regressors look at them)
        """Raises ValidationSetError where clipping would blind the model to features (records, features), or labels."""
        check_clipped(table, self.offset, self.scale, self.features, "feature")


def check_clipped(table: Floats, offset: Floats, scale: Floats, names: tuple[str, ...], what: str) -> None:
    """Raises ValidationSetError where more than 5% of a column (records, columns) lies beyond +-16 scales."""
    if len(table) == 0:
        return
    with np.errstate(over="ignore"):
        clipped = (np.abs((table - offset) / scale) > CLIP).mean(axis=0)
    if clipped.max() > _MAX_CLIPPED:
        at, told = int(clipped.argmax()), "offset and scale" if what == "feature" else "target_offset and target_scale"
        raise ValidationSetError(
            f"{what} {names[at]!r} lies beyond {CLIP:g} scales on {clipped[at]:.0%} of the records and "
            f"would be clipped: give {told}, or use standardised"
        )
