"""Packing: the outputs of one row share plaintexts, in signed slots of one public width.

Slot j of a plaintext is its digit at 2^(slot_width * j), with digits in (-2^(slot_width-1), 2^(slot_width-1)). A
packed plaintext stays below 2^(key_bits - 3) in magnitude, so it is signed mod n without ambiguity, and below n / 3,
which is what python-paillier allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sonar.syft.errors import CiphertextError, EncodingOverflowError

__all__ = ["Integers", "Layout", "largest_magnitude", "raw_pack", "raw_unpack"]

Integers = npt.NDArray[Any]
"""An array of exact integers: int64, or Python integers as objects."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How `outputs` values of `slot_width` bits go into plaintexts of a `key_bits` key.

    Raises EncodingOverflowError where not even one slot fits.
    """

    key_bits: int
    slot_width: int
    outputs: int

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.slot_width < 2 or self.slots < 1:
            raise EncodingOverflowError(
                f"{self.outputs} outputs in slots of {self.slot_width} bits do not fit a key of {self.key_bits} bits: "
                "use a smaller slot_width or a larger key"
            )

    @property
    def slots(self) -> int:
        """The slots of one plaintext."""
        return (self.key_bits - 2) // self.slot_width

    @property
    def blocks(self) -> int:
        """The plaintexts of one row."""
        return -(-self.outputs // self.slots)

    @property
    def largest(self) -> int:
        """The largest magnitude of a slot's value."""
        return (1 << (self.slot_width - 1)) - 1


def raw_pack(values: Integers, layout: Layout) -> list[int]:
    """Signed plaintexts, row after row, of integers (rows, outputs); raises EncodingOverflowError."""
    if largest_magnitude(values) > layout.largest:
        raise EncodingOverflowError(
            f"a value of {largest_magnitude(values).bit_length()} bits and a sign does not fit a slot of "
            f"{layout.slot_width} bits: use a larger slot_width or a smaller scale"
        )
    width, slots = layout.slot_width, layout.slots
    plaintexts = []
    for row in values.tolist():
        for start in range(0, layout.outputs, slots):
            plaintext = 0
            for value in reversed(row[start : start + slots]):
                plaintext = (plaintext << width) + value
            plaintexts.append(plaintext)
    return plaintexts


def raw_unpack(plaintexts: Sequence[int], layout: Layout) -> Integers:
    """Integers (rows, outputs) as objects, of signed plaintexts; raises CiphertextError for bits outside the slots."""
    width, slots, blocks = layout.slot_width, layout.slots, layout.blocks
    half, mask = 1 << (width - 1), (1 << width) - 1
    values: list[int] = []
    for index, plaintext in enumerate(plaintexts):
        rest = int(plaintext)
        for _ in range(min(slots, layout.outputs - index % blocks * slots)):
            value = ((rest + half) & mask) - half
            values.append(value)
            rest = (rest - value) >> width
        if rest:
            raise CiphertextError(f"plaintext {index} has stray bits outside its slots: refuse the artifact")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(len(plaintexts) // blocks, layout.outputs)


def largest_magnitude(values: Integers) -> int:
    """The largest |value| of an integer array, 0 for an empty one; raises TypeError for other types."""
    if values.dtype.kind not in "iuO":
        raise TypeError(f"an array of {values.dtype} is not exact: encode it first")
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
