"""Integer arithmetic that is the same on every machine: numpy's float64 products where they are provably exact.

A sum of integers in float64 is exact, whatever its order and its threads, if the magnitudes sum to at most 2^53.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

__all__ = [
    "BigInts", "Floats", "Ints", "excess_bits", "gram", "one_thread", "rounded_shift", "sum_of_squares", "times_ratio",
]  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BigInts = npt.NDArray[Any]
"""Python integers in an object array: gradients and products outgrow 64 bits."""

_BLOCK = 1 << 16
_MANTISSA_BITS = 27
_LOW_BITS = 18


@contextmanager
def one_thread() -> Iterator[None]:
    """Products within take one thread: the judge's are narrow, and threads that share their core wait by spinning."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Looks for the libraries that numpy has loaded, once."""
    return ThreadpoolController()


def rounded_shift(numbers: BigInts, bits: int) -> BigInts:
    """numbers / 2^bits, halves rounded up."""
    shifted: BigInts = (numbers + ((1 << bits) >> 1)) >> bits
    return shifted


def excess_bits(rows: Iterable[BigInts], bits: int) -> int:
    """By how much all of the rows must be shifted right to be at most 2^bits in magnitude."""
    largest = max((max(int(row.max(initial=0)), -int(row.min(initial=0))) for row in rows), default=0)
    return max(0, largest.bit_length() - bits)


def gram(rows: list[BigInts]) -> list[list[int]]:
    """The products of all pairs of rows, each row first rounded to so many bits that the sums stay below 2^52.

    These are 21 bits of the row's largest number for 650 columns, and 14 for 2^22. Raises ValueError for more.
    """
    if not rows:
        return []
    columns = rows[0].size
    if columns > 1 << 22:
        raise ValueError(f"{columns} columns are more than 2^22, and their products would not be exact")
    bits = (52 - columns.bit_length()) // 2
    table = np.empty((len(rows), columns), dtype=np.int32)
    for place, row in enumerate(rows):
        table[place] = rounded_shift(row.ravel(), excess_bits([row], bits))
    products = np.zeros((len(rows), len(rows)))
    for start in range(0, columns, _BLOCK):
        block = table[:, start : start + _BLOCK].astype(np.float64)
        products += block @ block.T
    return [[int(entry) for entry in row] for row in products.tolist()]


def sum_of_squares(numbers: Ints) -> int:
    """The sum of squares of at most 2^22 integers below 2^37."""
    halves = numbers >> _LOW_BITS, numbers & ((1 << _LOW_BITS) - 1)
    high, cross, low = (int((a * b).sum()) for a, b in (halves[:1] * 2, halves, halves[1:] * 2))
    return (high << 2 * _LOW_BITS) + (cross << _LOW_BITS + 1) + low


def times_ratio(numbers: Ints, numerator: int, denominator: int) -> Ints:
    """numbers * numerator / denominator, rounded down, for numbers up to 2^34 and a ratio that is not negative.

    The ratio is taken to 27 bits, and results are clipped to 2^62.
    """
    shift = _MANTISSA_BITS - (numerator.bit_length() - denominator.bit_length())
    ratio = (numerator << shift) // denominator if shift >= 0 else numerator // (denominator << -shift)
    products: Ints = numbers * ratio
    if shift >= 0:
        return products >> min(shift, 62)
    limit = (1 << 62) >> -shift
    return np.clip(products, -limit, limit) << -shift
