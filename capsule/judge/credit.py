"""Credit for a rise of the score: what each gradient is worth to all others, by the levels of their likeness.

Without likeness these are Shapley values ("A Value for n-Person Games", 1953), with it Winter's: the mean of what a
gradient adds, over all orders in which every union comes in one piece. Together a union's members get what it is worth
as one player, and who changes nothing gets nothing. Up to `EXACT` gradients every order counts. Above, orders are drawn
from a public seed, each also run backwards (antithetic), and left where the rest adds nothing that counts (truncated
Monte Carlo: Ghorbani and Zou, "Data Shapley", 2019; sampling: Castro, Gomez and Tejada, 2009); the error of that is
measured and stated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate
from math import factorial, isqrt
from operator import or_

import numpy as np

from capsule.judge._exact import Floats, Ints
from capsule.judge.blend import Blend
from capsule.judge.game import STEP_BITS, Estimate, Game
from capsule.judge.likeness import Tree, leaves
from capsule.judge.measure import VALUE_BITS
from sonar.units import PPM, Ppm

__all__ = ["EXACT", "Credit", "credit", "split"]

EXACT = 10
"""The most gradients for which every coalition is evaluated."""
ORDERS = 128
"""How many orders are drawn above that; even, because each also runs backwards."""
LEAST_ORDERS = 16
MOST_SCORES = 1 << 31
"""How many class scores the orders of one round may take: a minute. Large validation sets get fewer orders."""
_NEGLIGIBLE = 10
"""An order ends where two coalitions in a row are within a tenth of a standard error of the worth of everybody."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What every gradient is worth, and the largest standard error of these values for having sampled orders."""

    values: tuple[Estimate, ...]
    sampling_error: Ppm


def credit(game: Game, blend: Blend, seed: bytes) -> Credit:
    """The value of each gradient of the game, averaged by the blend."""
    return _exact(game, blend) if blend.count <= EXACT else _sampled(game, blend, seed)


def split(weights: Sequence[Fraction]) -> list[Ppm]:
    """Shares in ppm of positive numbers: they sum to exactly 1,000,000, and each is at least 1 (largest remainder)."""
    total, free = sum(weights), PPM - len(weights)
    shares = [1 + int(weight * free / total) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(weights[i] * free / total % 1), i))
    for index in by_remainder[: PPM - sum(shares)]:
        shares[index] += 1
    return [Ppm(share) for share in shares]


def _exact(game: Game, blend: Blend) -> Credit:
    """Every coalition that may come before a gradient in an order, weighted by how many orders have it so."""
    count, order = blend.count, list(leaves(blend.tree))
    places: dict[int, int] = {}
    columns: list[dict[int, int]] = []
    divisors = []
    for leaf, divisor, before in _contexts(blend.tree, 1, [(0, 1)]):
        column: dict[int, int] = {}
        for coalition, weight in before:
            for members, sign in ((coalition | 1 << leaf, weight), (coalition, -weight)):
                place = places.setdefault(members, len(places))
                column[place] = column.get(place, 0) + sign
        columns.append(column)
        divisors.append(divisor)
    factors = np.zeros((count, len(places)))
    for row, column in enumerate(columns):
        factors[row, list(column)] = list(column.values())
    rows = [blend.parts(coalition, 1 << STEP_BITS) for coalition in places]
    worth = np.zeros(count, dtype=object)
    influences: Floats = np.zeros((count, game.records))
    at = 0
    for part in game.measured(rows):
        here = factors[:, at : at + len(part.values)]
        at += len(part.values)
        worth = worth + here.astype(np.int64).astype(object) @ part.values.astype(object)
        # Factors are at most 10!, below 2^22, and sum to twice that; with influences of 2^26 float64 is exact.
        influences = influences + here @ part.influences.astype(np.float64)
    found = {
        leaf: Estimate.of(
            Fraction(int(worth[row]), divisors[row] << VALUE_BITS),
            influences[row].astype(np.int64) // divisors[row],
        )
        for row, leaf in enumerate(order)
    }
    return Credit(tuple(found[leaf] for leaf in range(count)), Ppm(0))


def _contexts(
    node: Tree, divisor: int, before: list[tuple[int, int]]
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Each leaf with who may come before it: coalitions with weights that sum to the divisor."""
    if isinstance(node, int):
        yield node, divisor, before
        return
    many = len(node)
    groups = [sum(1 << leaf for leaf in leaves(branch)) for branch in node]
    for place, branch in enumerate(node):
        siblings = [group for at, group in enumerate(groups) if at != place]
        chosen = [(0, 0)]
        for group in siblings:
            chosen += [(members | group, size + 1) for members, size in chosen]
        yield from _contexts(
            branch,
            divisor * factorial(many),
            [
                (outside | inside, weight * factorial(size) * factorial(many - 1 - size))
                for outside, weight in before
                for inside, size in chosen
            ],
        )


def _sampled(game: Game, blend: Blend, seed: bytes) -> Credit:
    count = blend.count
    fitting = MOST_SCORES // (count * game.size)
    pairs = max(LEAST_ORDERS, min(ORDERS, fitting)) // 2
    whole = 1 << STEP_BITS
    ends = game.measure([[0] * count, blend.parts(blend.everybody, whole)])
    start, everybody = (int(value) for value in ends.values)
    noise = Estimate.of(Fraction(), ends.influences[1]).variance * Fraction(1, _NEGLIGIBLE**2) * (1 << 2 * VALUE_BITS)
    sums, squares = [0] * count, [0] * count
    influences = np.zeros((count, game.records), dtype=np.int64)
    for number in range(pairs):
        order = list(_order(blend.tree, seed, number))
        pair = [0] * count
        for members in (order, order[::-1]):
            coalitions = accumulate((1 << leaf for leaf in members), or_)
            rows = [blend.parts(coalition, whole) for coalition in coalitions]
            for leaf, gained, added in _gains(game, rows, members, start, ends.influences[0], everybody, noise):
                pair[leaf] += gained
                influences[leaf] += added
        for leaf, gained in enumerate(pair):
            sums[leaf] += gained
            squares[leaf] += gained * gained
    orders = 2 * pairs
    values = tuple(
        Estimate.of(Fraction(sums[leaf], orders << VALUE_BITS), influences[leaf] // orders) for leaf in range(count)
    )
    # The standard error of a mean of independent pairs, each of two orders.
    spread = max(squares[leaf] * pairs - sums[leaf] ** 2 for leaf in range(count))
    square = -(-spread * PPM**2 // (pairs * pairs * (pairs - 1) * 4 << 2 * VALUE_BITS))
    return Credit(values, Ppm(isqrt(square - 1) + 1 if square else 0))


def _gains(
    game: Game,
    rows: list[list[int]],
    members: list[int],
    worth: int,
    influences: Ints,
    everybody: int,
    noise: Fraction,
) -> Iterator[tuple[int, int, Ints]]:
    """What each member adds to those before it, up to where the rest is negligible."""
    near, at = 0, 0
    for part in game.measured(rows):
        for value, row in zip(part.values.tolist(), part.influences, strict=True):
            yield members[at], value - worth, row - influences
            worth, influences, at = value, row, at + 1
            near = near + 1 if (value - everybody) ** 2 <= noise else 0
            if near == 2:
                return


def _order(node: Tree, seed: bytes, number: int) -> Iterator[int]:
    """One order of the leaves in which every union comes in one piece; all such orders are equally likely."""
    if isinstance(node, int):
        yield node
        return

    def draw(branch: Tree) -> bytes:
        inside = list(leaves(branch))  # its first member and its size name a branch
        return sha256(seed + b"".join(n.to_bytes(4, "big") for n in (number, min(inside), len(inside)))).digest()

    for branch in sorted(node, key=draw):
        yield from _order(branch, seed, number)
