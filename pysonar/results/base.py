"""The delivered model: a `torch.nn.Module` that takes features in raw units."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pysonar._features import torch_map
from pysonar._inputs import feature_table
from pysonar._scoring import measured
from pysonar.errors import ModelError, ValidationSetError
from pysonar.models.parts import MapOptions, feature_map_of, names_of
from pysonar.results.estimator import Estimator, table_of
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import MAX_FEATURES, AnyMap, MetricName, Training
from sonar.syft import FeatureMap, Schedule

if TYPE_CHECKING:
    from pysonar.attribution import Origin, Split

__all__ = ["TrainedModel"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BLOCK = 4096
"""Records that are mapped at once."""
_OPTIONS = ("loss", "epochs", "rate", "l2", "batch_size", "class_weights")


class TrainedModel(torch.nn.Module, Estimator, ABC):
    """outputs = linear(map(clip((x - offset) / scale))), x (records, features) in the units of mines' tables.

    `linear` is a `torch.nn.Linear` in float64, `offset` and `scale` are buffers (features,), `map` is a module without
    parameters, `mapping` what it stands for; `features` and `outputs` are names. What the constructor takes is how
    `fit` trains: the map and the options of `sonar.protocol.spec.Training`; of a campaign's result they are its spec's.
    """

    offset: torch.Tensor
    scale: torch.Tensor
    linear: torch.nn.Linear
    n_features_in_: int
    _origin: "Origin | None" = None

    def __init__(
        self,
        *,
        feature_map: MapOptions = None,
        loss: str = "ridge",
        epochs: int = 100,
        rate: float = 1.0,
        l2: float = 1e-3,
        batch_size: int | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.feature_map = feature_map
        self.loss = loss
        self.epochs = epochs
        self.rate = rate
        self.l2 = l2
        self.batch_size = batch_size
        self.class_weights = class_weights

    # ---- what it is

    def _become(
        self,
        features: tuple[str, ...],
        outputs: tuple[str, ...],
        offset: npt.ArrayLike,
        scale: npt.ArrayLike,
        weights: npt.ArrayLike,
        mapping: FeatureMap,
    ) -> None:
        """Takes weights (mapped features + 1, outputs) on scaled features; raises ModelError where they do not fit."""
        values = np.array(weights, dtype=np.float64)
        shape = mapping.outputs + 1, len(outputs)
        if mapping.inputs != len(features) or values.shape != shape:
            raise ModelError(
                f"weights of shape {values.shape} and a map of {mapping.inputs} features do not fit a model of "
                f"{len(features)} features, which needs {shape}"
            )
        self._features, self._outputs, self._mapping = features, outputs, mapping
        self.map = torch_map(mapping)
        self.register_buffer("offset", torch.tensor(np.array(offset), dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(np.array(scale), dtype=torch.float64))
        self.linear = torch.nn.Linear(mapping.outputs, len(outputs), dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(values[:-1].T.copy()))
            self.linear.bias.copy_(torch.tensor(values[-1].copy()))
        self.n_features_in_ = len(features)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of what it takes, in order."""
        self._require_fitted()
        return self._features

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives, in order: classes or targets."""
        self._require_fitted()
        return self._outputs

    @property
    def mapping(self) -> FeatureMap:
        """What the scaled features become before the model sees them."""
        self._require_fitted()
        return self._mapping

    @property
    def weights(self) -> Floats:
        """The weights (mapped features + 1, outputs), bias last, on scaled features: the start of another campaign."""
        self._require_fitted()
        with torch.no_grad():
            return np.vstack([self.linear.weight.T.cpu().numpy(), self.linear.bias.cpu().numpy()])

    @property
    @abstractmethod
    def metric(self) -> MetricName:
        """What the campaign is scored by."""

    # ---- what it computes

    def _raw_outputs(self, features: torch.Tensor) -> torch.Tensor:
        self._require_fitted()
        scaled = (features.to(self.offset.dtype) - self.offset) / self.scale
        outputs: torch.Tensor = self.linear(self.map(scaled.clamp(-CLIP, CLIP)))
        return outputs

    def _mapped(self, X: Any) -> Floats:
        """What `linear` sees of records, with a bias of 1 last (records, mapped features + 1), as an array."""
        table = torch.tensor(self._table(X))
        with torch.no_grad():
            blocks = (block.to(self.offset.device) for block in torch.split(table, _BLOCK))
            scaled = (((block - self.offset) / self.scale).clamp(-CLIP, CLIP) for block in blocks)
            mapped = torch.cat([self.map(block).cpu() for block in scaled]).numpy()
        return np.hstack([mapped, np.ones((len(mapped), 1))])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs (records, outputs) of features (records, features) in raw units."""
        return self._raw_outputs(features)

    def _computed(self, X: Any) -> Floats:
        """The same as an array, for anything that `predict` takes, in evaluation mode: nothing is dropped."""
        self._require_fitted()
        table = torch.tensor(self._table(X))
        with torch.no_grad(), self._evaluating():
            blocks = [self._raw_outputs(block.to(self.offset.device)).cpu() for block in torch.split(table, _BLOCK)]
        return np.asarray(torch.cat(blocks).numpy(), dtype=np.float64)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The module in evaluation mode, and then in its own again."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _table(self, X: Any) -> Floats:
        given, width, _ = table_of(X)
        if len(given) == 0:
            raise ValidationSetError(f"0 sample(s) (shape=(0, {width})) while a minimum of 1 is required.")
        if width != len(self._features) and getattr(X, "columns", None) is None:
            raise ValidationSetError(
                f"X has {width} features, but {type(self).__name__} is expecting {len(self._features)} features as "
                "input: give one column for each feature of the model, in its order"
            )
        return feature_table(given, self._features)

    def campaign_score(self, X: Any, y: Any) -> float:
        """The campaign's own metric, 0 to 1, on features (records, features) and labels as a validation set has them.

        It is what the Capsule attests, but for records on the border of two classes. Raises ValidationSetError.
        """
        outputs = self._computed(X)
        return measured(self.metric, outputs, self._scored_labels(y, len(outputs)))

    def _score_checked(self, features: Floats, labels: Ints | Floats) -> float:
        """The same on what `check_validation` of a model gives: class indices, which are no names, or raw targets."""
        return measured(self.metric, self._computed(features), self._checked_labels(labels))

    @abstractmethod
    def _scored_labels(self, labels: Any, records: int) -> Ints | Floats:
        """Labels of a validation set (records,) as the metric takes them."""

    @abstractmethod
    def _checked_labels(self, labels: Ints | Floats) -> Ints | Floats:
        """The same of labels as `check_validation` gives them."""

    # ---- whose it is

    def attribution(self, X: Any) -> "Split":
        """Every output of records as start + each mine's part + rounding; where the campaign opens its mines' parts.

        Takes what `predict` takes. Raises NotOpenError for a campaign without attribution="open", ModelError for a
        model that is no campaign's result as it was delivered, and what `Campaign.result` raises.
        """
        return self._whence().split(self, X)

    def without(self, mine: str) -> Self:
        """The model without the part of the account `mine`. Raises as `attribution`, ModelError where it has none."""
        return self._whence().without(self, mine)

    def _whence(self) -> "Origin":
        if self._origin is None:
            raise ModelError(
                f"this {type(self).__name__} is no campaign's result as it was delivered, which alone has mines' parts"
            )
        return self._origin

    # ---- what it learns

    def learn(self, features: Floats, labels: Ints | Floats, options: Mapping[str, Any] | None = None) -> Self:
        """Trains from the present weights, in the clear, on records as `check_validation` of a model gives them.

        `options` come before what the constructor was told. It is what a mine computes, without encryption. Raises
        TrainingError for records from which nothing can be learned.
        """
        schedule = self._schedule(options or {})
        scaled = (features - self.offset.cpu().numpy()) / self.scale.cpu().numpy()
        mapped = self._mapping.transform(np.clip(scaled, -CLIP, CLIP))
        design = np.hstack([mapped, np.ones((len(mapped), 1))])
        targets = self._training_targets(labels)
        affine = schedule.training_map(schedule.gather([(design, targets)], design.shape[1], targets.shape[1]))
        weights = self.weights
        with torch.no_grad():
            trained = weights + affine.change @ weights + affine.constant
            self.linear.weight.copy_(torch.tensor(trained[:-1].T.copy()))
            self.linear.bias.copy_(torch.tensor(trained[-1].copy()))
        return self

    def _schedule(self, options: Mapping[str, Any]) -> Schedule:
        told = {name: getattr(self, name) for name in _OPTIONS}
        return Training.model_validate({**told, **options}).schedule

    @abstractmethod
    def _training_targets(self, labels: Ints | Floats) -> Floats:
        """The same (records, outputs) as the training takes them."""

    def _begin(self, X: Any) -> tuple[Floats, tuple[str, ...], AnyMap, Floats, Floats]:
        """Features (records, features) to learn from: their names, map, offset and scale, mean 0 and deviation 1."""
        given, width, named = table_of(X)
        if width == 0:
            raise ValidationSetError(f"0 feature(s) (shape=({len(given)}, 0)) while a minimum of 1 is required.")
        if len(given) < 2:
            raise ValidationSetError(
                f"{len(given)} sample(s), and a minimum of 2 is required: n_samples=1 tells nothing"
            )
        names = named if named is not None else names_of(width, "x", "features", 1, MAX_FEATURES)
        table = feature_table(given, names)
        spread = table.std(axis=0)
        self.__dict__.pop("feature_names_in_", None)
        if named is not None:
            self.feature_names_in_ = np.array(named, dtype=object)
        return (
            table,
            names,
            feature_map_of(self.feature_map, width),
            table.mean(axis=0),
            np.where(spread > 0, spread, 1.0),
        )
