"""A trained regressor: numbers in the units of what was to be predicted."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pysonar._inputs import plain_array, sample_weights, target_table
from pysonar.errors import ValidationSetError
from pysonar.models.parts import names_of
from pysonar.results.base import Floats, Ints, TrainedModel
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import MAX_CLASSES, AnyMap, MetricName, Spec

__all__ = ["TrainedRegressor"]


class TrainedRegressor(TrainedModel):
    """A trained linear regression: forward gives numbers (records, targets) in the targets' own units.

    `targets` are their names; `target_offset` and `target_scale` are buffers (targets,), the constants that they were
    trained with. It is a `torch.nn.Module` and follows scikit-learn's conventions for regressors; `fit` trains it anew,
    in the clear, on records of one's own. Its parameters are as of TrainedModel.

    >>> import numpy as np
    >>> X = np.arange(10.0)[:, None]
    >>> TrainedRegressor(l2=0.0).fit(X, 3 * X[:, 0] + 1).predict([[20.0]]).round(6).tolist()
    [61.0]
    """

    _estimator_type = "regressor"
    target_offset: torch.Tensor
    target_scale: torch.Tensor

    @classmethod
    def of(
        cls,
        features: tuple[str, ...],
        targets: tuple[str, ...],
        offset: npt.ArrayLike,
        scale: npt.ArrayLike,
        weights: npt.ArrayLike,
        feature_map: AnyMap,
        training: Mapping[str, Any],
        *,
        target_offset: npt.ArrayLike,
        target_scale: npt.ArrayLike,
    ) -> Self:
        """The module of weights (mapped features + 1, targets) on scaled features, for scaled targets, bias last.

        Raises ModelError where they do not fit.
        """
        self = cls(feature_map=feature_map, **training)
        self._become(features, targets, offset, scale, weights, feature_map.of(len(features)))
        self._take_targets(target_offset, target_scale)
        self.feature_names_in_ = np.array(features, dtype=object)
        return self

    @classmethod
    def from_encoded(cls, spec: Spec, weights: npt.NDArray[np.int64]) -> Self:
        """The model of integer weights (mapped features + 1, targets) at the spec's scale 2^weight_bits."""
        return cls.of(
            tuple(feature.name for feature in spec.features),
            tuple(target.name for target in spec.targets),
            [feature.offset for feature in spec.features],
            [feature.scale for feature in spec.features],
            weights / 2.0**spec.encoding.weight_bits,
            spec.feature_map,
            spec.training.model_dump(),
            target_offset=[target.offset for target in spec.targets],
            target_scale=[target.scale for target in spec.targets],
        )

    def _take_targets(self, offset: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        self.register_buffer("target_offset", torch.tensor(np.array(offset), dtype=torch.float64))
        self.register_buffer("target_scale", torch.tensor(np.array(scale), dtype=torch.float64))
        self._column = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what is predicted, in the order of the outputs."""
        return self.outputs

    @property
    def metric(self) -> MetricName:
        """What a regression is scored by."""
        return "r2"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Predictions (records, targets) in raw units, of features (records, features) in raw units."""
        return self._raw_outputs(features) * self.target_scale + self.target_offset

    def predict(self, X: Any) -> Floats:
        """Predictions in raw units: (records,) of one target, (records, targets) of several.

        Takes an array, a tensor or a data frame (records, features) in raw units; raises ValidationSetError for
        features that do not fit.
        """
        found = self._computed(X) * self.target_scale.cpu().numpy() + self.target_offset.cpu().numpy()
        return np.asarray(found[:, 0] if len(self.targets) == 1 and not self._column else found)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, 1 at best and below 0 where the mean would do better; of several targets their mean.

        X is (records, features), y (records,) or (records, targets), both in raw units, `sample_weight` (records,).
        Raises ValidationSetError for what does not fit, and for a target that is the same everywhere.
        """
        found = self.predict(X).reshape(-1, len(self.targets))
        given = target_table(y, self.targets, len(found))
        weights = sample_weights(sample_weight, len(found))
        mean = np.average(given, axis=0, weights=weights)
        missed, spread = (((given - of) ** 2 * weights[:, None]).sum(axis=0) for of in (found, mean))
        if (spread == 0).any():
            raise ValidationSetError("a target is the same in every record, so R2 has no value: give others")
        return float((1 - missed / spread).mean())

    def _scored_labels(self, labels: Any, records: int) -> Floats:
        return self._scaled(target_table(labels, self.targets, records))

    def _checked_labels(self, labels: Ints | Floats) -> Floats:
        return self._scaled(labels)

    def fit(self, X: Any, y: Any) -> Self:
        """Trains from zero, in the clear, on features (records, features) and numbers (records,) or (records, targets).

        Both are scaled by their mean and deviation, as `standardised` does. Raises ValidationSetError.
        """
        if y is None:
            raise ValidationSetError("fit requires y to be passed, but the target y is None: give a number a record")
        table, names, feature_map, offset, scale = self._begin(X)
        given = plain_array(y)
        count = given.shape[1] if given.ndim == 2 else 1
        targets = ("target",) if count == 1 else names_of(count, "y", "targets", 1, MAX_CLASSES)
        values = target_table(given, targets, len(table))
        mapping = feature_map.of(len(names))
        self._become(names, targets, offset, scale, np.zeros((mapping.outputs + 1, count)), mapping)
        spread = values.std(axis=0)
        self._take_targets(values.mean(axis=0), np.where(spread > 0, spread, 1.0))
        self._column = given.ndim == 2
        return self.learn(table, values)

    def _training_targets(self, labels: Ints | Floats) -> Floats:
        return self._scaled(labels)

    def _scaled(self, values: Ints | Floats) -> Floats:
        scaled = (values - self.target_offset.cpu().numpy()) / self.target_scale.cpu().numpy()
        return np.asarray(np.clip(scaled, -CLIP, CLIP))
