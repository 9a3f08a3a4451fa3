"""What an engine is: arithmetic in Z*_{n^2} on integers, which knows no key, no slot and no scale.

Every operation is a function of its arguments, so all engines return the same integers. Randomness, bounds and the
meaning of numbers are for the callers. Arguments are checked by the callers as well, with two exceptions that no
engine may skip: an element that is not coprime to n where an inverse is needed raises CiphertextError, and counts that
do not match raise ValueError.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Engine", "Exponents", "FixedBase", "Progress"]

Exponents = npt.NDArray[np.int64]
"""Signed exponents (rows, bases)."""

Progress = Callable[[float], None]
"""Told now and then, from the calling thread, which part of a long operation is done, 0 to 1; may raise to stop it."""


class FixedBase(ABC):
    """Powers of one base, from tables that are made once. Safe in threads."""

    @abstractmethod
    def powers(self, exponents: Sequence[int]) -> list[int]:
        """base^e mod n^2 for every exponent 0 <= e < 2^exponent_bits; raises ValueError for others."""


class Engine(ABC):
    """One implementation of the arithmetic. `workers` is how many processes or threads it may keep busy."""

    name: ClassVar[str]

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"an engine of {workers} workers cannot work: give at least one")
        self.workers = workers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workers={self.workers})"

    def __reduce__(self) -> tuple[Callable[[str, int], "Engine"], tuple[str, int]]:
        return _engine_of, (self.name, self.workers)

    @classmethod
    @abstractmethod
    def unusable(cls) -> str | None:
        """Why this engine cannot run here, in a sentence; None where it can."""

    @abstractmethod
    def check(self, ciphertexts: Sequence[int], n: int) -> None:
        """Raises CiphertextError unless every ciphertext c has 0 < c < n^2 and is coprime to n."""

    @abstractmethod
    def multiply(self, left: Sequence[int], right: Sequence[int], n: int) -> list[int]:
        """The products of pairs of elements mod n^2: a sum of plaintexts, or a re-randomised ciphertext."""

    @abstractmethod
    def add_plaintexts(self, elements: Sequence[int], plaintexts: Sequence[int], n: int) -> list[int]:
        """element * (1 + n)^plaintext mod n^2 for pairs; plaintexts are signed and may have any size."""

    @abstractmethod
    def fixed_base(self, base: int, exponent_bits: int, n: int) -> FixedBase:
        """Tables for powers of an element with exponents of up to `exponent_bits` bits, a multiple of 64."""

    @abstractmethod
    def linear_map(
        self, bases: Sequence[int], exponents: Exponents, n: int, *, bits: int, progress: Progress | None = None
    ) -> list[int]:
        """For each row of signed exponents (rows, bases) the product of bases^exponents mod n^2.

        How many multiplications are done depends on shapes and `bits` alone as long as every exponent e has
        -2^bits <= e < 2^bits; larger ones are right too.
        """

    @abstractmethod
    def weighted_products(self, factors: Sequence[Sequence[int]], exponents: Sequence[int], n: int) -> list[int]:
        """For each i the product over j of factors[j][i]^exponents[j] mod n^2, with public exponents >= 0."""

    @abstractmethod
    def decrypt(self, ciphertexts: Sequence[int], p: int, q: int, *, progress: Progress | None = None) -> list[int]:
        """The plaintexts, 0 <= m < n = p q, of checked ciphertexts under a key with these primes (Paillier 1999, 7)."""


def _engine_of(name: str, workers: int) -> Engine:
    """The engine of this name in another process, which has its own threads and processes."""
    from sonar.syft.engines.choice import get_engine

    return get_engine(name, workers=workers)
