"""The layers that a declared network may have: what each makes of a record's shape, its parameters and its work.

Shapes are without the batch: (features,), (channels, length) or (channels, height, width). All are torch's layers of
the same names with what is not declared here at its default; `sonar.network.building` makes them.

Work is counted in multiplications as a product of matrices has them, a nanosecond at most each. Whatever takes longer
for a number counts as so many: a graph of nothing but tanh must not take a judge fifty times what its bound says.
"""

# ruff: noqa: ARG002  (every layer is asked the same, whether it needs to know all of it or not)

import math
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ACTIVATIONS", "Activation", "AdaptiveAvgPool", "Add", "AnyLayer", "Conv", "Dropout", "Embedding", "Flatten",
    "GroupNorm", "LayerNorm", "Linear", "Pool", "Shape", "Transpose",
]  # fmt: skip

Shape = tuple[int, ...]

_LARGEST = 1 << 16
Size = Annotated[int, Field(ge=1, le=_LARGEST)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=2)]
Padding = Annotated[tuple[Annotated[int, Field(ge=0, le=1024)], ...], Field(min_length=1, max_length=2)]
One = Annotated[tuple[Annotated[int, Field(ge=0, le=_LARGEST)]], Field()]
Two = Annotated[tuple[Annotated[int, Field(ge=0, le=_LARGEST)], Annotated[int, Field(ge=0, le=_LARGEST)]], Field()]
Epsilon = Annotated[float, Field(ge=1e-8, le=1e-1)]
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")

# What a number counts as, by the slower of torch in float64 and numpy on one core, also where rows are short.
_LIGHT: Final = 4
"""Copied, compared or added to another."""
_HEAVY: Final = 16
"""An exponential, a random number, or a part of a mean and a variance."""


class Layer(BaseModel):
    """One step of a network. `of` are the values that it takes: 0 is the record, n what the n-th layer gives."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    of: One

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """What it gives for inputs of these shapes; raises ValueError where it takes none such."""
        return inputs[0]

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        """The names and shapes of its parameters, in order, where its input has a shape that it takes."""
        return ()

    def work(self, given: Shape, gives: Shape) -> int:
        """How many multiplications a record takes, or as long."""
        return _LIGHT * math.prod(gives)

    def scratch(self, given: Shape, gives: Shape) -> int:
        """How many numbers a record needs besides those that it gives."""
        return 0


class Linear(Layer):
    """`torch.nn.Linear` on the last dimension."""

    op: Literal["linear"] = "linear"
    units: Size
    bias: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*inputs[0][:-1], self.units)

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        return (("weight", (self.units, given[-1])), *([("bias", (self.units,))] if self.bias else []))

    def work(self, given: Shape, gives: Shape) -> int:
        return math.prod(given) * self.units + _LIGHT * math.prod(gives)


class Conv(Layer):
    """`torch.nn.Conv1d` or `Conv2d`, by how many numbers its `kernel` has, padded with zeros."""

    op: Literal["conv"] = "conv"
    channels: Size
    kernel: Sizes
    stride: Sizes
    padding: Padding
    dilation: Sizes
    groups: Size = 1
    bias: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        given = inputs[0]
        _check_dimensions(given, len(self.kernel), self.stride, self.padding, self.dilation)
        if given[0] % self.groups or self.channels % self.groups:
            raise ValueError(f"{given[0]} and {self.channels} channels are no multiples of {self.groups} groups")
        return (self.channels, *_windows(given[1:], self.kernel, self.stride, self.padding, self.dilation))

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        weight = (self.channels, given[0] // self.groups, *self.kernel)
        return (("weight", weight), *([("bias", (self.channels,))] if self.bias else []))

    def work(self, given: Shape, gives: Shape) -> int:
        products = math.prod(gives) * given[0] // self.groups * math.prod(self.kernel)
        # Of many groups the products are few, and to lay the windows out takes longer. With gaps they are laid out too.
        apart = self.groups > 1 or max(self.dilation) > 1
        laid = self.scratch(given, gives) if apart else _padded(given, self.padding)
        return products + _LIGHT * (math.prod(gives) + laid)

    def scratch(self, given: Shape, gives: Shape) -> int:
        # A library may lay every window beside the others, and make a padded copy before.
        return given[0] * math.prod(self.kernel) * math.prod(gives[1:]) + _padded(given, self.padding)


class Pool(Layer):
    """The largest or the mean number of each window: `torch.nn.MaxPool1d`, `AvgPool2d` and so on, by the `kernel`."""

    op: Literal["max_pool", "avg_pool"]
    kernel: Sizes
    stride: Sizes
    padding: Padding

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        given = inputs[0]
        _check_dimensions(given, len(self.kernel), self.stride, self.padding)
        if any(2 * padding > kernel for padding, kernel in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"a padding of {self.padding} is more than half of the kernel {self.kernel}")
        return (given[0], *_windows(given[1:], self.kernel, self.stride, self.padding, (1,) * len(self.kernel)))

    def work(self, given: Shape, gives: Shape) -> int:
        return _LIGHT * (math.prod(gives) * (math.prod(self.kernel) + 1) + _padded(given, self.padding))

    def scratch(self, given: Shape, gives: Shape) -> int:
        return _padded(given, self.padding)


class AdaptiveAvgPool(Layer):
    """`torch.nn.AdaptiveAvgPool1d` or `AdaptiveAvgPool2d`, to so many windows; to 1 it is the mean of a channel."""

    op: Literal["adaptive_avg_pool"] = "adaptive_avg_pool"
    windows: Sizes

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        _check_dimensions(inputs[0], len(self.windows))
        return (inputs[0][0], *self.windows)

    def work(self, given: Shape, gives: Shape) -> int:
        # Along a dimension m windows of n numbers have n + m - gcd(n, m) numbers in all, since they overlap. And
        # each is summed by itself: few rows of long windows by many columns of short ones are many numbers.
        summed = math.prod(n + m - math.gcd(n, m) for n, m in zip(given[1:], gives[1:], strict=True))
        return _LIGHT * (given[0] * summed + math.prod(gives))


class Activation(Layer):
    """A function of each number by itself; those of one more number have torch's default for it."""

    op: Literal["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"]

    def work(self, given: Shape, gives: Shape) -> int:
        return (_LIGHT if self.op in {"relu", "leaky_relu"} else _HEAVY) * math.prod(gives)


class Flatten(Layer):
    """All numbers of a record in one row."""

    op: Literal["flatten"] = "flatten"

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (math.prod(inputs[0]),)


class Dropout(Layer):
    """`torch.nn.Dropout`: nothing but in training."""

    op: Literal["dropout"] = "dropout"
    part: Annotated[float, Field(ge=0, lt=1)]

    def work(self, given: Shape, gives: Shape) -> int:
        return _HEAVY * math.prod(gives)


class LayerNorm(Layer):
    """`torch.nn.LayerNorm` over the last `dimensions` of a record."""

    op: Literal["layer_norm"] = "layer_norm"
    dimensions: Annotated[int, Field(ge=1, le=3)]
    epsilon: Epsilon = 1e-5
    affine: bool = True
    bias: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        if self.dimensions > len(inputs[0]):
            raise ValueError(f"a record of shape {inputs[0]} has no {self.dimensions} dimensions to normalise")
        if self.bias and not self.affine:
            raise ValueError("a norm that is not affine has no bias")
        return inputs[0]

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        return _affine(self.affine, self.bias, given[-self.dimensions :])

    def work(self, given: Shape, gives: Shape) -> int:
        return _HEAVY * math.prod(gives)


class GroupNorm(Layer):
    """`torch.nn.GroupNorm`; with as many groups as channels it is an instance norm. (A batch norm keeps statistics of
    a mine's own records, which no clipped change of parameters carries.)
    """

    op: Literal["group_norm"] = "group_norm"
    groups: Size
    epsilon: Epsilon = 1e-5
    affine: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        if inputs[0][0] % self.groups:
            raise ValueError(f"{inputs[0][0]} channels are no multiple of {self.groups} groups")
        if math.prod(inputs[0]) == self.groups:
            # Always 0 before the bias; and torch refuses such a group in a batch of one record, as the last may be.
            raise ValueError(f"each of the {self.groups} groups has a single number, which has no spread: give fewer")
        return inputs[0]

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        return _affine(self.affine, self.affine, given[:1])

    def work(self, given: Shape, gives: Shape) -> int:
        return _HEAVY * math.prod(gives)


class Embedding(Layer):
    """`torch.nn.Embedding` of the whole numbers nearest to the record's, cut off at 0 and `count` - 1.

    A record (length,) becomes (length, width); for a convolution along it, transpose that.
    """

    op: Literal["embedding"] = "embedding"
    count: Size
    width: Size

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        if len(inputs[0]) != 1:
            raise ValueError(f"an embedding takes a row of numbers, not a record of shape {inputs[0]}")
        return (*inputs[0], self.width)

    def parameters(self, given: Shape) -> tuple[tuple[str, Shape], ...]:
        return (("weight", (self.count, self.width)),)


class Transpose(Layer):
    """A record (a, b) as (b, a)."""

    op: Literal["transpose"] = "transpose"

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        if len(inputs[0]) != 2:
            raise ValueError(f"a record of shape {inputs[0]} does not have two dimensions to exchange")
        return inputs[0][::-1]


class Add(Layer):
    """The sum of two values of one shape, as in a residual connection."""

    op: Literal["add"] = "add"
    of: Two  # type: ignore[assignment]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        if inputs[0] != inputs[1]:
            raise ValueError(f"values of shapes {inputs[0]} and {inputs[1]} cannot be added")
        return inputs[0]


AnyLayer = Annotated[
    Linear
    | Conv
    | Pool
    | AdaptiveAvgPool
    | Activation
    | Flatten
    | Dropout
    | LayerNorm
    | GroupNorm
    | Embedding
    | Transpose
    | Add,
    Field(discriminator="op"),
]


def _affine(affine: bool, bias: bool, shape: Shape) -> tuple[tuple[str, Shape], ...]:
    names = (["weight"] if affine else []) + (["bias"] if affine and bias else [])
    return tuple((name, shape) for name in names)


def _check_dimensions(given: Shape, dimensions: int, *settings: Shape) -> None:
    if len(given) != dimensions + 1:
        raise ValueError(f"a record of shape {given} does not have a channel and {dimensions} more dimensions")
    if any(len(setting) != dimensions for setting in settings):
        raise ValueError(f"stride, padding and dilation need {dimensions} numbers each, as the kernel has")


def _padded(given: Shape, padding: Shape) -> int:
    """How many numbers a padded copy has; none is made without padding."""
    return given[0] * math.prod(n + 2 * p for n, p in zip(given[1:], padding, strict=True)) if any(padding) else 0


def _windows(given: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    """How many windows there are along each dimension."""
    counts = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(given, kernel, stride, padding, dilation, strict=True)
    )
    if min(counts) < 1:
        raise ValueError(f"a kernel of {kernel} does not fit into {given}")
    return counts
