"""The engine that runs everywhere: GMP through gmpy2. Large maps run in processes, decryption in threads.

Loops of short products hold the interpreter's lock, so threads would only slow them down; single long powers release
it. The pool of processes is started once, by the first map that is worth it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from gmpy2 import gcd, get_context, invert, mpz, powmod, powmod_sec

from sonar.syft.engines._checks import check_exponents, check_factors, check_powers, not_coprime, not_in_group
from sonar.syft.engines._group import split, subset_table
from sonar.syft.engines._pool import MapPool
from sonar.syft.engines._subset_map import raw_map
from sonar.syft.engines.base import Engine, Exponents, FixedBase, Progress
from sonar.syft.engines.cost import map_cost

__all__ = ["Gmpy2Engine"]

_DECRYPTED_AT_ONCE: Final = 64
_WORTH_A_PROCESS: Final = 100_000
"""Products of a map that take longer (0.3 s at 2048 bits) than starting a process."""


class Gmpy2Engine(Engine):
    """GMP, with up to `workers` processes for a map and threads for decryption."""

    name = "gmpy2"

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._pool = MapPool(workers - 1)

    def close(self) -> None:
        """Ends the processes that large maps have started; they start again when they are needed."""
        self._pool.close()

    @classmethod
    def unusable(cls) -> str | None:
        return None

    def check(self, ciphertexts: Sequence[int], n: int) -> None:
        # One gcd serves all: a product is coprime to n exactly if every factor is.
        modulus, n_squared, product = mpz(n), n * n, mpz(1)
        for index, ciphertext in enumerate(ciphertexts):
            if not 0 < ciphertext < n_squared:
                raise not_in_group(index)
            product = product * ciphertext % modulus
        if gcd(product, modulus) != 1:
            raise not_coprime()

    def multiply(self, left: Sequence[int], right: Sequence[int], n: int) -> list[int]:
        n_squared = mpz(n) ** 2
        return [int(mpz(a) * b % n_squared) for a, b in zip(left, right, strict=True)]

    def add_plaintexts(self, elements: Sequence[int], plaintexts: Sequence[int], n: int) -> list[int]:
        modulus = mpz(n)
        n_squared = modulus**2
        # c (1 + n m) = c + n (c m mod n) mod n^2.
        return [
            int((c + modulus * (mpz(c) * m % modulus)) % n_squared) for c, m in zip(elements, plaintexts, strict=True)
        ]

    def fixed_base(self, base: int, exponent_bits: int, n: int) -> FixedBase:
        return _Comb(base, exponent_bits, n)

    def linear_map(
        self, bases: Sequence[int], exponents: Exponents, n: int, *, bits: int, progress: Progress | None = None
    ) -> list[int]:
        check_exponents(bases, exponents, bits)
        if (
            self.workers > 1
            and len(bases) >= self.workers
            and map_cost(len(exponents), len(bases), bits) > _WORTH_A_PROCESS
        ):
            return self._pool.raw_map(bases, exponents, n, bits, progress)
        return raw_map(bases, exponents, n, bits, progress)

    def weighted_products(self, factors: Sequence[Sequence[int]], exponents: Sequence[int], n: int) -> list[int]:
        check_factors(factors, exponents)
        n_squared = mpz(n) ** 2
        terms = sorted(((_twos(e), j) for j, e in enumerate(exponents) if e), reverse=True)
        products = []
        for row in zip(*factors, strict=True):
            # Horner over the powers of two in the exponents, which all terms then share.
            product, shift = mpz(1), terms[0][0] if terms else 0
            for twos, j in terms:
                product = powmod(product, mpz(1) << (shift - twos), n_squared)
                product = product * powmod(row[j], exponents[j] >> twos, n_squared) % n_squared
                shift = twos
            products.append(int(powmod(product, mpz(1) << shift, n_squared)))
        return products

    def decrypt(self, ciphertexts: Sequence[int], p: int, q: int, *, progress: Progress | None = None) -> list[int]:
        key = _Crt(p, q)
        plaintexts: list[int] = []
        workers = max(1, min(self.workers, len(ciphertexts)))
        with ThreadPoolExecutor(workers, "decrypt", _release_gil) as pool:
            # A few at a time, so that whoever interrupts this need not wait for all the others.
            for start in range(0, len(ciphertexts), _DECRYPTED_AT_ONCE):
                plaintexts.extend(pool.map(key.decrypt, ciphertexts[start : start + _DECRYPTED_AT_ONCE]))
                if progress is not None:
                    progress(len(plaintexts) / len(ciphertexts))
        return plaintexts


class _Comb(FixedBase):
    """A Lim-Lee comb (CRYPTO 1994) of 8 teeth in 8 blocks.

    Bit (8 t + b) * width + w of an exponent is tooth t of block b in column w, with width = exponent_bits / 64; the
    columns are taken from the top, one squaring each. The tables are read at places that depend on the exponent.
    """

    _TEETH, _BLOCKS = 8, 8

    def __init__(self, base: int, exponent_bits: int, n: int) -> None:
        cells = self._TEETH * self._BLOCKS
        if exponent_bits <= 0 or exponent_bits % cells:
            raise ValueError(f"exponents of {exponent_bits} bits do not fit a comb: give a multiple of {cells}")
        self._bits, self._width = exponent_bits, exponent_bits // cells
        self._n, self._n_squared = mpz(n), mpz(n) ** 2
        powers, power = [], mpz(base)
        for _ in range(cells):
            powers.append(split(power, self._n))
            power = powmod(power, 1 << self._width, self._n_squared)
        self._tables = [subset_table(powers[block :: self._BLOCKS], self._n) for block in range(self._BLOCKS)]

    def powers(self, exponents: Sequence[int]) -> list[int]:
        check_powers(exponents, self._bits)
        return [self._power(exponent) for exponent in exponents]

    def _power(self, exponent: int) -> int:
        n, n_squared = self._n, self._n_squared
        element, lift = mpz(1), mpz(0)
        for column in self._columns(exponent):
            element, lift = element * element % n_squared, lift + lift
            for (residues, lifts), index in zip(self._tables, column, strict=True):
                element = element * residues[index] % n_squared
                lift += lifts[index]
        return int(element * (1 + n * (lift % n)) % n_squared)

    def _columns(self, exponent: int) -> list[list[int]]:
        """The table indices of each column from the top, one a block."""
        bits = np.unpackbits(np.frombuffer(exponent.to_bytes(self._bits // 8, "little"), np.uint8), bitorder="little")
        cells = np.packbits(bits.reshape(self._TEETH, self._BLOCKS, self._width), axis=0, bitorder="little")[0]
        columns: list[list[int]] = cells.T[::-1].tolist()
        return columns


class _Crt:
    """Decryption by the Chinese remainder theorem (Paillier 1999, section 7)."""

    def __init__(self, p: int, q: int) -> None:
        self._p, self._q = mpz(p), mpz(q)
        # L_p((1 + n)^(p-1) mod p^2) = (p - 1) q = -q mod p, and its inverse is what decryption multiplies with.
        self._hp, self._hq = invert(-self._q, self._p), invert(-self._p, self._q)
        self._q_inverse = invert(self._q, self._p)

    def decrypt(self, ciphertext: int) -> int:
        mp, mq = self._half(ciphertext, self._p, self._hp), self._half(ciphertext, self._q, self._hq)
        return int(mq + self._q * ((mp - mq) * self._q_inverse % self._p))

    @staticmethod
    def _half(ciphertext: int, prime: mpz, h: mpz) -> mpz:
        # powmod_sec: the time and memory accesses of the power do not depend on the secret exponent.
        square = prime * prime
        return (powmod_sec(ciphertext % square, prime - 1, square) - 1) // prime * h % prime


def _release_gil() -> None:
    get_context().allow_release_gil = True


def _twos(number: int) -> int:
    """How many times 2 divides a positive number."""
    return (number & -number).bit_length() - 1
