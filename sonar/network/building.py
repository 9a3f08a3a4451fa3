"""From a declared graph to a torch module with its parameters, and to what it computes: nobody's code is run."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonar.network import layers
from sonar.network.graph import Graph
from sonar.network.layers import AnyLayer, Shape

__all__ = ["Network", "build", "filled"]

_WINDOWS_AT_ONCE = 1 << 23
"""How many numbers of windows are laid out at once: 64 MiB, of however many records somebody predicts."""


class Network(nn.Module):
    """What a graph declares: records (batch, *graph.takes) to outputs (batch, graph.outputs).

    `steps` has a module for each layer. Parameters are zero until they are loaded.
    """

    def __init__(self, graph: Graph, *, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.graph = graph
        self.steps = nn.ModuleList(_step(layer, graph.shapes[layer.of[0]], dtype) for layer in graph.layers)
        # A value is let go of after the last layer that takes it.
        self._last = {value: place for place, layer in enumerate(graph.layers) for value in layer.of}

    def forward(self, records: Tensor) -> Tensor:
        """The outputs (batch, outputs) of records of the graph's shape, or of so many features in a row."""
        values: dict[int, Tensor] = {0: records.reshape(len(records), *self.graph.takes)}
        for place, (layer, step) in enumerate(zip(self.graph.layers, self.steps, strict=True)):
            values[place + 1] = step(*(values[value] for value in layer.of))
            for value in layer.of:
                if self._last[value] == place:
                    values.pop(value, None)
        return values[len(self.steps)]

    def tensors(self) -> tuple[nn.Parameter, ...]:
        """The parameters in the graph's order."""
        return tuple(getattr(self.steps[one.layer], one.name) for one in self.graph.parameters)


def build(graph: Graph, tensors: Sequence[Tensor], *, dtype: torch.dtype = torch.float64) -> Network:
    """The graph's module with these parameters, in the graph's order and shapes; they are copied."""
    return filled(Network(graph, dtype=dtype), tensors)


def filled(network: Network, tensors: Sequence[Tensor]) -> Network:
    """The same network with these parameters, in the graph's order and shapes; they are copied."""
    with torch.no_grad():
        for parameter, tensor in zip(network.tensors(), tensors, strict=True):
            parameter.copy_(tensor)
    return network


class _Lookup(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch names it so)
        # What is no number has no place: it takes the first, so that no weights can make a look-up fail.
        return super().forward(input.nan_to_num(0.0).round().clamp(0, self.num_embeddings - 1).long())


class _Conv1d(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not _is_slow(self, input):
            return super().forward(input)
        return _grouped(self, input.unsqueeze(2), (1, *self.kernel_size), (1, *self.stride), (0, *_whole(self.padding)),
                        (1, *self.dilation)).squeeze(2)  # fmt: skip


class _Conv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not _is_slow(self, input):
            return super().forward(input)
        return _grouped(self, input, self.kernel_size, self.stride, _whole(self.padding), self.dilation)


def _is_slow(module: nn.Conv1d | nn.Conv2d, values: Tensor) -> bool:
    """Whether torch would compute groups, or where there are gaps records, one by one, at 20 microseconds each.

    It does so in float64, as a judge works.
    """
    return (module.groups > 1 or max(module.dilation) > 1) and values.dtype == torch.float64


def _whole(padding: str | Shape) -> Shape:
    assert not isinstance(padding, str), "declared layers are padded by numbers"
    return padding


def _grouped(
    module: nn.Conv1d | nn.Conv2d, values: Tensor, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> Tensor:
    """A convolution of values (batch, channels, height, width) as one product of matrices for each group."""
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(values.shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    many = max(1, _WINDOWS_AT_ONCE // (values.shape[1] * math.prod(kernel) * height * width))
    if len(values) > many:
        parts = torch.split(values, many)
        return torch.cat([_grouped(module, part, kernel, stride, padding, dilation) for part in parts])
    windows, groups = functional.unfold(values, kernel, dilation, padding, stride), module.groups
    batch, _, places = windows.shape
    columns = windows.reshape(batch, groups, -1, places).permute(1, 2, 0, 3).reshape(groups, -1, batch * places)
    found = module.weight.reshape(groups, module.out_channels // groups, -1) @ columns
    found = found.reshape(module.out_channels, batch, places).transpose(0, 1)
    if module.bias is not None:
        found = found + module.bias.reshape(-1, 1)
    return found.reshape(batch, module.out_channels, height, width)


class _Sum(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class _Transpose(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.transpose(1, 2)


def _step(layer: AnyLayer, given: Shape, dtype: torch.dtype) -> nn.Module:
    """The module of one layer, its parameters zero: what would be drawn is never used, and drawing takes time."""
    with torch.device("meta"):
        step = _declared(layer, given)
    step = step.to_empty(device="cpu").to(dtype)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.zero_()
    return step


def _declared(layer: AnyLayer, given: Shape) -> nn.Module:
    match layer:
        case layers.Linear():
            return nn.Linear(given[-1], layer.units, bias=layer.bias)
        case layers.Conv():
            return _CONVOLUTIONS[len(layer.kernel)](
                given[0], layer.channels, layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups,
                layer.bias,
            )  # fmt: skip
        case layers.Pool():
            return _POOLS[layer.op, len(layer.kernel)](layer.kernel, layer.stride, layer.padding)
        case layers.AdaptiveAvgPool():
            return _ADAPTIVE[len(layer.windows)](layer.windows)
        case layers.Activation():
            return _Function(layer.op)
        case layers.Flatten():
            return nn.Flatten()
        case layers.Dropout():
            return nn.Dropout(layer.part)
        case layers.LayerNorm():
            return nn.LayerNorm(given[-layer.dimensions :], layer.epsilon, layer.affine, layer.bias)
        case layers.GroupNorm():
            return nn.GroupNorm(layer.groups, given[0], layer.epsilon, layer.affine)
        case layers.Embedding():
            return _Lookup(layer.count, layer.width)
        case layers.Transpose():
            return _Transpose()
        case layers.Add():
            return _Sum()


class _Function(nn.Module):
    def __init__(self, op: str) -> None:
        super().__init__()
        self.op = op

    def forward(self, values: Tensor) -> Tensor:
        return _FUNCTIONS[self.op](values)

    def extra_repr(self) -> str:
        return self.op


_Made = Callable[..., nn.Module]
_CONVOLUTIONS: dict[int, _Made] = {1: _Conv1d, 2: _Conv2d}
_POOLS: dict[tuple[str, int], _Made] = {
    ("max_pool", 1): nn.MaxPool1d, ("max_pool", 2): nn.MaxPool2d,
    ("avg_pool", 1): nn.AvgPool1d, ("avg_pool", 2): nn.AvgPool2d,
}  # fmt: skip
_ADAPTIVE: dict[int, _Made] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu, "leaky_relu": functional.leaky_relu, "elu": functional.elu, "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"), "silu": functional.silu, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}  # fmt: skip
