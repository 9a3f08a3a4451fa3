"""A network as a campaign declares it: layers in order, every shape and size known and bounded before one is built.

Canonical JSON. Whoever reads a graph has checked that it can be built, how many parameters it has, and that neither a
record's numbers nor its multiplications are more than a mine and a judge will bear.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sonar import canonical
from sonar.network.errors import NetworkError
from sonar.network.layers import AnyLayer, Shape
from sonar.wording import told

__all__ = [
    "MAX_GRAPH_BYTES", "MAX_LAYERS", "MAX_NUMBERS", "MAX_PARAMETERS", "MAX_WORK", "Graph", "Parameter",
]  # fmt: skip

MAX_GRAPH_BYTES = 1 << 17
MAX_LAYERS = 256
MAX_PARAMETERS = 2_000_000
MAX_NUMBERS = 1 << 22
"""The most numbers that one record takes on its way through the layers: 32 MiB of float64."""
MAX_WORK = 1 << 28
"""The most multiplications of one record on its way through: a tenth of a second on one core."""
Size = Annotated[int, Field(ge=1, le=1 << 16)]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor of a network: its layer (counted from 0), its name there, and its shape."""

    layer: int
    name: str
    shape: Shape

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class Graph(BaseModel):
    """A network on records of shape `takes`. Its last layer gives the outputs (outputs,), one a class or target."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    takes: Annotated[tuple[Size, ...], Field(min_length=1, max_length=3)]
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, max_length=MAX_LAYERS)]

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if math.prod(self.takes) > MAX_NUMBERS:
            raise ValueError(f"a record of shape {self.takes} is above the limit of {MAX_NUMBERS} numbers")
        shapes: list[Shape] = [self.takes]
        used = {0: False}
        numbers, work, parameters = math.prod(self.takes), 0, 0
        for place, layer in enumerate(self.layers):
            given = self._given(place, shapes)
            for value in layer.of:
                used[value] = True
            try:
                shape = layer.shape(given)
            except ValueError as error:
                raise ValueError(f"layer {place} ({layer.op}): {error}") from error
            numbers += math.prod(shape) + layer.scratch(given[0], shape)
            work += layer.work(given[0], shape)
            parameters += sum(math.prod(p) for _, p in layer.parameters(given[0]))
            _check_limits(place, numbers, work, parameters)
            shapes.append(shape)
            used[place + 1] = False
        idle = next((value for value in range(len(self.layers)) if not used[value]), None)
        if idle is not None:
            what = "the record" if idle == 0 else f"what layer {idle - 1} gives"
            raise ValueError(f"{what} is never used: take the layer out")
        if len(shapes[-1]) != 1:
            raise ValueError(f"the last layer gives a record of shape {shapes[-1]}: give a row, one number a class")
        if not parameters:
            raise ValueError("no layer has parameters: there is nothing to train")
        return self

    def _given(self, place: int, shapes: list[Shape]) -> tuple[Shape, ...]:
        for value in self.layers[place].of:
            if value > place:
                raise ValueError(f"layer {place} takes value {value}, which is not yet there: 0 to {place} are")
        return tuple(shapes[value] for value in self.layers[place].of)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of all values: the record's, then what each layer gives."""
        shapes: list[Shape] = [self.takes]
        for place, layer in enumerate(self.layers):
            shapes.append(layer.shape(self._given(place, shapes)))
        return tuple(shapes)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, layer after layer: the order in which they are written in one row."""
        return tuple(
            Parameter(place, name, shape)
            for place, layer in enumerate(self.layers)
            for name, shape in layer.parameters(self.shapes[layer.of[0]])
        )

    @cached_property
    def size(self) -> int:
        """How many numbers all parameters have."""
        return sum(parameter.size for parameter in self.parameters)

    @property
    def features(self) -> int:
        """How many numbers a record has."""
        return math.prod(self.takes)

    @property
    def outputs(self) -> int:
        """How many numbers the last layer gives."""
        return self.shapes[-1][0]

    @cached_property
    def work(self) -> int:
        """The multiplications of one record."""
        return sum(
            layer.work(self.shapes[layer.of[0]], self.shapes[place + 1]) for place, layer in enumerate(self.layers)
        )

    @cached_property
    def numbers(self) -> int:
        """The numbers that one record takes on its way through."""
        return self.features + sum(
            math.prod(self.shapes[place + 1]) + layer.scratch(self.shapes[layer.of[0]], self.shapes[place + 1])
            for place, layer in enumerate(self.layers)
        )

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The graph in untrusted bytes; raises NetworkError for anything but the canonical bytes of a valid graph."""
        if len(data) > MAX_GRAPH_BYTES:
            raise NetworkError(f"a graph of {len(data)} bytes is above the limit of {MAX_GRAPH_BYTES}")
        try:
            canonical.loads(data)
            graph = cls.model_validate_json(data)
        except ValidationError as error:
            raise NetworkError(f"the network is not valid: {told(error, 'network')}") from error
        except ValueError as error:
            raise NetworkError(f"the network cannot be read: {error}") from error
        if graph.to_bytes() != data:
            raise NetworkError("the network is not in canonical form: every field written out, none in another type")
        return graph


def _check_limits(place: int, numbers: int, work: int, parameters: int) -> None:
    for what, found, most in (
        ("numbers a record", numbers, MAX_NUMBERS),
        ("multiplications a record", work, MAX_WORK),
        ("parameters", parameters, MAX_PARAMETERS),
    ):
        if found > most:
            raise ValueError(f"up to layer {place} there are {found} {what}, above the limit of {most}")
