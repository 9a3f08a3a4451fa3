"""A classifier that stays encrypted on top of a frozen public network."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pysonar.errors import ModelError
from pysonar.models.classifiers import Classifier
from pysonar.models.parts import SOLVED, l2_of
from sonar.network.errors import NetworkError
from sonar.protocol.training import AnyMap, BackboneMap

if TYPE_CHECKING:
    import torch

__all__ = ["Head"]


@dataclass(frozen=True, init=False, eq=False)
class Head(Classifier):
    """A linear classifier on what a frozen public `backbone` makes of the features; only the head is trained.

    `backbone` is a `torch.nn.Module` of layers that can be declared (Linear, Conv1d and 2d, pooling, activations,
    norms, embeddings, sums): records (batch, *takes) to rows (batch, width). `takes` is the shape of one record, such
    as (1, 8, 8), whose numbers are the features in order; without it a row of as many as `features` are. The spec
    carries the declaration and the numbers, in float32, public for everybody; every mine and the Capsule rebuild the
    network from them, and nobody runs anybody's code. About 168,000 parameters fit into a spec. What the backbone gives
    is clipped to +-16: let its last layer be bounded, such as a tanh. A mine needs twice as many records as the
    backbone is wide (`least_records`), and a policy that allows `backbones`. A backbone may also be a `BackboneMap` of
    `sonar.protocol.training`. `l2` and how long a round trains are as of RidgeClassifier, everything else as of
    LinearClassifier.

    Raises ModelError for a module that does what no declared layer does, which it names, and for one that is too large.

    >>> import torch
    >>> backbone = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh())
    >>> model = Head(backbone, 3, features=4)
    >>> model.shape, model.feature_map.kind
    ((17, 3), 'backbone')
    """

    def __init__(
        self,
        backbone: "torch.nn.Module | BackboneMap",
        classes: int | Iterable[Any],
        *,
        features: int | Iterable[str] | None = None,
        takes: Iterable[int] | None = None,
        l2: float = 3e-3,
        offset: Any = None,
        scale: Any = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        names = features if features is None or isinstance(features, int | np.integer) else tuple(features)
        feature_map = backbone if isinstance(backbone, BackboneMap) else _declared(backbone, names, takes)
        self._classify(
            feature_map.graph.features if names is None else names,
            classes,
            offset=offset,
            scale=scale,
            feature_map=feature_map,
            weights=weights,
            metric=metric,
            training={"loss": "ridge", "l2": l2_of(l2), "epochs": SOLVED},
        )

    @classmethod
    def _map_options(cls, feature_map: AnyMap) -> dict[str, Any]:
        if not isinstance(feature_map, BackboneMap):
            raise ModelError(f"the result has the feature map {feature_map.kind}, and a Head a backbone")
        return {"backbone": feature_map}


def _declared(backbone: "torch.nn.Module", features: Any, takes: Iterable[int] | None) -> BackboneMap:
    import torch
    from pydantic import ValidationError

    from sonar.network.frozen import dump_parameters
    from sonar.network.parameters import joined
    from sonar.network.tracing import trace
    from sonar.wording import told

    if not isinstance(backbone, torch.nn.Module):
        raise ModelError(f"a {type(backbone).__name__} is no backbone: give a torch.nn.Module")
    if takes is None and features is None:
        raise ModelError("the shape of the backbone's records is not known: give takes=(1, 28, 28), or features=784")
    shape = (features if isinstance(features, int) else len(features),) if takes is None else tuple(takes)
    try:
        # A single layer is traced as a step of something, not as its own inside.
        whole = backbone if any(backbone.children()) else torch.nn.Sequential(backbone)
        graph, tensors = trace(whole, shape)
        parameters = base64.b64encode(dump_parameters(joined(graph, tensors))).decode()
        return BackboneMap.model_validate({"graph": graph, "parameters": parameters})
    except NetworkError as error:
        raise ModelError(f"the backbone cannot be published: {error}") from error
    except ValidationError as error:
        raise ModelError(f"the backbone cannot be published: {told(error, 'backbone')}") from error
