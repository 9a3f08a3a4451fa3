"""Arithmetic in Z*_{n^2} that exploits its structure: every element is a * (1 + n)^g with a < n, uniquely.

Since (1 + n)^g = 1 + g n (Paillier 1999), the factors (1 + n)^g multiply by adding their g, and a product
of many elements costs one multiplication by a half-length a each instead of a full-length one: about half the time.
The pair (a, g) is called the split form of an element; a is the element mod n and g = (element div n) / a mod n.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gmpy2 import f_divmod, invert, mpz

from sonar.syft.engines._checks import not_coprime

__all__ = ["Split", "SubsetTable", "join", "split", "subset_table"]


class Split(NamedTuple):
    """The element residue * (1 + n)^lift of Z*_{n^2}, with the inverse of residue mod n."""

    residue: mpz
    lift: mpz
    inverse: mpz


class SubsetTable(NamedTuple):
    """Split forms of all 2^t subset products of t elements; bit j of an index says whether element j is in."""

    residues: list[mpz]
    lifts: list[mpz]


def split(element: int, n: mpz) -> Split:
    """The split form of an element of Z*_{n^2}; raises CiphertextError where it shares a factor with n."""
    high, residue = f_divmod(mpz(element), n)
    try:
        inverse = invert(residue, n)
    except ZeroDivisionError as error:
        raise not_coprime() from error
    return Split(residue, high * inverse % n, inverse)


def join(element: mpz, lift: mpz, n: mpz, n_squared: mpz) -> int:
    """element * (1 + n)^lift mod n^2."""
    return int(element * (1 + n * (lift % n)) % n_squared)


def subset_table(elements: Sequence[Split], n: mpz) -> SubsetTable:
    """All subset products of t elements, 2^t - 1 - t multiplications in split form."""
    table = [Split(mpz(1), mpz(0), mpz(1))]
    for element in elements:
        table.extend(list(_times(table, element, n)))
    return SubsetTable([entry.residue for entry in table], [entry.lift for entry in table])


def _times(factors: Iterable[Split], other: Split, n: mpz) -> Iterable[Split]:
    residue, lift, inverse = other
    for entry in factors:
        # a b = r + q n = r (1 + (q / r) n): the carry q moves into the lift.
        carry, product = f_divmod(entry.residue * residue, n)
        product_inverse = entry.inverse * inverse % n
        yield Split(product, (entry.lift + lift + carry * product_inverse) % n, product_inverse)
