"""Packing: the outputs of one row share plaintexts, in signed slots of one public width.

Slot j of a plaintext is its digit at 2^(slot_width * j), with digits in (-2^(slot_width-1), 2^(slot_width-1)). A
packed plaintext stays below 2^(key_bits - 3) in magnitude, so it is signed mod n without ambiguity, and below n / 3,
which is what python-paillier allows.

Where one row leaves room for more, its outputs may lie `stride` slots apart. As many rows can then be stacked in one
plaintext, output k of row j in slot k * stride + j. Whoever holds such rows' ciphertexts can stack them without a key:
a stack costs slot_width * (stride - 1) squarings. (With each row's outputs side by side and one row behind the other it
would be `outputs` times as many, more than all the rest of a mine's work.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sonar.syft.errors import CiphertextError, EncodingOverflowError

__all__ = ["Integers", "Layout", "largest_magnitude", "raw_pack", "raw_unpack", "rows_that_fit"]

Integers = npt.NDArray[Any]
"""An array of exact integers: int64, or Python integers as objects."""
_WORD = 62
"""The widest slots whose digits are computed in machine words."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows of `outputs` values of `slot_width` bits go into plaintexts of a `key_bits` key.

    A row takes `blocks` plaintexts with its outputs side by side. Or they lie `stride` slots apart, `rows_that_fit` at
    most, and `rows_per_plaintext` is 1 or `stride`: the slots between them are empty, or have that many rows' outputs.
    Raises EncodingOverflowError where not even one slot fits, or not so many rows.
    """

    key_bits: int
    slot_width: int
    outputs: int
    stride: int = 1
    rows_per_plaintext: int = 1

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.slot_width < 2 or self.slots < 1:
            raise EncodingOverflowError(
                f"{self.outputs} outputs in slots of {self.slot_width} bits do not fit a key of {self.key_bits} bits: "
                "use a smaller slot_width or a larger key"
            )
        fit = rows_that_fit(self.key_bits, self.slot_width, self.outputs)
        if not 1 <= self.stride <= fit:
            raise EncodingOverflowError(
                f"{self.stride} rows of {self.outputs} slots cannot share a plaintext of {self.slots}: stack 1 to {fit}"
            )
        if self.rows_per_plaintext not in (1, self.stride):
            raise EncodingOverflowError(
                f"{self.rows_per_plaintext} rows do not fill a stride of {self.stride}: stack 1 or {self.stride}"
            )

    @property
    def slots(self) -> int:
        """The slots of one plaintext."""
        return (self.key_bits - 2) // self.slot_width

    @property
    def blocks(self) -> int:
        """The plaintexts of one row that is not stacked."""
        return -(-self.outputs // self.slots)

    @property
    def largest(self) -> int:
        """The largest magnitude of a slot's value."""
        return (1 << (self.slot_width - 1)) - 1

    def plaintexts(self, rows: int) -> int:
        """The plaintexts of `rows` rows."""
        return -(-rows // self.rows_per_plaintext) * self.blocks

    def stacking(self, ciphertexts: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """The factors and exponents whose `Engine.weighted_products` are the stacked ciphertexts of unstacked rows.

        Stack i is the product over j of ciphertexts[i * stride + j]^(2^(slot_width * j)); 1, an encryption of 0, stands
        for the rows that the last stack lacks.
        """
        stacks, used = -(-len(ciphertexts) // self.stride), min(self.stride, len(ciphertexts))
        factors = [list(ciphertexts[j :: self.stride]) for j in range(used)]
        return [f + [1] * (stacks - len(f)) for f in factors], [1 << (self.slot_width * j) for j in range(used)]


def rows_that_fit(key_bits: int, slot_width: int, outputs: int) -> int:
    """How many rows of `outputs` slots can share one plaintext; 1 also where a row takes several plaintexts."""
    return max(1, (key_bits - 2) // slot_width // outputs)


def raw_pack(values: Integers, layout: Layout) -> list[int]:
    """Signed plaintexts, row after row, of integers (rows, outputs); raises EncodingOverflowError."""
    if largest_magnitude(values) > layout.largest:
        raise EncodingOverflowError(
            f"a value of {largest_magnitude(values).bit_length()} bits and a sign does not fit a slot of "
            f"{layout.slot_width} bits: use a larger slot_width or a smaller scale"
        )
    if layout.slot_width <= _WORD:
        return _pack_words(values.astype(np.int64), layout)
    width, slots, rows = layout.slot_width, layout.slots, values.tolist()
    plaintexts = []
    for first in range(0, len(rows), layout.rows_per_plaintext):
        line = [0] * (layout.stride * layout.outputs)
        for j, row in enumerate(rows[first : first + layout.rows_per_plaintext]):
            line[j :: layout.stride] = row
        for start in range(0, len(line), slots):
            plaintext = 0
            for value in reversed(line[start : start + slots]):
                plaintext = (plaintext << width) + value
            plaintexts.append(plaintext)
    return plaintexts


def raw_unpack(plaintexts: Sequence[int], layout: Layout, rows: int) -> Integers:
    """Integers (rows, outputs) as objects, of signed plaintexts.

    Raises CiphertextError for a wrong number of plaintexts and for bits outside the slots that these rows use.
    """
    if len(plaintexts) != layout.plaintexts(rows):
        raise CiphertextError(f"{rows} rows are in {layout.plaintexts(rows)} plaintexts, not in {len(plaintexts)}")
    if layout.slot_width <= _WORD:
        return _unpack_words(plaintexts, layout, rows).astype(object)
    values: list[list[int]] = []
    for first in range(0, len(plaintexts), layout.blocks):
        line: list[int] = []
        for index in range(first, first + layout.blocks):
            line += _digits(
                plaintexts[index], index, min(layout.slots, layout.stride * layout.outputs - len(line)), layout
            )
        used = min(layout.rows_per_plaintext, rows - len(values))
        if any(any(line[j :: layout.stride]) for j in range(used, layout.stride)):
            raise _stray_bits(first)
        values += [line[j :: layout.stride] for j in range(used)]
    array = np.empty((rows, layout.outputs), dtype=object)
    array[:] = values
    return array


def _digits(plaintext: int, index: int, count: int, layout: Layout) -> list[int]:
    """The signed digits in the first `count` slots of a plaintext that has no others."""
    width, half, mask = layout.slot_width, 1 << (layout.slot_width - 1), (1 << layout.slot_width) - 1
    digits, rest = [], int(plaintext)
    for _ in range(count):
        digits.append(((rest + half) & mask) - half)
        rest = (rest - digits[-1]) >> width
    if rest:
        raise _stray_bits(index)
    return digits


def _pack_words(values: Integers, layout: Layout) -> list[int]:
    """The same for slots that machine words hold, slot after slot of all plaintexts at once: networks have millions."""
    per, groups = layout.rows_per_plaintext, -(-len(values) // layout.rows_per_plaintext)
    table = np.zeros((groups * per, layout.outputs), dtype=np.int64)
    table[: len(values)] = values
    # (groups, outputs, stride): output k of row j is in slot k * stride + j.
    lines = np.zeros((groups, layout.outputs, layout.stride), dtype=np.int64)
    lines[:, :, :per] = table.reshape(groups, per, layout.outputs).swapaxes(1, 2)
    digits = lines.reshape(groups, -1).T
    half, blocks = 1 << (layout.slot_width - 1), []
    for start in range(0, len(digits), layout.slots):
        block = digits[start : start + layout.slots]
        words = np.zeros((_words(len(block), layout.slot_width), groups), dtype=np.uint64)
        for slot, digit in enumerate(block):
            place, shift = divmod(slot * layout.slot_width, 64)
            unsigned = (digit + half).astype(np.uint64)
            words[place] |= unsigned << shift
            if shift:
                words[place + 1] |= unsigned >> (64 - shift)
        data, size = words.T.astype("<u8").tobytes(), 8 * len(words)
        offset = _offset(len(block), layout.slot_width)
        blocks.append([int.from_bytes(data[at : at + size], "little") - offset for at in range(0, len(data), size)])
    return [plaintext for group in zip(*blocks, strict=True) for plaintext in group]


def _unpack_words(plaintexts: Sequence[int], layout: Layout, rows: int) -> Integers:
    """The integers (rows, outputs) of slots that machine words hold; raises CiphertextError for stray bits."""
    width, line = layout.slot_width, layout.stride * layout.outputs
    groups, half, mask = len(plaintexts) // layout.blocks, 1 << (width - 1), (1 << width) - 1
    digits = np.empty((line, groups), dtype=np.int64)
    for block in range(layout.blocks):
        first = block * layout.slots
        count = min(layout.slots, line - first)
        size, offset = 8 * _words(count, width), _offset(count, width)
        parts = []
        for group in range(groups):
            index = group * layout.blocks + block
            shifted = int(plaintexts[index]) + offset
            if shifted < 0 or shifted >> (count * width):
                raise _stray_bits(index)
            parts.append(shifted.to_bytes(size, "little"))
        words = np.frombuffer(b"".join(parts), dtype="<u8").reshape(groups, -1).T.astype(np.uint64)
        for slot in range(count):
            place, shift = divmod(slot * width, 64)
            digit = words[place] >> shift
            if shift:
                digit = digit | words[place + 1] << (64 - shift)
            digits[first + slot] = (digit & mask).astype(np.int64) - half
    table = digits.T.reshape(groups, layout.outputs, layout.stride).swapaxes(1, 2)
    used = table[:, : layout.rows_per_plaintext].reshape(-1, layout.outputs)
    if used[rows:].any():
        raise _stray_bits((groups - 1) * layout.blocks)
    if (strays := table[:, layout.rows_per_plaintext :].any(axis=(1, 2))).any():
        raise _stray_bits(int(strays.argmax()) * layout.blocks)
    return used[:rows]


def _words(slots: int, width: int) -> int:
    """How many words hold so many slots, and one more, into which the last slot is carried."""
    return slots * width // 64 + 2


def _offset(slots: int, width: int) -> int:
    """What makes the digits of so many slots unsigned: half of each slot's range."""
    return ((1 << (slots * width)) - 1) // ((1 << width) - 1) << (width - 1)


def _stray_bits(index: int) -> CiphertextError:
    return CiphertextError(f"plaintext {index} has stray bits outside its slots: refuse the artifact")


def largest_magnitude(values: Integers) -> int:
    """The largest |value| of an integer array, 0 for an empty one; raises TypeError for other types."""
    if values.dtype.kind not in "iuO":
        raise TypeError(f"an array of {values.dtype} is not exact: encode it first")
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
