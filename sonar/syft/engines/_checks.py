"""What every engine refuses, in the same words."""

from collections.abc import Sequence
from math import gcd
from typing import Final

import numpy as np

from sonar.syft.engines.base import Exponents
from sonar.syft.errors import CiphertextError

__all__ = [
    "MAX_MAP_BITS",
    "check_coprime",
    "check_exponents",
    "check_factors",
    "check_powers",
    "not_coprime",
    "not_in_group",
]

MAX_MAP_BITS: Final = 60
"""The longest exponents of a map: shifted to be unsigned, they still fit 64 bits."""


def not_in_group(index: int) -> CiphertextError:
    """The error for a ciphertext that is not an element of Z_{n^2} or zero."""
    return CiphertextError(f"ciphertext {index} is outside 1 to n^2 - 1: refuse the artifact it came in")


def not_coprime() -> CiphertextError:
    """The error for an element that has no inverse."""
    return CiphertextError("a ciphertext is not coprime to the modulus: refuse the artifact it came in")


def check_coprime(element: int, n: int) -> None:
    """Raises CiphertextError for an element that shares a factor with n."""
    if gcd(element, n) != 1:
        raise not_coprime()


def check_exponents(bases: Sequence[int], exponents: Exponents, bits: int) -> None:
    """Raises ValueError unless a map has exponents (rows, bases), and their magnitudes are below 2^60."""
    if exponents.dtype != np.int64 or exponents.ndim != 2 or exponents.shape[1] != len(bases) or not bases:
        raise ValueError(f"exponents {exponents.dtype} of shape {exponents.shape} do not fit {len(bases)} bases")
    largest = max(abs(int(exponents.min(initial=0))), int(exponents.max(initial=0)))
    if bits < 0 or max(bits, largest.bit_length()) > MAX_MAP_BITS:
        raise ValueError(f"{bits} bits, with exponents up to {largest}, are not from 0 to {MAX_MAP_BITS}")


def check_factors(factors: Sequence[Sequence[int]], exponents: Sequence[int]) -> None:
    """Raises ValueError unless there is one exponent, not negative, for each of at least one list of factors."""
    if not factors or len(factors) != len(exponents) or min(exponents) < 0:
        raise ValueError(f"{len(factors)} lists of factors do not fit the exponents {list(exponents)!r:.80}")


def check_powers(exponents: Sequence[int], bits: int) -> None:
    """Raises ValueError unless every exponent is from 0 to 2^bits - 1; the message tells none of them."""
    if any(exponent < 0 or exponent >> bits for exponent in exponents):
        raise ValueError(f"an exponent is negative or has more than {bits} bits")
