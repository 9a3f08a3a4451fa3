"""A frozen public network as a feature map: everybody rebuilds it from a declaration and numbers, and runs no code.

It is evaluated in float64 by numpy alone, a block of records at a time, and its outputs are rounded to OUTPUT_BITS
fractional bits and clipped to +-CLIP. That grid is the judge's own (it takes inputs at 16 fractional bits) and far
coarser than what the order of a sum can change, about 2^-45: two machines differ, by one step, where a number lies that
near to the middle between two, one in hundreds of millions. That holds for networks as people train them. Parameters
can be chosen so large that sums cancel to nothing but their rounding: what those give is anybody's guess, harms whoever
published them, and is the same for one judge, who maps a validation set in one order always.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sonar.network import layers
from sonar.network.errors import ParameterError
from sonar.network.graph import Graph
from sonar.network.layers import AnyLayer, Shape
from sonar.syft.features import CLIP, FeatureMap

__all__ = ["MAX_FROZEN_WORK", "OUTPUT_BITS", "Frozen", "dump_parameters", "load_parameters"]

Floats = npt.NDArray[np.float64]

OUTPUT_BITS = 16
MAX_FROZEN_WORK = 1 << 22
"""The most multiplications of one record: some milliseconds on one core."""
_BLOCK_NUMBERS = 1 << 22
"""How many numbers a block of records may have on its way through: 32 MiB."""
_TENSOR = "parameters"
_MAX_HEADER = 1024


def dump_parameters(row: Floats) -> bytes:
    """All parameters (graph.size,), in the graph's order, as safetensors of float32."""
    return save({_TENSOR: np.ascontiguousarray(row, dtype=np.float32)})


def load_parameters(graph: Graph, data: bytes) -> Floats:
    """The parameters in untrusted bytes; raises ParameterError for anything but finite numbers of this graph."""
    if int.from_bytes(data[:8], "little") > _MAX_HEADER or len(data) > 8 + _MAX_HEADER + 4 * graph.size:
        raise ParameterError(f"{len(data)} bytes are not the {graph.size} parameters of the backbone")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ParameterError(f"the backbone's {len(data)} bytes are not a readable safetensors file") from error
    found = tensors.get(_TENSOR)
    if set(tensors) != {_TENSOR} or found is None or found.dtype != np.float32 or found.shape != (graph.size,):
        raise ParameterError(f"the backbone must hold exactly {graph.size} parameters of float32")
    if not np.isfinite(found).all():
        raise ParameterError("a parameter of the backbone is not finite")
    return found.astype(np.float64)


@dataclass(frozen=True)
class Frozen(FeatureMap):
    """The outputs of a graph's network, whose parameters are `data`, as `dump_parameters` writes them.

    Its inputs are the scaled features in the shape that the graph takes, in order.
    """

    graph: Graph
    data: bytes = field(repr=False)

    @property
    def outputs(self) -> int:
        """As many as the network gives."""
        return self.graph.outputs

    def names(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """backbone0, backbone1, and so on."""
        self._check_names(inputs)
        return tuple(f"backbone{number}" for number in range(self.outputs))

    @cached_property
    def parameters(self) -> Floats:
        """All numbers (graph.size,) in the graph's order."""
        return load_parameters(self.graph, self.data)

    @cached_property
    def _tensors(self) -> dict[tuple[int, str], Floats]:
        found, start = {}, 0
        for one in self.graph.parameters:
            found[one.layer, one.name] = self.parameters[start : start + one.size].reshape(one.shape)
            start += one.size
        return found

    def _apply(self, scaled: Floats) -> Floats:
        block = max(1, _BLOCK_NUMBERS // self.graph.numbers)
        outputs = np.empty((len(scaled), self.outputs))
        # Whatever the parameters are, what comes out is finite: infinities are clipped, what is no number counts as 0.
        with np.errstate(all="ignore"):
            for start in range(0, len(scaled), block):
                found = self._evaluated(scaled[start : start + block])
                rounded = np.rint(np.nan_to_num(found, nan=0.0, posinf=CLIP, neginf=-CLIP) * 2.0**OUTPUT_BITS)
                outputs[start : start + block] = np.clip(rounded / 2.0**OUTPUT_BITS, -CLIP, CLIP)
        return outputs

    def _evaluated(self, records: Floats) -> Floats:
        values = {0: records.reshape(len(records), *self.graph.takes)}
        last = {value: place for place, layer in enumerate(self.graph.layers) for value in layer.of}
        for place, layer in enumerate(self.graph.layers):
            parameters = {name: tensor for (of, name), tensor in self._tensors.items() if of == place}
            values[place + 1] = _step(layer, [values[value] for value in layer.of], parameters)
            for value in set(layer.of):
                if last[value] == place:
                    del values[value]
        return values[len(self.graph.layers)]


def _step(layer: AnyLayer, given: list[Floats], parameters: dict[str, Floats]) -> Floats:
    """What one layer gives, (batch, *shape)."""
    values, bias = given[0], parameters.get("bias")
    match layer:
        case layers.Linear():
            product = values @ parameters["weight"].T
            return product if bias is None else np.asarray(product + bias)
        case layers.Conv():
            return _conv(layer, values, parameters["weight"], bias)
        case layers.Pool():
            return _pool(layer, values)
        case layers.AdaptiveAvgPool():
            return _adaptive(values, layer.windows)
        case layers.Activation():
            return _activated(layer.op, values)
        case layers.Flatten():
            return values.reshape(len(values), -1)
        case layers.Dropout():
            return values
        case layers.LayerNorm():
            return _affine(_normal(values, layer.dimensions, layer.epsilon), parameters, 0)
        case layers.GroupNorm():
            grouped = values.reshape(len(values), layer.groups, -1)
            return _affine(_normal(grouped, 1, layer.epsilon).reshape(values.shape), parameters, values.ndim - 2)
        case layers.Embedding():
            places = np.clip(np.rint(np.nan_to_num(values)), 0, layer.count - 1).astype(np.int64)
            return np.asarray(parameters["weight"][places])
        case layers.Transpose():
            return values.transpose(0, 2, 1)
        case layers.Add():
            return np.asarray(given[0] + given[1])


def _windowed(values: Floats, kernel: Shape, stride: Shape, dilation: Shape) -> Floats:
    """Windows (batch, channels, *windows, *kernel) of values (batch, channels, *sizes)."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    found = sliding_window_view(values, reach, axis=tuple(range(2, values.ndim)))
    steps = tuple(slice(None, None, step) for step in (*stride, *dilation))
    return np.asarray(found[(slice(None), slice(None), *steps)])


def _padded(values: Floats, padding: Shape, filling: float) -> Floats:
    return np.pad(values, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=filling)


def _conv(layer: layers.Conv, values: Floats, weight: Floats, bias: Floats | None) -> Floats:
    found = _windowed(_padded(values, layer.padding, 0.0), layer.kernel, layer.stride, layer.dilation)
    batch, groups, each, dimensions = len(values), layer.groups, weight.shape[1], len(layer.kernel)
    sizes, inner = found.shape[2 : 2 + dimensions], range(3 + dimensions, 3 + 2 * dimensions)
    # One product of matrices for each group, all in one call: there may be as many groups as channels.
    parted = found.reshape(batch, groups, each, *found.shape[2:])
    columns = parted.transpose(1, 0, *range(3, 3 + dimensions), 2, *inner)
    products = columns.reshape(groups, -1, each * math.prod(layer.kernel)) @ weight.reshape(
        groups, layer.channels // groups, -1
    ).transpose(0, 2, 1)
    outputs = products.reshape(groups, batch, *sizes, -1).transpose(1, 0, 2 + dimensions, *range(2, 2 + dimensions))
    outputs = outputs.reshape(batch, layer.channels, *sizes)
    return outputs if bias is None else np.asarray(outputs + bias.reshape(-1, *(1,) * dimensions))


def _pool(layer: layers.Pool, values: Floats) -> Floats:
    largest = layer.op == "max_pool"
    padded = _padded(values, layer.padding, -np.inf if largest else 0.0)
    found = _windowed(padded, layer.kernel, layer.stride, (1,) * len(layer.kernel))
    inner = tuple(range(found.ndim - len(layer.kernel), found.ndim))
    return np.asarray(found.max(axis=inner) if largest else found.mean(axis=inner))


def _adaptive(values: Floats, windows: Shape) -> Floats:
    # The dimension that shrinks most first: what is in between is then no larger than what is given, or what comes out.
    for axis, count in sorted(enumerate(windows, start=2), key=lambda one: one[1] / values.shape[one[0]]):
        size, at = values.shape[axis], np.arange(count)
        starts, ends = at * size // count, -(-(at + 1) * size // count)
        if (ends - starts).max() <= 2:
            values = values.take(starts, axis) / 2 + values.take(ends - 1, axis) / 2
            continue
        # Windows may overlap: every second sum, from an end to the next start, is none. Nothing ends behind the last.
        padded = np.pad(values, [(0, int(here == axis)) for here in range(values.ndim)])
        sums = np.add.reduceat(padded, np.column_stack([starts, ends]).ravel(), axis=axis)
        sums = sums.take(range(0, 2 * count, 2), axis=axis)
        values = sums / (ends - starts).reshape(-1, *(1,) * (values.ndim - 1 - axis))
    return values


def _normal(values: Floats, dimensions: int, epsilon: float) -> Floats:
    axes = tuple(range(values.ndim - dimensions, values.ndim))
    centred = values - values.mean(axis=axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + epsilon))


def _affine(values: Floats, parameters: dict[str, Floats], behind: int) -> Floats:
    """Times the weight and with the bias, if there are any; `behind` their dimensions come so many more."""
    weight, bias = (
        None if tensor is None else tensor.reshape(*tensor.shape, *(1,) * behind)
        for tensor in (parameters.get("weight"), parameters.get("bias"))
    )
    scaled = values if weight is None else values * weight
    return np.asarray(scaled if bias is None else scaled + bias)


_ERF_STEPS = 1024
_ERF_END = 6.0
"""From here on erf is 1 to the last bit."""


@cache
def _erf_table() -> tuple[Floats, Floats]:
    """erf and its derivative, times the step, at all multiples of 1 / _ERF_STEPS up to the end and one more."""
    at = np.arange(int(_ERF_END * _ERF_STEPS) + 2) / _ERF_STEPS
    values = np.array([math.erf(x) for x in at.tolist()])
    return values, np.exp(-at * at) * (2 / math.sqrt(math.pi) / _ERF_STEPS)


def _erf(values: Floats) -> Floats:
    """The error function to 1e-13, by Hermite's cubics: numpy has none, and math.erf takes one number at a time."""
    known, slopes = _erf_table()
    scaled = np.minimum(np.abs(np.nan_to_num(values)), _ERF_END) * _ERF_STEPS
    place = scaled.astype(np.int64)
    t = scaled - place
    found = (
        known[place] * (1 + 2 * t) * (1 - t) ** 2 + known[place + 1] * t * t * (3 - 2 * t)
        + slopes[place] * t * (1 - t) ** 2 - slopes[place + 1] * t * t * (1 - t)
    )  # fmt: skip
    return np.asarray(np.copysign(found, values))


def _activated(op: str, values: Floats) -> Floats:
    match op:
        case "relu":
            found = np.maximum(values, 0)
        case "leaky_relu":
            found = np.where(values > 0, values, values * 0.01)
        case "elu":
            found = np.where(values > 0, values, np.expm1(np.minimum(values, 0)))
        case "gelu":
            found = values * (1 + _erf(values / math.sqrt(2))) / 2
        case "gelu_tanh":
            found = values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values * values * values))) / 2
        case "silu":
            found = values / (1 + np.exp(-values))
        case "tanh":
            found = np.tanh(values)
        case _:
            found = 1 / (1 + np.exp(-values))
    return np.asarray(found)
