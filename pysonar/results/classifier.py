"""A trained classifier: decision scores, classes, probabilities."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pysonar._inputs import class_indices, plain_array, sample_weights
from pysonar.errors import ValidationSetError
from pysonar.results.base import Floats, Ints, TrainedModel
from sonar.protocol.spec import AnyMap, MetricName, Spec

__all__ = ["TrainedClassifier"]


class TrainedClassifier(TrainedModel):
    """A trained linear classifier: forward gives one score a class, and a record has the class of the highest.

    `classes` are the names, `classes_` the labels that `predict` answers: numbers where all names are whole numbers.
    It is a `torch.nn.Module` and follows scikit-learn's conventions for classifiers; `fit` trains it anew, in the
    clear, on records of one's own. Its parameters are as of TrainedModel.

    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [4.0], [5.0]]), ["low", "low", "high", "high"]
    >>> model = TrainedClassifier().fit(X, y)
    >>> model.predict([[0.5], [4.5]]).tolist(), model.score(X, y)
    (['low', 'high'], 1.0)
    """

    _estimator_type = "classifier"
    classes_: npt.NDArray[Any]
    _metric: MetricName = "accuracy"

    @classmethod
    def of(
        cls,
        features: tuple[str, ...],
        classes: tuple[str, ...],
        offset: npt.ArrayLike,
        scale: npt.ArrayLike,
        weights: npt.ArrayLike,
        feature_map: AnyMap,
        training: Mapping[str, Any],
        *,
        metric: MetricName = "accuracy",
    ) -> Self:
        """The module of weights (mapped features + 1, classes) on scaled features, with the bias in the last row.

        Raises ModelError where they do not fit.
        """
        self = cls(feature_map=feature_map, **training)
        self._become(features, classes, offset, scale, weights, feature_map.of(len(features)))
        self.classes_ = _labels(classes)
        self.feature_names_in_ = np.array(features, dtype=object)
        self._metric = metric
        return self

    @classmethod
    def from_encoded(cls, spec: Spec, weights: npt.NDArray[np.int64]) -> Self:
        """The model of integer weights (mapped features + 1, classes) at the spec's scale 2^weight_bits."""
        return cls.of(
            tuple(feature.name for feature in spec.features),
            spec.classes,
            [feature.offset for feature in spec.features],
            [feature.scale for feature in spec.features],
            weights / 2.0**spec.encoding.weight_bits,
            spec.feature_map,
            spec.training.model_dump(),
            metric=spec.metric,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, in the order of the outputs."""
        return self.outputs

    @property
    def metric(self) -> MetricName:
        """What the campaign is scored by."""
        return self._metric

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The label (records,) of each record, one of `classes_`. Ties go to the lowest, as the judge does.

        Takes an array, a tensor or a data frame (records, features) in raw units; raises ValidationSetError for
        features that do not fit.
        """
        found = self.predict_index(X)
        return np.asarray(self.classes_[found])

    def predict_index(self, X: Any) -> Ints:
        """The same as indices (records,) of `classes`."""
        return np.asarray(self._computed(X).argmax(axis=1), dtype=np.int64)

    def decision_function(self, X: Any) -> Floats:
        """The scores (records, classes); of two classes how much the second's is above the first's (records,)."""
        scores = self._computed(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities (records, classes), which sum to 1: the nearest distribution to what the scores stand for.

        Least squares on one-hot classes estimates probabilities (of the loss taylor-logistic z stands for 1/2 + z / 4),
        but may leave [0, 1]; the nearest distribution (Duchi et al., "Efficient projections onto the l1-ball", ICML
        2008) keeps the order of the classes.
        """
        scores = self._computed(X)
        return _nearest_distribution(0.5 + scores / 4 if self.loss == "taylor-logistic" else scores)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy, 0 to 1, on features (records, features) and labels (records,) as a validation set has them."""
        found = self.predict_index(X)
        right = found == self._scored_labels(y, len(found))
        return float(np.average(right, weights=sample_weights(sample_weight, len(found))))

    def _scored_labels(self, labels: Any, records: int) -> Ints:
        if np.asarray(self.classes_).dtype.kind in "biuf":
            # Labels that a table gave, as scikit-learn has them, whatever their names would be.
            given = plain_array(labels)
            if given.dtype.kind in "biuf" and given.shape == (records,) and np.isin(given, self.classes_).all():
                return _places(self.classes_, given)
        return class_indices(labels, self.classes, records)

    def _checked_labels(self, labels: Ints | Floats) -> Ints:
        return labels.astype(np.int64)

    def fit(self, X: Any, y: Any) -> Self:
        """Trains from zero, in the clear, on features (records, features) and labels (records,) of one's own.

        Features are scaled by their mean and deviation, as `standardised` does. Raises ValidationSetError.
        """
        if y is None:
            raise ValidationSetError("fit requires y to be passed, but the target y is None: give a label a record")
        table, names, feature_map, offset, scale = self._begin(X)
        given = plain_array(y)
        if given.ndim == 2 and given.shape[1] == 1:
            _warn_of_column()
            given = given[:, 0]
        if given.ndim != 1 or len(given) != len(table):
            raise ValidationSetError(
                f"the labels have shape {given.shape}, but there are {len(table)} records: give one label a record"
            )
        if given.dtype.kind == "f" and not (np.isfinite(given).all() and (given == np.round(given)).all()):
            raise ValidationSetError("Unknown label type: labels are numbers that name no class; NaN, inf or fractions")
        found, indices = np.unique(given, return_inverse=True)
        if len(found) < 2:
            raise ValidationSetError(
                f"all {len(table)} records are of {len(found)} class: give records of at least two classes"
            )
        self.classes_ = found
        outputs = tuple(str(label) for label in found.tolist())
        mapping = feature_map.of(len(names))
        self._become(names, outputs, offset, scale, np.zeros((mapping.outputs + 1, len(found))), mapping)
        return self.learn(table, indices.astype(np.int64))

    def _training_targets(self, labels: Ints | Floats) -> Floats:
        return np.eye(len(self.classes_))[labels.astype(np.int64)]


def _labels(classes: tuple[str, ...]) -> npt.NDArray[Any]:
    numbers = all(name.removeprefix("-").isdecimal() for name in classes)
    return np.array([int(name) for name in classes] if numbers else classes)


def _places(labels: npt.NDArray[Any], given: npt.NDArray[Any]) -> Ints:
    order = np.argsort(labels)
    return np.asarray(order[np.searchsorted(labels, given, sorter=order)], dtype=np.int64)


def _nearest_distribution(scores: Floats) -> Floats:
    """The Euclidean projection of each row (classes,) onto the distributions."""
    ranked = -np.sort(-scores, axis=1)
    over = (ranked.cumsum(axis=1) - 1) / np.arange(1, scores.shape[1] + 1)
    last = (ranked > over).sum(axis=1) - 1
    return np.asarray(np.clip(scores - over[np.arange(len(scores)), last][:, None], 0.0, None))


def _warn_of_column() -> None:
    import sys
    import warnings

    kind: type[Warning] = UserWarning
    if "sklearn" in sys.modules:
        from sklearn.exceptions import DataConversionWarning

        kind = DataConversionWarning
    words = "A column-vector y was passed when a 1d array was expected: give labels (records,)"
    warnings.warn(words, kind, stacklevel=3)
