"""The homomorphic affine map: Enc(change) = (A - I) Enc(W) + B, always re-randomised.

With Q = round((A - I) 2^f), output row i is the product over k of c_k^(Q_ik), times an encryption of B_i. All rows use
the same bases c_k, so the bases are taken in groups of t, and the 2^t subset products of a group are tabulated once;
each bit plane of each row then costs one look-up and product per group, and Horner joins a row's planes. That is about
D b (D / t) + (D / t) 2^t + 2 D b products for D features and b planes. Q is shifted to be unsigned; the shift costs one
inversion in all. The elements are kept in split form (`_group`), which nearly halves the cost of each product.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz, powmod

from sonar.syft._group import Split, join, split, subset_table
from sonar.syft.encoding import encode
from sonar.syft.errors import CiphertextError, EncodingOverflowError
from sonar.syft.keys import Obfuscator
from sonar.syft.packing import Integers, largest_magnitude, raw_pack
from sonar.syft.tensor import EncryptedTensor, check_bound, check_obfuscator
from sonar.syft.training import AffineMap

__all__ = ["apply_map"]

_MAX_GROUP = 14


def apply_map(
    affine: AffineMap, model: EncryptedTensor, *, map_bits: int, gradient_bound: int, obfuscator: Obfuscator
) -> EncryptedTensor:
    """The encrypted gradient (features, outputs) = change * model + constant, at scale model.scale + map_bits.

    `change` is rounded to `map_bits` fractional bits. `gradient_bound` is the public bound that the result declares,
    whatever the data, so that it says nothing about them. The result is always re-randomised: without that, whoever
    guesses the data can test the guess. Raises EncodingOverflowError, before anything is computed, where the model's
    bound allows a result above `gradient_bound`.
    """
    features, outputs = model.shape
    if affine.change.shape != (features, features) or affine.constant.shape != (features, outputs):
        raise CiphertextError(
            f"a map with change {affine.change.shape} and constant {affine.constant.shape} does not fit a model of "
            f"shape {model.shape}"
        )
    check_obfuscator(obfuscator, model.key)
    check_bound(gradient_bound, model.slot_width)
    scale = model.scale + map_bits
    change = encode(affine.change, map_bits, (1 << (map_bits + 16)) - 1).astype(np.int64)
    constant = encode(affine.constant, scale, gradient_bound)
    _check_rows(change, constant, model.bound, gradient_bound)
    blocks = model.layout.blocks
    plaintexts = raw_pack(constant, model.layout)
    gradient = [0] * len(model.ciphertexts)
    n, n_squared = mpz(model.key.n), mpz(model.key.n_squared)
    for block in range(blocks):
        rows = raw_map(model.ciphertexts[block::blocks], change, 1 << map_bits, n)
        for row, (element, lift) in enumerate(rows):
            index = row * blocks + block
            fresh, fresh_lift = obfuscator.draw()
            lift += fresh_lift + plaintexts[index]
            gradient[index] = join(element * fresh % n_squared, lift, n, n_squared)
    return EncryptedTensor(model.key, tuple(gradient), model.shape, model.slot_width, scale, gradient_bound)


def raw_map(bases: Sequence[int], exponents: npt.NDArray[np.int64], offset: int, n: mpz) -> list[tuple[mpz, mpz]]:
    """For each row of signed exponents (rows, bases), the product of bases^exponents mod n^2.

    It comes as (element, lift), which stand for element * (1 + n)^lift. The number of multiplications depends only on
    shapes and `offset`, a power of two, as long as -offset <= exponents < offset.
    """
    largest = int(np.abs(exponents).max(initial=0))
    while offset < largest:
        offset *= 2
    unsigned = exponents + offset
    planes = max(offset.bit_length(), int(unsigned.max(initial=0)).bit_length())
    n_squared = n * n
    elements = [split(base, n) for base in bases]
    shift = _inverse_product(elements, offset, n)
    products, lifts = [mpz(1)] * (len(exponents) * planes), [mpz(0)] * (len(exponents) * planes)
    # Group by group over all rows and planes, so that one table at a time is in the processor's cache.
    for group in _groups(len(elements), len(products)):
        table = subset_table(elements[group], n)
        indices = _indices(unsigned[:, group], planes)
        products = [x * table.residues[index] % n_squared for x, index in zip(products, indices, strict=True)]
        lifts = [x + table.lifts[index] for x, index in zip(lifts, indices, strict=True)]
    rows = []
    for start in range(0, len(products), planes):
        element, lift = mpz(1), mpz(0)
        for place in range(start, start + planes):
            element = element * element % n_squared * products[place] % n_squared
            lift = lift + lift + lifts[place]
        rows.append((element * shift.residue % n_squared, lift + shift.lift))
    return rows


def _check_rows(change: npt.NDArray[np.int64], constant: Integers, model_bound: int, gradient_bound: int) -> None:
    reach = np.abs(change).sum(axis=1).tolist()
    largest = max(r * model_bound + largest_magnitude(row) for r, row in zip(reach, constant, strict=True))
    if largest > gradient_bound:
        raise EncodingOverflowError(
            f"the gradient could reach {largest.bit_length()} bits, but its bound has {gradient_bound.bit_length()}: "
            "the campaign's gradient_bound_bits are too few for these data"
        )


def _groups(count: int, lookups: int) -> list[slice]:
    """Even groups of at most t of `count` bases, with t chosen so that building and looking up cost least."""
    # A table entry costs about 1.7 look-ups.
    best = min(range(1, _MAX_GROUP + 1), key=lambda t: -(-count // t) * (lookups + 1.7 * 2**t))
    groups = -(-count // best)
    return [slice(count * g // groups, count * (g + 1) // groups) for g in range(groups)]


def _indices(unsigned: npt.NDArray[np.int64], planes: int) -> list[int]:
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
