"""The map on integers: products of powers of the same bases for many rows of exponents, by subset products.

All rows use the same bases, so the bases are taken in groups of t, and the 2^t subset products of a group are tabulated
once; each bit plane of each row then costs one look-up and product per group, and Horner joins a row's planes. That is
about D b (D / t) + (D / t) 2^t + 2 D b products for D features and b planes. Exponents are shifted to be unsigned; the
shift costs one inversion in all. The elements are kept in split form (`_group`), which nearly halves each product.
"""

from collections.abc import Sequence

import numpy as np
from gmpy2 import mpz, powmod

from sonar.syft.engines._group import Split, split, subset_table
from sonar.syft.engines.base import Exponents, Progress
from sonar.syft.engines.cost import group_size

__all__ = ["raw_map"]


def raw_map(
    bases: Sequence[int], exponents: Exponents, n: int, bits: int, progress: Progress | None = None
) -> list[int]:
    """`Engine.linear_map` in this process; the table indices depend on the exponents."""
    offset = 1 << max(bits, int(np.abs(exponents).max(initial=0)).bit_length())
    if int(exponents.min(initial=0)) >= -(1 << bits) and int(exponents.max(initial=0)) < 1 << bits:
        offset = 1 << bits
    unsigned = exponents + offset
    planes = offset.bit_length()
    modulus = mpz(n)
    n_squared = modulus * modulus
    elements = [split(base, modulus) for base in bases]
    shift = _inverse_product(elements, offset, modulus)
    products, lifts = [mpz(1)] * (len(exponents) * planes), [mpz(0)] * (len(exponents) * planes)
    groups = _groups(len(elements), len(products))
    # Group by group over all rows and planes, so that one table at a time is in the processor's cache.
    for done, group in enumerate(groups, start=1):
        table = subset_table(elements[group], modulus)
        indices = _indices(unsigned[:, group], planes)
        products = [x * table.residues[index] % n_squared for x, index in zip(products, indices, strict=True)]
        lifts = [x + table.lifts[index] for x, index in zip(lifts, indices, strict=True)]
        if progress is not None:
            progress(done / (len(groups) + 1))
    rows = []
    for start in range(0, len(products), planes):
        element, lift = mpz(1), mpz(0)
        for place in range(start, start + planes):
            element = element * element % n_squared * products[place] % n_squared
            lift = lift + lift + lifts[place]
        element = element * shift.residue % n_squared
        rows.append(int(element * (1 + modulus * ((lift + shift.lift) % modulus)) % n_squared))
    if progress is not None:
        progress(1.0)
    return rows


def _groups(count: int, lookups: int) -> list[slice]:
    """Even groups of `count` bases, each small enough to tabulate."""
    groups = -(-count // group_size(count, lookups))
    return [slice(count * g // groups, count * (g + 1) // groups) for g in range(groups)]


def _indices(unsigned: Exponents, planes: int) -> list[int]:
    """The table index of each row and bit plane, planes from the top, for exponents (rows, t) of one group."""
    shifts = np.arange(planes - 1, -1, -1)
    bits = (unsigned[:, None, :] >> shifts[None, :, None]) & 1
    indices: list[int] = (bits @ (1 << np.arange(unsigned.shape[1]))).ravel().tolist()
    return indices


def _inverse_product(elements: Sequence[Split], offset: int, n: mpz) -> Split:
    """The product of all elements to the power -offset."""
    n_squared = n * n
    product = mpz(1)
    for element in elements:
        product = product * element.residue % n_squared
    product = product * (1 + n * (sum(element.lift for element in elements) % n)) % n_squared
    return split(powmod(product, -offset, n_squared), n)
