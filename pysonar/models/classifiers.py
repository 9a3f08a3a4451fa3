"""Classifiers that stay encrypted and are linear in their features, or in any map of them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from pysonar._inputs import class_indices, class_name
from pysonar.errors import ModelError, ValidationSetError
from pysonar.models.base import Floats, Ints, Labels, Model
from pysonar.models.parts import SOLVED, MapOptions, l2_of, names_of
from sonar.protocol.spec import MAX_CLASSES, METRICS, MetricName

if TYPE_CHECKING:
    from pysonar.results import TrainedClassifier

__all__ = ["Classifier", "LinearClassifier", "RidgeClassifier"]


@dataclass(frozen=True, init=False, eq=False)
class Classifier(Model):
    """A model with two or more `classes`, of which a record has the one whose output is highest."""

    classes: tuple[str, ...]

    kind: ClassVar[str] = "classifier"

    @abstractmethod
    def __init__(self, features: int | Iterable[str], classes: int | Iterable[Any]) -> None: ...

    def _classify(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        offset: Any,
        scale: Any,
        feature_map: MapOptions,
        weights: Any,
        metric: str,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        if hasattr(classes, "tolist"):
            classes = classes.tolist()  # of an array or tensor the numbers in it
        if isinstance(classes, Iterable) and not isinstance(classes, str | bytes):
            classes = [class_name(one) for one in classes]
        self._put(classes=names_of(classes, "", "classes", 2, MAX_CLASSES))
        self._describe(
            features, offset=offset, scale=scale, feature_map=feature_map, metric=_metric(metric), training=training
        )
        self._start(weights)

    @classmethod
    def standardised(
        cls,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        like: Any,
        *,
        together: bool = False,
        **options: Any,
    ) -> Self:
        """A model whose public offset and scale are the mean and standard deviation of the features in `like`.

        `together` takes one mean and one deviation of all features, which suits pixels: of those that hardly ever
        differ it makes no large numbers. `options` are the constructor's own. Everybody can read the constants in the
        spec: take a table (records, features) whose column averages may be known.

        Raises ValidationSetError, ModelError.
        """
        names, scaling = cls._standardising(features, like, together=together)
        return cls(features=names, classes=classes, **{**scaling, **options})

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    def spec_outputs(self) -> dict[str, Any]:
        """The fields of a spec that tell of the classes."""
        return {"classes": self.classes}

    def labels_of(self, given: Any, records: int) -> Ints:
        """Class names or indices (records,) as indices; raises ValidationSetError."""
        return class_indices(given, self.classes, records)

    def check_validation(self, validation: Any) -> tuple[Floats, Labels]:
        """Features (records, features) in raw units and class indices (records,) of a pair (X, y).

        Raises ValidationSetError when they do not fit this model, or when clipping would blind it.
        """
        table, labels = super().check_validation(validation)
        if len(np.unique(labels)) < 2:
            raise ValidationSetError(
                f"every validation record is of class {self.classes[int(labels[0])]!r}: give records of several classes"
            )
        return table, labels

    def module(self) -> "TrainedClassifier":
        """The model with its start weights as a torch module that predicts: what a campaign would start from."""
        from pysonar.results import TrainedClassifier

        return TrainedClassifier.of(
            self.features,
            self.classes,
            self.offset,
            self.scale,
            self.weights,
            self.feature_map,
            self.training,
            metric=self.metric,
        )

    @classmethod
    def _outputs_of_result(cls, result: Any) -> dict[str, Any]:
        if hasattr(result, "targets"):
            raise ModelError(f"the result predicts numbers, and a {cls.__name__} classes: describe a LinearRegressor")
        return {"classes": result.outputs}

    @classmethod
    def _outputs_of_estimator(cls, classes: tuple[str, ...] | None, targets: int) -> dict[str, Any]:
        if classes is None:
            raise ModelError(
                f"the estimator predicts {targets} number(s), and a {cls.__name__} predicts classes: start a "
                "pysonar.LinearRegressor from it"
            )
        return {"classes": classes}

    def _told_outputs(self) -> str:
        return f"{len(self.classes)} classes"


@dataclass(frozen=True, init=False, eq=False)
class LinearClassifier(Classifier):
    """A linear classifier on named features: scores = [map(clip((x - offset) / scale)), 1] W.

    `features` and `classes` are names, or how many there are: 3 features are then x0, x1, x2 and 3 classes 0, 1, 2.
    Mines match the names to the columns and labels of their own data. `offset` and `scale` are public constants, one
    for all features or one each; scaled values are clipped to +-16. `feature_map` is what the model sees of them,
    public too: the scaled features themselves unless given, or one of

        {"kind": "fourier", "count": 512, "gamma": 0.2, "seed": 0}    random features of exp(-gamma |x - y|^2)
        {"kind": "polynomial", "degree": 2, "powers": True}           products of up to 2 or 3 features

    or the same as an object of `sonar.protocol.spec`. `weights` is where training starts: zero unless given, or an
    array (mapped features + 1, classes) with the bias last, a `torch.nn.Linear` on the mapped features, the result of
    an earlier campaign (or the campaign itself) with the same features, classes and map, or a fitted scikit-learn
    estimator. `metric` is what the Capsule scores by: accuracy, balanced_accuracy, macro_f1 or auc (of the difference
    of two class scores; of more classes the mean of each class's score against the rest).

    Raises ModelError for names that appear twice, wrong shapes, numbers that are not finite, maps that do not work, and
    metrics of no classifier.

    >>> model = LinearClassifier(["age", "pressure"], ["well", "ill"], offset=[50, 120], scale=[10, 15], metric="auc")
    >>> model.shape
    (3, 2)
    """

    def __init__(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        offset: Any = None,
        scale: Any = None,
        feature_map: MapOptions = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        self._classify(
            features,
            classes,
            offset=offset,
            scale=scale,
            feature_map=feature_map,
            weights=weights,
            metric=metric,
        )


@dataclass(frozen=True, init=False, eq=False)
class RidgeClassifier(Classifier):
    """A linear classifier whose ridge is its own argument: least squares on one-hot classes plus l2 |W|^2.

    `l2`, 0 to 1000, is taken of the mean loss of a mine's records: scikit-learn's `alpha` is `l2` times their number.
    A round trains long enough for the ridge, and not the number of steps, to decide. Everything else is as of
    LinearClassifier.

    >>> RidgeClassifier(4, 3, l2=0.01).training["l2"]
    0.01
    """

    def __init__(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        l2: float = 1e-2,
        offset: Any = None,
        scale: Any = None,
        feature_map: MapOptions = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        self._classify(
            features,
            classes,
            offset=offset,
            scale=scale,
            feature_map=feature_map,
            weights=weights,
            metric=metric,
            training={"loss": "ridge", "l2": l2_of(l2), "epochs": SOLVED},
        )


def _metric(given: str) -> MetricName:
    if given == "r2":
        raise ModelError("the metric r2 scores numbers, and this model has classes: take another")
    if given not in METRICS:
        raise ModelError(f"the metric {given!r} is none of {', '.join(m for m in METRICS if m != 'r2')}")
    return given
