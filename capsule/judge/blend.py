"""The mean of a round's gradients, or of some: unions weigh as one, and what is longer than most is shortened.

A coalition is a bit mask of gradients. Its mean is that of the branches of the likeness tree which have members in
it, each the mean of its own branches, so replicas together weigh no more than one. A gradient that is longer than the
median of its round counts as if it were as long (clipping, as robust federated averaging does it: Sun and others, "Can
You Really Backdoor Federated Learning?", 2019); or else posting one's work twice as large would earn more.

The model takes the mean of those that are kept. Credit takes a coalition's parts of the mean of all: averaged by
itself a coalition makes a smaller step with a gradient of zeros than without, and where steps overshoot that is worth
something. Two mines of six would earn 1.5% of the pay for zeros (digits), and 2% for a trace of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt

from capsule.judge.likeness import Tree, leaves

__all__ = ["LIMIT_BITS", "Blend", "limits"]

LIMIT_BITS = 10

_Node = tuple[int, int, tuple["_Node", ...]]
"""The mask of a subtree, its gradient if it is one, and its branches."""


@dataclass(frozen=True, slots=True)
class Blend:
    """How gradients are averaged: by their tree, each counting `limits` / 2^LIMIT_BITS of its length."""

    tree: Tree
    limits: tuple[int, ...]
    _root: _Node = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_root", _node(self.tree))

    @property
    def count(self) -> int:
        """How many gradients there are."""
        return len(self.limits)

    @property
    def everybody(self) -> int:
        """The coalition of all."""
        return (1 << self.count) - 1

    def others(self, leaf: int) -> int:
        """The coalition of all gradients that are not in its union."""
        unions = [branch[0] for branch in self._root[2]] or [self.everybody]
        return self.everybody & ~next(union for union in unions if union >> leaf & 1)

    def multipliers(self, coalition: int, whole: int) -> list[int]:
        """The part of `whole` that every gradient has in the coalition's mean, rounded down; 0 for who is not in it."""
        found = [0] * self.count
        stack = [(self._root, 1)] if coalition else []
        while stack:
            (_, leaf, branches), divisor = stack.pop()
            if not branches:
                found[leaf] = whole * self.limits[leaf] // (divisor << LIMIT_BITS)
                continue
            present = [branch for branch in branches if branch[0] & coalition]
            stack += [(branch, divisor * len(present)) for branch in present]
        return found

    def parts(self, coalition: int, whole: int) -> list[int]:
        """The part of `whole` that every gradient of the coalition has in the mean of all; 0 for who is not in it."""
        everybody = self.multipliers(self.everybody, whole)
        return [part if coalition >> leaf & 1 else 0 for leaf, part in enumerate(everybody)]


def limits(squares: Sequence[int], median: int) -> tuple[int, ...]:
    """What part of 2^LIMIT_BITS leaves vectors of these squared lengths no longer than the (squared) median length."""
    whole = 1 << LIMIT_BITS
    return tuple(whole if square <= median else isqrt(median * whole**2 // square) for square in squares)


def _node(tree: Tree) -> _Node:
    branches = () if isinstance(tree, int) else tuple(_node(branch) for branch in tree)
    return sum(1 << leaf for leaf in leaves(tree)), tree if isinstance(tree, int) else -1, branches
