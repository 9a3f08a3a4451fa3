"""What a map costs, counted in products of an element and a tabulated residue (a look-up)."""

from typing import Final

__all__ = ["MAX_GROUP", "group_size", "map_cost", "shift_cost"]

MAX_GROUP: Final = 14
"""The most bases whose subset products are tabulated together: 2^14 residues of 3072 bits are 6 MB."""

_ENTRY: Final = 1.7
"""A table entry costs about 1.7 look-ups, a squaring and a product of whole elements about 3.2."""
_HORNER: Final = 3.2
_SQUARING: Final = 1.4


def group_size(bases: int, lookups: int) -> int:
    """The number of bases in a group for which building tables and looking up, `lookups` times a group, cost least."""
    return min(range(1, MAX_GROUP + 1), key=lambda size: _tables(bases, lookups, size))


def map_cost(rows: int, bases: int, bits: int) -> float:
    """The look-ups' worth of a map of exponents (rows, bases) of `bits` bits and a sign."""
    if not rows or not bases:
        return 0.0
    lookups = rows * (bits + 1)
    return _tables(bases, lookups, group_size(bases, lookups)) + _HORNER * lookups


def shift_cost(elements: int, bits: int) -> float:
    """The look-ups' worth of raising elements to the power 2^bits."""
    return _SQUARING * elements * bits


def _tables(bases: int, lookups: int, size: int) -> float:
    return -(-bases // size) * (lookups + _ENTRY * (1 << size))
