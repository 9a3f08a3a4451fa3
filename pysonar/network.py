"""Any torch module that declared layers make up: mines train it in the clear, and only what they post is encrypted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import ValidationError

from pysonar.errors import ModelError
from pysonar.models.base import Floats, Ints, Labels, Model
from pysonar.models.classifiers import LinearClassifier
from pysonar.models.parts import frozen
from pysonar.models.regressors import LinearRegressor
from sonar.network import Graph, NetworkError, NetworkTraining
from sonar.protocol.networks import NetworkTerms
from sonar.protocol.spec import Encoding, IdentityMap, Spec
from sonar.wording import told

if TYPE_CHECKING:
    import torch

    from pysonar.results import TrainedModel

__all__ = ["Network"]


@dataclass(frozen=True, init=False, eq=False)
class Network(Model):
    """A torch module that mines train, described: its layers, its start, how it is trained and who may have it.

    The mode keeps other secrets than that of linear models: every mine that the terms admit reads the model, and the
    Capsule each mine's update. What stays secret is the model from everybody else, and each mine's update from all but
    the Capsule; docs/networks.md says it in full.

    `module` takes records of shape `takes` (channels, height, width), (channels, length), or one row unless given, and
    gives one number a class or target. It may have `torch.nn` layers Linear, Conv1d and 2d, LayerNorm, GroupNorm,
    Embedding, Dropout, Flatten, pools and activations, and residual sums; its parameters, two million at most, are the
    start. It travels as a declaration of these layers, never as code. `features` are their names or how many; with
    `classes` it classifies, with `targets` it predicts numbers, whose names and constants are as of LinearClassifier
    and LinearRegressor. `training` are the fields of `sonar.network.NetworkTraining`: optimizer, learning_rate,
    momentum, weight_decay, epochs, batch_size and clip_norm. `accounts` are the mines that are admitted, by their
    addresses; without any it is everybody who holds the campaign's bond.

    Raises ModelError for what cannot be declared, by its name.

    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> Network(module, features=4, classes=3, training={"epochs": 2}).parameters
    67
    """

    graph: Graph = field(repr=False)
    terms: NetworkTerms = field(repr=False)
    _like: LinearClassifier | LinearRegressor = field(repr=False)

    kind: ClassVar[str] = "network"

    def __init__(
        self,
        module: "torch.nn.Module",
        features: int | Iterable[str],
        *,
        classes: int | Iterable[Any] | None = None,
        targets: int | Iterable[str] | None = None,
        takes: tuple[int, ...] | None = None,
        offset: Any = None,
        scale: Any = None,
        target_offset: Any = None,
        target_scale: Any = None,
        metric: str = "accuracy",
        training: Mapping[str, Any] | None = None,
        accounts: Iterable[str] = (),
    ) -> None:
        from sonar.network.parameters import joined
        from sonar.network.tracing import trace

        if (classes is None) == (targets is None):
            raise ModelError("a network predicts either classes or targets: name one of them")
        like: LinearClassifier | LinearRegressor
        if targets is None:
            assert classes is not None
            like = LinearClassifier(features, classes, offset=offset, scale=scale, metric=metric)
        else:
            like = LinearRegressor(
                features, targets, offset=offset, scale=scale, target_offset=target_offset, target_scale=target_scale
            )
        shape = (len(like.features),) if takes is None else tuple(takes)
        try:
            graph, tensors = trace(module, shape)
            row = joined(graph, tensors)
            loss = "mse" if targets is not None else "cross_entropy"
            terms = NetworkTerms(
                graph=graph,
                training=NetworkTraining.model_validate({"loss": loss, **(training or {})}),
                accounts=tuple(accounts),
            )
        except NetworkError as error:
            raise ModelError(f"{error}{_shape_hint(module) if takes is None else ''}") from error
        except ValidationError as error:
            fields = ", ".join(name for name in NetworkTraining.model_fields if name != "loss")
            raise ModelError(
                f"the network's terms do not work: {told(error, 'training')}; training has {fields}"
            ) from error
        if (graph.features, graph.outputs) != (len(like.features), len(like.outputs)):
            raise ModelError(
                f"the module takes {graph.features} numbers and gives {graph.outputs}, but there are "
                f"{len(like.features)} features and {len(like.outputs)} {'classes' if targets is None else 'targets'}: "
                "its last layer must give one number for each of these, also of two classes"
            )
        self._put(
            features=like.features, offset=like.offset, scale=like.scale, feature_map=IdentityMap(),
            weights=frozen(row), metric=like.metric, training={}, graph=graph, terms=terms, _like=like,
        )  # fmt: skip

    @property
    def parameters(self) -> int:
        """How many numbers the module has."""
        return self.graph.size

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and width of the parameters as they are encrypted."""
        return self.terms.shape(self.encoding().slot_width)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes or targets."""
        return self._like.outputs

    @property
    def name(self) -> str:
        """What a campaign is called unless it is given a name."""
        return f"Network of {self.parameters} parameters, {self._told_outputs()}"

    def encoding(self) -> Encoding:
        """The fixed-point scales and slots that suit it."""
        return Encoding.for_network()

    def encoded(self, spec: Spec) -> Ints:
        """The start parameters as the spec encrypts them: integers (rows, width)."""
        from sonar.network.parameters import encode, in_rows

        encoding = spec.encoding
        return in_rows(encode(np.asarray(self.weights), encoding.weight_bits, encoding.weight_bound), spec.shape)

    def spec_outputs(self) -> dict[str, Any]:
        """The fields of a spec that tell of the outputs and of the network."""
        return {**self._like.spec_outputs(), "mode": "network", "network": self.terms}

    def labels_of(self, given: Any, records: int) -> Labels:
        """Class indices (records,), or targets (records, targets) in raw units; raises ValidationSetError."""
        return self._like.labels_of(given, records)

    def check_validation(self, validation: Any) -> tuple[Floats, Labels]:
        """Features (records, features) and labels as the metric takes them; raises ValidationSetError."""
        return self._like.check_validation(validation)

    def check_scales(self, table: Floats, labels: Labels) -> None:
        """As of the linear model of the same features and outputs."""
        self._like.check_scales(table, labels)

    def module(self) -> "TrainedModel":
        """The network with its start parameters as a torch module that predicts: what a campaign would start from."""
        from pysonar.results.network import trained_network

        return trained_network(self._spec(), np.asarray(self.weights))

    def _spec(self) -> Spec:
        return Spec.build(
            name="start", metric=self.metric, features=self.spec_features(), encoding=self.encoding(),
            payout={"target": 1_000_000}, **self.spec_outputs(),
        )  # fmt: skip

    @property
    def rounds(self) -> Mapping[str, Any]:
        """At least three mines, of two of whom each would learn the other's change; what mines ask for by default."""
        return MappingProxyType({"min_mines": 3})

    def _told_outputs(self) -> str:
        return f"{len(self.outputs)} {'targets' if self.terms.training.loss == 'mse' else 'classes'}"

    @classmethod
    def _outputs_of_result(cls, result: Any) -> dict[str, Any]:  # noqa: ARG003
        raise ModelError(
            "a network is described by its module: pysonar.Network(result.network, ...) starts from a result"
        )

    @classmethod
    def _outputs_of_estimator(cls, classes: tuple[str, ...] | None, targets: int) -> dict[str, Any]:  # noqa: ARG003
        raise ModelError("a network starts from the parameters of its own module, not from an estimator")


def _shape_hint(module: Any) -> str:
    """What is likely wrong where somebody said nothing of the shape of records that convolutions take."""
    import torch

    kinds = torch.nn.Conv1d | torch.nn.Conv2d
    if not isinstance(module, torch.nn.Module) or not any(isinstance(layer, kinds) for layer in module.modules()):
        return ""
    return "; convolutions take takes=(channels, height, width) or (channels, length), without which a record is a row"
