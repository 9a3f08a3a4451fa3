"""Which layers keep records apart: only of these a record's gradient is its own, and can be clipped. Without torch."""

from typing import Final

from sonar.network.errors import NetworkError
from sonar.network.graph import Graph

__all__ = ["SEPARABLE", "check_separable"]

SEPARABLE: Final = frozenset({
    "linear", "conv", "max_pool", "avg_pool", "adaptive_avg_pool", "relu", "leaky_relu", "elu", "gelu", "gelu_tanh",
    "silu", "tanh", "sigmoid", "flatten", "dropout", "layer_norm", "group_norm", "embedding", "transpose", "add",
})  # fmt: skip
"""Layers that are known to keep records apart, and to be differentiated one by one: what is not here is refused."""


def check_separable(graph: Graph) -> None:
    """Raises NetworkError, with its name, for a layer that may mix records."""
    for place, layer in enumerate(graph.layers):
        if layer.op not in SEPARABLE:
            raise NetworkError(
                f"layer {place} ({layer.op}) is not known to keep records apart, so no noise of a known size hides "
                "one: use other layers where mines have privacy on"
            )
