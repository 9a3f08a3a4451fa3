"""The numbers of a campaign spec that say how weights, training maps and gradients become integers in slots."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from sonar.protocol._strict import Strict
from sonar.syft import Layout, PublicKey, rows_that_fit
from sonar.syft.wire import MAX_STRIDE

__all__ = ["Encoding"]

_LARGE_ROWS = 192
"""From here on a map of low rank is so much cheaper than a square one that room for it is worth wider slots."""


class Encoding(Strict):
    """The fixed-point scales and slot sizes of weights, training map and gradient, in bits; all public.

    Weights are integers at scale 2^weight_bits and below 2^weight_bound_bits in magnitude, the training map has scale
    2^map_bits, a gradient 2^(weight_bits + map_bits + factor_bits) with magnitude below 2^gradient_bound_bits, and a
    settlement's weights a_i sum to at most 2^step_bits. `factor_bits` let a mine whose map is nearly of low rank train
    through two thin factors (`sonar.syft.plan`). The widest slot holds every choice of the others; wider ones would
    only make everybody's work and artifacts larger. Up to `stacked_rows` rows of a gradient share a ciphertext where
    its slots allow it; with 1 none do.

    A network has no map: its gradients have the scale of its weights, and map_bits and factor_bits are 0.
    """

    slot_width: Annotated[int, Field(ge=16, le=128)] = 72
    weight_bits: Annotated[int, Field(ge=8, le=32)] = 24
    map_bits: Annotated[int, Field(ge=0, le=24)] = 15
    factor_bits: Annotated[int, Field(ge=0, le=24)] = 0
    step_bits: Annotated[int, Field(ge=0, le=16)] = 10
    weight_bound_bits: Annotated[int, Field(ge=0, le=8)] = 6
    gradient_bound_bits: Annotated[int, Field(ge=0, le=24)] = 14
    stacked_rows: Annotated[int, Field(ge=1, le=MAX_STRIDE)] = MAX_STRIDE

    @property
    def weight_bound(self) -> int:
        """The largest magnitude of an encoded weight, at scale 2^weight_bits."""
        return (1 << (self.weight_bits + self.weight_bound_bits)) - 1

    @property
    def gradient_scale(self) -> int:
        """The fractional bits of an encoded gradient."""
        return self.weight_bits + self.gradient_shift

    @property
    def gradient_shift(self) -> int:
        """How many fractional bits a gradient has more than the weights."""
        return self.map_bits + self.factor_bits

    @classmethod
    def for_rows(cls, rows: int) -> Self:
        """What suits a model of so many rows: large ones get the room that thin factors need."""
        return cls(factor_bits=14, slot_width=80) if rows >= _LARGE_ROWS else cls()

    @classmethod
    def for_network(cls) -> Self:
        """What suits a network: a grid of 2^-14 for weights up to 8, and seven bits for a settlement's own weights."""
        return cls(
            slot_width=26, weight_bits=14, map_bits=0, step_bits=7, weight_bound_bits=3, gradient_bound_bits=3,
            stacked_rows=1,
        )  # fmt: skip

    @property
    def gradient_bound(self) -> int:
        """The largest magnitude of an encoded gradient element, at scale 2^gradient_scale."""
        return (1 << (self.gradient_scale + self.gradient_bound_bits)) - 1

    def stride(self, key: PublicKey, outputs: int) -> int:
        """How many slots apart the outputs of a row lie under this key, which is how many rows of a gradient stack."""
        return min(self.stacked_rows, rows_that_fit(key.bits, self.slot_width, outputs))

    def gradient_layout(self, key: PublicKey, outputs: int) -> Layout:
        """How the rows of a gradient, and of a round's product, go into the plaintexts of this key.

        Raises EncodingOverflowError for a key that not even one slot fits.
        """
        stride = self.stride(key, outputs)
        return Layout(key.bits, self.slot_width, outputs, stride, rows_per_plaintext=stride)

    @model_validator(mode="after")
    def _slots_hold_a_round(self) -> Self:
        need = self.gradient_scale + self.step_bits + max(self.weight_bound_bits, self.gradient_bound_bits) + 2
        if self.slot_width < need:
            raise ValueError(f"slot_width {self.slot_width} is too small: one round of these scales needs {need} bits")
        if self.weight_bits + self.weight_bound_bits > 36:
            raise ValueError("weight_bits + weight_bound_bits must not pass 36, or the judge's integers overflow")
        return self
