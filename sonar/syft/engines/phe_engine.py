"""The reference engine: python-paillier's arithmetic, one element at a time, nothing shared, nothing clever.

It is what the other engines are tested against, and it runs wherever Python does: python-paillier uses gmpy2 where that
is installed, and Python's own integers otherwise.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeVar

from phe import PaillierPrivateKey, PaillierPublicKey
from phe.util import invert, mulmod, powmod

from sonar.syft.engines._checks import check_coprime, check_exponents, check_factors, check_powers, not_in_group
from sonar.syft.engines.base import Engine, Exponents, FixedBase, Progress

__all__ = ["PheEngine"]

Item = TypeVar("Item")


class PheEngine(Engine):
    """python-paillier, in one thread whatever `workers` says."""

    name = "phe"

    @classmethod
    def unusable(cls) -> str | None:
        return None

    def check(self, ciphertexts: Sequence[int], n: int) -> None:
        for index, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < n * n:
                raise not_in_group(index)
            check_coprime(ciphertext, n)

    def multiply(self, left: Sequence[int], right: Sequence[int], n: int) -> list[int]:
        return [mulmod(a, b, n * n) for a, b in zip(left, right, strict=True)]

    def add_plaintexts(self, elements: Sequence[int], plaintexts: Sequence[int], n: int) -> list[int]:
        key = PaillierPublicKey(n)
        # The "obfuscator" 1^n leaves python-paillier's g^m = 1 + n m bare.
        return [mulmod(c, key.raw_encrypt(m % n, r_value=1), n * n) for c, m in zip(elements, plaintexts, strict=True)]

    def fixed_base(self, base: int, exponent_bits: int, n: int) -> FixedBase:
        return _Base(base, exponent_bits, n)

    def linear_map(
        self, bases: Sequence[int], exponents: Exponents, n: int, *, bits: int, progress: Progress | None = None
    ) -> list[int]:
        check_exponents(bases, exponents, bits)
        for base in bases:
            check_coprime(base, n)

        def product(row: list[int]) -> int:
            powers = (_signed_power(base, exponent, n * n) for base, exponent in zip(bases, row, strict=True))
            return reduce(lambda a, b: mulmod(a, b, n * n), powers, 1)

        return _each(product, exponents.tolist(), progress)

    def weighted_products(self, factors: Sequence[Sequence[int]], exponents: Sequence[int], n: int) -> list[int]:
        check_factors(factors, exponents)
        products = []
        for row in zip(*factors, strict=True):
            powers = (powmod(element, exponent, n * n) for element, exponent in zip(row, exponents, strict=True))
            products.append(int(reduce(lambda a, b: mulmod(a, b, n * n), powers, 1)))
        return products

    def decrypt(self, ciphertexts: Sequence[int], p: int, q: int, *, progress: Progress | None = None) -> list[int]:
        key = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
        return _each(lambda ciphertext: int(key.raw_decrypt(ciphertext)), ciphertexts, progress)


class _Base(FixedBase):
    def __init__(self, base: int, exponent_bits: int, n: int) -> None:
        self._base, self._bits, self._n_squared = base, exponent_bits, n * n

    def powers(self, exponents: Sequence[int]) -> list[int]:
        check_powers(exponents, self._bits)
        return [int(powmod(self._base, exponent, self._n_squared)) for exponent in exponents]


def _each(function: Callable[[Item], int], items: Sequence[Item], progress: Progress | None) -> list[int]:
    results = []
    for done, item in enumerate(items, start=1):
        results.append(int(function(item)))
        if progress is not None:
            progress(done / len(items))
    return results


def _signed_power(base: int, exponent: int, modulus: int) -> int:
    return int(powmod(base, exponent, modulus) if exponent >= 0 else powmod(invert(base, modulus), -exponent, modulus))
