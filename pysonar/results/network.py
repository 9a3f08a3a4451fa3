"""What a campaign for a network delivers: the rebuilt module behind its public scaling, with the same conventions."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pysonar.errors import ModelError, NotOpenError
from pysonar.results.base import Floats, Ints, TrainedModel
from pysonar.results.classifier import TrainedClassifier, _labels
from pysonar.results.regressor import TrainedRegressor
from sonar.network import Graph, NetworkTraining
from sonar.network.building import Network, build
from sonar.network.parameters import decode, joined, out_of_rows, parted
from sonar.network.training import train
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import IdentityMap, Spec
from sonar.syft import Identity

__all__ = ["NetworkClassifier", "NetworkRegressor", "trained_network"]


class _Trained(TrainedModel):
    """A network in place of the linear layer; `network` is the torch module itself, in float64, on scaled records."""

    network: Network

    def _become_network(self, spec: Spec, row: Floats) -> None:
        assert spec.network is not None
        names = tuple(feature.name for feature in spec.features)
        self._features, self._outputs = names, spec.classes or tuple(target.name for target in spec.targets)
        self._mapping, self.feature_map = Identity(len(names)), IdentityMap()
        self.register_buffer("offset", torch.tensor([f.offset for f in spec.features], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor([f.scale for f in spec.features], dtype=torch.float64))
        self.network = build(spec.network.graph, parted(spec.network.graph, row)).eval()
        self._training: NetworkTraining = spec.network.training
        self.n_features_in_ = len(names)
        self.feature_names_in_ = np.array(names, dtype=object)

    @property
    def graph(self) -> Graph:
        """The network's declared layers."""
        return self.network.graph

    @property
    def weights(self) -> Floats:
        """All parameters (parameters,) in the graph's order."""
        self._require_fitted()
        return joined(self.graph, self.network.tensors())

    def _raw_outputs(self, features: torch.Tensor) -> torch.Tensor:
        self._require_fitted()
        scaled = (features.to(self.offset.dtype) - self.offset) / self.scale
        outputs: torch.Tensor = self.network(scaled.clamp(-CLIP, CLIP))
        return outputs

    def _whence(self) -> Any:
        raise NotOpenError(
            "a network's predictions are no sum of what its mines added: only linear and kernel models can be split"
        )

    def learn(self, features: Floats, labels: Ints | Floats, options: Mapping[str, Any] | None = None) -> Self:
        """Trains from the present parameters, in the clear, as a mine does on its records.

        `options` are fields of `sonar.network.NetworkTraining` that come before the campaign's. Raises NetworkError
        where the training diverges.
        """
        training = NetworkTraining.model_validate({**self._training.model_dump(), **(options or {})})
        scaled = np.clip((features - self.offset.cpu().numpy()) / self.scale.cpu().numpy(), -CLIP, CLIP)
        row = self.weights
        row = row + train(self.graph, row, scaled, self._training_targets(labels), training, seed=0)
        with torch.no_grad():
            for parameter, tensor in zip(self.network.tensors(), parted(self.graph, row), strict=True):
                parameter.copy_(tensor)
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on from the present parameters, in the clear, on records of one's own.

        Raises ValidationSetError, and ModelError for what scikit-learn's `clone` makes, which has no layers to train.
        """
        if not self.__sklearn_is_fitted__():
            raise ModelError(
                f"this {type(self).__name__} has no layers: a network's result is trained on from where it is, so give "
                "scikit-learn's tools a deepcopy, or sklearn.frozen.FrozenEstimator(result)"
            )
        table = self._table(X)
        return self.learn(table, self._scored_raw(y, len(table)))

    def _scored_raw(self, labels: Any, records: int) -> Ints | Floats:
        return self._scored_labels(labels, records)


class NetworkClassifier(_Trained, TrainedClassifier):
    """A trained network that classifies; everything but `learn` and probabilities is as of TrainedClassifier."""

    def __init__(self) -> None:
        super().__init__()

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities (records, classes): the softmax of the outputs, which cross-entropy trains."""
        scores = self._computed(X)
        found = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(found / found.sum(axis=1, keepdims=True))


class NetworkRegressor(_Trained, TrainedRegressor):
    """A trained network that predicts numbers; everything but `learn` is as of TrainedRegressor."""

    def __init__(self) -> None:
        super().__init__()

    def _scored_raw(self, labels: Any, records: int) -> Ints | Floats:
        from pysonar._inputs import target_table

        return target_table(labels, self.targets, records)


def trained_network(spec: Spec, weights: npt.NDArray[Any]) -> TrainedModel:
    """The module of a network's parameters: floats (parameters,), or integers (rows, width) at the spec's scale."""
    if spec.network is None:
        raise ModelError(f"a campaign of mode {spec.mode!r} delivers no network")
    row: Floats = weights.astype(np.float64)
    if weights.ndim == 2:
        row = decode(out_of_rows(weights, spec.network.graph.size).astype(np.int64), spec.encoding.weight_bits)
    if spec.targets:
        regressor = NetworkRegressor()
        regressor._become_network(spec, row)
        regressor._take_targets([one.offset for one in spec.targets], [one.scale for one in spec.targets])
        return regressor
    classifier = NetworkClassifier()
    classifier._become_network(spec, row)
    classifier.classes_ = _labels(spec.classes)
    classifier._metric = spec.metric
    return classifier
