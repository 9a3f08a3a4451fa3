# The C++ extension module, src/module.cpp. Numbers are little-endian bytes of fixed widths; Ring and Comb are opaque.
from collections.abc import Callable
from typing import Final, NewType

from typing_extensions import Buffer

API: Final[int]

Ring = NewType("Ring", object)
Comb = NewType("Comb", object)

def unusable() -> str | None: ...
def radix_bits(bits: int, /) -> int: ...
def ring(modulus: Buffer, r_cubed: Buffer, /) -> Ring: ...
def residue_product(ring: Ring, elements: Buffer, workers: int, /) -> bytes: ...
def multiply(ring: Ring, left: Buffer, right: Buffer, workers: int, /) -> bytes: ...
def add_plaintexts(ring: Ring, elements: Buffer, plaintexts: Buffer, workers: int, /) -> bytes: ...
def comb(ring: Ring, base: Buffer, exponent_bytes: int, invert: Callable[[bytes], bytes], workers: int, /) -> Comb: ...
def comb_bytes(comb: Comb, /) -> int: ...
def comb_powers(comb: Comb, exponents: Buffer, workers: int, progress: Callable[[float], None] | None, /) -> bytes: ...
def linear_map(
    ring: Ring,
    bases: Buffer,
    exponents: Buffer,
    rows: int,
    shift: int,
    invert: Callable[[bytes], bytes],
    workers: int,
    progress: Callable[[float], None] | None,
    /,
) -> bytes: ...
def weighted_products(ring: Ring, factors: Buffer, factor_count: int, steps: Buffer, workers: int, /) -> bytes: ...
def decrypt(
    ring_p: Ring,
    ring_q: Ring,
    inverse_p: Buffer,
    inverse_q: Buffer,
    ciphertexts: Buffer,
    width: int,
    workers: int,
    progress: Callable[[float], None] | None,
    /,
) -> bytes: ...
