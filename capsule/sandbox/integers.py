"""Matrices of integers as bytes of one width each, which hold nothing but the integers: little-endian, signed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sonar.sandbox import FrameError

__all__ = ["pack_integers", "packed_size", "unpack_integers"]

BigInts = npt.NDArray[Any]
"""Python integers in an object array."""


def packed_size(shape: tuple[int, int], bound: int) -> int:
    """The bytes of a matrix of this shape whose values are at most `bound` in magnitude."""
    return shape[0] * shape[1] * _width(bound)


def pack_integers(values: BigInts, bound: int) -> bytes:
    """The bytes of integers (rows, columns); raises FrameError for one above `bound` in magnitude."""
    width = _width(bound)
    flat = values.ravel().tolist()
    if any(abs(value) > bound for value in flat):
        raise FrameError(f"an integer is above the bound of {bound.bit_length()} bits")
    return b"".join([value.to_bytes(width, "little", signed=True) for value in flat])


def unpack_integers(data: bytes, shape: tuple[int, int], bound: int) -> BigInts:
    """The integers (rows, columns), as objects; raises FrameError for another size and for one above `bound`."""
    width = _width(bound)
    if len(data) != packed_size(shape, bound):
        raise FrameError(f"{len(data)} bytes are not integers of shape {shape} in {width} bytes each")
    flat = [int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)]
    if any(abs(value) > bound for value in flat):
        raise FrameError(f"an integer is above the bound of {bound.bit_length()} bits")
    values = np.empty(len(flat), dtype=object)
    values[:] = flat
    return values.reshape(shape)


def _width(bound: int) -> int:
    return bound.bit_length() // 8 + 1
