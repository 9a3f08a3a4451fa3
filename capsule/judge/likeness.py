"""Which gradients are alike: unions of alike ones share a part.

A replicator posts one gradient under several accounts, as it is, scaled or noised. No rule could tell it from honest
work on alike data, or where the spec makes all work alike (a target that is exactly linear, a large penalty), so
likeness is not punished but shared: a union of alike gradients plays the round as one player, and divides its part
among its branches, each a union of still more alike ones (Owen, "Values of Games with a Priori Unions", 1977; Winter,
"A Value for Cooperative Games with Levels Structure of Cooperation", 1989). Together replicas earn what one of them
would. Agarwal, Dahleh and Sarkar, "A Marketplace for Data" (2019), state the goal.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from capsule.judge._exact import Ints, excess_bits, gram, rounded_shift

__all__ = ["LEVELS", "Tree", "leaves", "unions"]

LEVELS = tuple(1 - Fraction(1, 10**place) for place in range(1, 6))
"""Cosines of what two gradients do to the class scores, from which on they are alike: each level ten times as close."""

_PUSH_BITS = 40

Tree = int | tuple["Tree", ...]
"""A gradient, or a union of several trees."""


def unions(pushes: Sequence[Ints], *, centred: bool) -> Tree:
    """The unions of alike gradients by their pushes (outputs, records): chains of alike ones at every level.

    Pushes, not weights, because noise on weights that no record uses would hide a replica; and with `centred` without
    what is added to all of a record's scores, because that changes no class.
    """
    rows = [_centred(push) for push in pushes] if centred else list(pushes)
    return tuple(_branches(tuple(range(len(pushes))), gram(rows), LEVELS))


def leaves(tree: Tree) -> Iterator[int]:
    """The gradients of a tree."""
    if isinstance(tree, int):
        yield tree
    else:
        for branch in tree:
            yield from leaves(branch)


def _centred(push: Ints) -> Ints:
    """What a push does besides adding one number to all of a record's scores, in units of its own."""
    rounded: Ints = rounded_shift(push, excess_bits([push], _PUSH_BITS))
    centred: Ints = rounded - rounded.sum(axis=0) // len(push)
    return centred


def _grouped(members: tuple[int, ...], products: list[list[int]], levels: Sequence[Fraction]) -> Tree:
    if len(members) == 1:
        return members[0]
    branches = _branches(members, products, levels)
    return branches[0] if len(branches) == 1 else tuple(branches)


def _branches(members: tuple[int, ...], products: list[list[int]], levels: Sequence[Fraction]) -> list[Tree]:
    """The chains of the first level, each with those of the others inside it."""
    if not levels:
        return list(members)
    groups: list[list[int]] = []
    for index in members:
        near = [g for g in groups if any(_alike(products, i, index, levels[0]) for i in g)]
        groups = [g for g in groups if g not in near] + [sorted([index, *(i for g in near for i in g)])]
    return [_grouped(tuple(group), products, levels[1:]) for group in sorted(groups)]


def _alike(products: list[list[int]], one: int, other: int, cosine: Fraction) -> bool:
    """Whether the cosine of two rows is above the given one, without rounding."""
    dot = products[one][other]
    both = products[one][one] * products[other][other]
    return dot > 0 and dot * dot * cosine.denominator**2 > both * cosine.numerator**2
