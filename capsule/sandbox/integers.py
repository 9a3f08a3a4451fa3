"""Matrices of integers as bytes of one width each, which hold nothing but the integers: little-endian, signed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sonar.sandbox import FrameError

__all__ = ["pack_integers", "packed_size", "unpack_integers"]

BigInts = npt.NDArray[Any]
"""Python integers in an object array, or int64 where those hold them."""
_WORD = 8


def packed_size(shape: tuple[int, int], bound: int) -> int:
    """The bytes of a matrix of this shape whose values are at most `bound` in magnitude."""
    return shape[0] * shape[1] * _width(bound)


def pack_integers(values: BigInts, bound: int) -> bytes:
    """The bytes of integers (rows, columns); raises FrameError for one above `bound` in magnitude."""
    width = _width(bound)
    if width < _WORD:
        return _pack_words(values, bound, width)
    flat = values.ravel().tolist()
    if any(abs(value) > bound for value in flat):
        raise _above(bound)
    return b"".join([value.to_bytes(width, "little", signed=True) for value in flat])


def unpack_integers(data: bytes, shape: tuple[int, int], bound: int) -> BigInts:
    """The integers (rows, columns), as objects where int64 may not hold them.

    Raises FrameError for another size and for one above `bound`.
    """
    width = _width(bound)
    if len(data) != packed_size(shape, bound):
        raise FrameError(f"{len(data)} bytes are not integers of shape {shape} in {width} bytes each")
    if width < _WORD:
        return _unpack_words(data, shape, bound, width)
    flat = [int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)]
    if any(abs(value) > bound for value in flat):
        raise _above(bound)
    values = np.empty(len(flat), dtype=object)
    values[:] = flat
    return values.reshape(shape)


def _pack_words(values: BigInts, bound: int, width: int) -> bytes:
    """The same for what fits machine words: a network has a million of them."""
    try:
        words = values.astype("<i8").ravel()
    except OverflowError:
        words = np.array([bound + 1], dtype="<i8")
    if max(int(words.max(initial=0)), -int(words.min(initial=0))) > bound:
        raise _above(bound)
    return words.view(np.uint8).reshape(-1, _WORD)[:, :width].tobytes()


def _unpack_words(data: bytes, shape: tuple[int, int], bound: int, width: int) -> BigInts:
    parts = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
    whole = np.empty((len(parts), _WORD), dtype=np.uint8)
    whole[:, :width] = parts
    whole[:, width:] = np.where(parts[:, -1:] >= 1 << 7, 255, 0)  # the sign goes on
    words = whole.view("<i8").reshape(shape).astype(np.int64)
    if max(int(words.max(initial=0)), -int(words.min(initial=0))) > bound:
        raise _above(bound)
    return words


def _above(bound: int) -> FrameError:
    return FrameError(f"an integer is above the bound of {bound.bit_length()} bits")


def _width(bound: int) -> int:
    return bound.bit_length() // 8 + 1
