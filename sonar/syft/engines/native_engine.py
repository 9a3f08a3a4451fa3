"""The fastest engine: C++ with AVX512-IFMA, eight elements in a vector, threads. See docs/native-engine.md.

This module turns integers into bytes and back, and does what is done once per modulus; `_native` does the rest, without
the interpreter's lock. It must be importable where the extension is not built.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from gmpy2 import invert

from sonar.syft.engines._checks import check_exponents, check_factors, check_powers, not_coprime, not_in_group
from sonar.syft.engines.base import Engine, Exponents, FixedBase, Progress

__all__ = ["NativeEngine"]

_EXTENSION: Final = "sonar.syft.engines._native"
_API: Final = 1
"""Of the extension: kApi in src/module.cpp, which grows when a function's arguments or results change."""


def _load() -> tuple[ModuleType | None, str | None]:
    """The extension, or why there is none."""
    try:
        module = import_module(_EXTENSION)
    except ModuleNotFoundError:
        return None, "its extension module is not built: installing Sonar where there is a C++ compiler builds it"
    except ImportError as error:
        return None, f"its extension module cannot be loaded: {error}"
    api = getattr(module, "API", None)
    if api != _API:
        return None, f"its extension module has API {api} instead of {_API}: build it again, from these sources"
    return module, None


if TYPE_CHECKING:
    from sonar.syft.engines import _native

    _unloaded: str | None
else:
    _native, _unloaded = _load()


_MAX_WORKERS: Final = 1024
_MAX_WINDOW: Final = 6
_LONG: Final = 512
"""Bits of exponents above which only the two widest windows are tried."""
_RINGS: Final = 8
"""Moduli that are kept prepared, 23 kB each at 2048 bits."""


class NativeEngine(Engine):
    """AVX512-IFMA, in up to `workers` threads, 1024 at most."""

    name = "native"

    def __init__(self, workers: int) -> None:
        super().__init__(min(workers, _MAX_WORKERS))

    @classmethod
    def unusable(cls) -> str | None:
        return _native.unusable() if _unloaded is None else _unloaded

    def check(self, ciphertexts: Sequence[int], n: int) -> None:
        n_squared = n * n
        for index, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < n_squared:
                raise not_in_group(index)
        ring = _ring(n)
        product = _native.residue_product(ring.native, ring.pack(ciphertexts), self.workers)
        _invert(product, n)

    def multiply(self, left: Sequence[int], right: Sequence[int], n: int) -> list[int]:
        if len(left) != len(right):
            raise ValueError(f"{len(left)} elements cannot be multiplied with {len(right)}")
        ring = _ring(n)
        return ring.unpack(_native.multiply(ring.native, ring.pack(left), ring.pack(right), self.workers))

    def add_plaintexts(self, elements: Sequence[int], plaintexts: Sequence[int], n: int) -> list[int]:
        if len(elements) != len(plaintexts):
            raise ValueError(f"{len(plaintexts)} plaintexts cannot be added to {len(elements)} elements")
        ring = _ring(n)
        residues = _pack((plaintext % n for plaintext in plaintexts), ring.residue_bytes)
        return ring.unpack(_native.add_plaintexts(ring.native, ring.pack(elements), residues, self.workers))

    def fixed_base(self, base: int, exponent_bits: int, n: int) -> FixedBase:
        return _Comb(base, exponent_bits, n, self.workers)

    def linear_map(
        self, bases: Sequence[int], exponents: Exponents, n: int, *, bits: int, progress: Progress | None = None
    ) -> list[int]:
        check_exponents(bases, exponents, bits)
        smallest, largest = int(exponents.min(initial=0)), int(exponents.max(initial=0))
        # The shift that makes all exponents unsigned: what `bits` says, unless some are larger.
        shift = max(bits, (-smallest - 1).bit_length() if smallest else 0, largest.bit_length())
        ring = _ring(n)
        words = np.require(exponents, np.int64, ["C", "A"]).data
        rows = _native.linear_map(
            ring.native, ring.pack(bases), words, len(words), shift, ring.invert, self.workers, progress
        )  # fmt: skip
        if progress is not None:
            progress(1.0)
        return ring.unpack(rows)

    def weighted_products(self, factors: Sequence[Sequence[int]], exponents: Sequence[int], n: int) -> list[int]:
        check_factors(factors, exponents)
        if len({len(column) for column in factors}) != 1:
            raise ValueError(f"lists of {[len(column) for column in factors]} factors do not match")
        ring = _ring(n)
        steps = sorted(
            (position, j, digit) for j, exponent in enumerate(exponents) for position, digit in _digits(exponent)
        )
        packed = np.array(steps[::-1], np.int32).tobytes()
        elements = ring.pack([element for column in factors for element in column])
        return ring.unpack(_native.weighted_products(ring.native, elements, len(factors), packed, self.workers))

    def decrypt(self, ciphertexts: Sequence[int], p: int, q: int, *, progress: Progress | None = None) -> list[int]:
        # The primes are secret: their rings are not kept.
        first, second = _Ring(p), _Ring(q)
        width = (2 * (p * q).bit_length() + 7) // 8
        plaintexts = _native.decrypt(
            first.native,
            second.native,
            int(invert(q, p)).to_bytes(first.residue_bytes, "little"),
            int(invert(p, q)).to_bytes(second.residue_bytes, "little"),
            _pack(ciphertexts, width),
            width,
            self.workers,
            progress,
        )
        if progress is not None:
            progress(1.0)
        return _unpack(plaintexts, first.residue_bytes + second.residue_bytes)


class _Ring:
    """Z_{n^2}, prepared."""

    __slots__ = ("element_bytes", "n", "n_squared", "native", "residue_bytes")

    def __init__(self, n: int) -> None:
        bits = n.bit_length()
        self.n, self.n_squared = n, n * n
        self.residue_bytes = (bits + 7) // 8
        self.element_bytes = (2 * bits + 7) // 8
        r_cubed = (1 << 3 * _native.radix_bits(bits)) % self.n_squared
        self.native = _native.ring(
            n.to_bytes(self.residue_bytes, "little"), r_cubed.to_bytes(self.element_bytes, "little")
        )

    def pack(self, elements: Sequence[int]) -> bytes:
        if not all(0 <= element < self.n_squared for element in elements):
            elements = [element % self.n_squared for element in elements]
        return _pack(elements, self.element_bytes)

    def unpack(self, elements: bytes) -> list[int]:
        return _unpack(elements, self.element_bytes)

    def invert(self, residue: bytes) -> bytes:
        return _invert(residue, self.n).to_bytes(self.residue_bytes, "little")


class _Comb(FixedBase):
    """A Lim-Lee comb (CRYPTO 1994) whose tables are read whole for every exponent."""

    def __init__(self, base: int, exponent_bits: int, n: int, workers: int) -> None:
        if exponent_bits <= 0 or exponent_bits % 64:
            raise ValueError(f"exponents of {exponent_bits} bits do not fit a comb: give a multiple of 64")
        self._ring, self._bits, self._workers = _ring(n), exponent_bits, workers
        packed = self._ring.pack([base])
        self._comb = _native.comb(self._ring.native, packed, exponent_bits // 8, self._ring.invert, workers)

    def powers(self, exponents: Sequence[int]) -> list[int]:
        check_powers(exponents, self._bits)
        packed = _pack(exponents, self._bits // 8)
        return self._ring.unpack(_native.comb_powers(self._comb, packed, self._workers, None))


class _Digit(NamedTuple):
    position: int
    digit: int


@lru_cache(maxsize=_RINGS)
def _ring(n: int) -> _Ring:
    return _Ring(n)


def _pack(numbers: Iterable[int], width: int) -> bytes:
    return b"".join([number.to_bytes(width, "little") for number in numbers])


def _unpack(numbers: bytes, width: int) -> list[int]:
    return [int.from_bytes(numbers[start : start + width], "little") for start in range(0, len(numbers), width)]


def _invert(residue: bytes, n: int) -> int:
    try:
        return int(invert(int.from_bytes(residue, "little"), n))
    except ZeroDivisionError as error:
        raise not_coprime() from error


def _digits(exponent: int) -> list[_Digit]:
    """An exponent as a sum of odd digits times powers of two, in windows as wide as costs the fewest products."""
    # The wider the better for long ones, which take this function some milliseconds a width: a modulus is one.
    least = 1 if exponent.bit_length() <= _LONG else _MAX_WINDOW - 1
    windows = (_sliding(exponent, width) for width in range(least, _MAX_WINDOW + 1))
    return min(windows, key=lambda digits: len(digits) + max((digit.digit for digit in digits), default=1) // 2)


def _sliding(exponent: int, width: int) -> list[_Digit]:
    # From the lowest one on, `width` bits at a time; in text, as shifting a long number for each takes quadratic time.
    lowest_first = bin(exponent)[:1:-1]
    windows = re.finditer(f"1[01]{{0,{width - 1}}}", lowest_first)
    return [_Digit(window.start(), int(window.group()[::-1], 2)) for window in windows]
