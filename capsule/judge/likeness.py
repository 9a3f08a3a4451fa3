"""Which gradients are alike: copies, which are left out, and unions of alike ones, which share a part.

A replicator posts one gradient under several accounts. Where it is the same but for scale and a trace of noise, it is a
copy. Nobody can read another's sealed gradient, so copies are one party's, or those of mines whose data the spec hides
from each other's work: features that all clip, or a penalty beside which no record counts. Because a data scientist
could write such a spec to win bonds, a copy is left out and not fined as what can be proved is (a repeated digest,
another's box). With more noise no rule could tell it from honest work on alike data, so likeness is shared: a union of
alike gradients plays the round as one player, and divides its part among its branches, each a union of still
more alike ones (Owen, "Values of Games with a Priori Unions", 1977; Winter, "A Value for Cooperative Games with Levels
Structure of Cooperation", 1989). Agarwal, Dahleh and Sarkar, "A Marketplace for Data" (2019), state the goal.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from capsule.judge._exact import BigInts, Ints, excess_bits, gram, rounded_shift

__all__ = ["COPY_COSINE", "LEVELS", "Tree", "find_copies", "leaves", "unions"]

COPY_COSINE = 1 - Fraction(1, 10**8)
"""Two gradients of different accounts in one round whose directions agree more than this are one work.

Honest mines that draw from one source come closer the more they have: docs/judging.md has what was measured.
"""
LEVELS = tuple(1 - Fraction(1, 10**place) for place in range(1, 6))
"""Cosines of what two gradients do to the class scores, from which on they are alike: each level ten times as close."""

_PUSH_BITS = 40

Tree = int | tuple["Tree", ...]
"""A gradient, or a union of several trees."""


def find_copies(gradients: Sequence[BigInts]) -> dict[int, int]:
    """Which gradients repeat the direction of an earlier one, which is not a copy itself: index to original.

    A gradient of zeros has no direction, and is nobody's copy.
    """
    products = gram(list(gradients))
    copies: dict[int, int] = {}
    for index in range(len(gradients)):
        earlier = (i for i in range(index) if i not in copies and _alike(products, i, index, COPY_COSINE))
        original = next(earlier, None)
        if original is not None:
            copies[index] = original
    return copies


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
