"""Credit for a rise of the score: what each gradient is worth to all others, by the levels of their likeness.

Without likeness these are Shapley values ("A Value for n-Person Games", 1953), with it Winter's: the mean of what a
gradient adds, over all orders in which every union comes in one piece. Together a union's members get what it is worth
as one player, and who changes nothing gets nothing. Up to `EXACT` gradients every order counts. Above, orders are drawn
from a public seed, each also run backwards (antithetic), and left where the rest adds nothing that counts (truncated
Monte Carlo: Ghorbani and Zou, "Data Shapley", 2019; sampling: Castro, Gomez and Tejada, 2009); the error of that is
measured and stated.

Values decide how pay is split, and who is owed any: who has one above the noise. Where luck alone reaches something
(`capsule.judge.chance`) this is not enough, because whoever comes first is then worth much, whatever it is. Credit is
due there to a value that stays above the noise in the game that starts from what luck reaches, or in which nobody
comes before at least half of the others (a semivalue: Dubey, Neyman and Weber, "Value Theory without Efficiency",
1981). The first asks for work that luck does not do, the second for work that the others do not do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate, chain, repeat
from math import factorial, isqrt
from operator import or_
from typing import Any

import numpy as np

from capsule.judge._exact import Floats, Ints
from capsule.judge.blend import Blend
from capsule.judge.game import STEP_BITS, Estimate, Game
from capsule.judge.likeness import Tree, leaves
from capsule.judge.measure import VALUE_BITS, Measured
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
    """What every gradient is worth, and the largest standard error of these values for having sampled orders.

    Where luck reaches something, also what it is worth beyond that, and to a majority of the others.
    """

    values: tuple[Estimate, ...]
    sampling_error: Ppm
    beyond_luck: tuple[Estimate, ...] | None = None
    to_majority: tuple[Estimate, ...] | None = None

    def due(self, noise: float) -> frozenset[int]:
        """Who is owed credit; if luck leaves nobody, those above the noise who are worth something to a majority."""
        above = frozenset(place for place, value in enumerate(self.values) if value.above(noise))
        if self.beyond_luck is None or self.to_majority is None:
            return above
        beyond, major = self.beyond_luck, self.to_majority
        surely = frozenset(place for place in above if beyond[place].above(noise) or major[place].above(noise))
        return surely or frozenset(place for place in above if major[place].value > 0)


def credit(game: Game, blend: Blend, seed: bytes, luck: Measured | None = None) -> Credit:
    """The value of each gradient of the game, averaged by the blend; `luck` is what luck reaches, if it is anything."""
    return _exact(game, blend, luck) if blend.count <= EXACT else _sampled(game, blend, seed, luck)


def split(weights: Sequence[Fraction]) -> list[Ppm]:
    """Shares in ppm of positive numbers: they sum to exactly 1,000,000, and each is at least 1 (largest remainder)."""
    total, free = sum(weights), PPM - len(weights)
    shares = [1 + int(weight * free / total) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(weights[i] * free / total % 1), i))
    for index in by_remainder[: PPM - sum(shares)]:
        shares[index] += 1
    return [Ppm(share) for share in shares]


def _exact(game: Game, blend: Blend, luck: Measured | None) -> Credit:
    """Every coalition that may come before a gradient in an order, weighted by how many orders have it so."""
    contexts = list(_contexts(blend.tree, 1, [(0, 1)]))
    if luck is not None:
        contexts += [_majority(blend, leaf, before) for leaf, _, before in contexts]
    places: dict[int, int] = {0: 0}
    columns: list[dict[int, int]] = []
    for leaf, _, before in contexts:
        column: dict[int, int] = {}
        for coalition, weight in before:
            for members, sign in ((coalition | 1 << leaf, weight), (coalition, -weight)):
                place = places.setdefault(members, len(places))
                column[place] = column.get(place, 0) + sign
        columns.append(column)
    factors = np.zeros((len(columns), len(places)))
    for row, column in enumerate(columns):
        factors[row, list(column)] = list(column.values())
    rows = [blend.parts(coalition, 1 << STEP_BITS) for coalition in places]
    worth = np.zeros(len(columns), dtype=object)
    influences: Floats = np.zeros((len(columns), game.records))
    at = 0
    for part in game.measured(rows):
        here = factors[:, at : at + len(part.values)]
        at += len(part.values)
        worth = worth + here.astype(np.int64).astype(object) @ part.values.astype(object)
        # Factors are at most 10!, below 2^22, and sum to twice that; with influences of 2^26 float64 is exact.
        influences = influences + here @ part.influences.astype(np.float64)

    def estimates(first: int, worth: Any, influences: Floats) -> tuple[Estimate, ...]:
        found = {
            leaf: Estimate.of(Fraction(int(value), divisor << VALUE_BITS), row.astype(np.int64) // divisor)
            for (leaf, divisor, _), value, row in zip(contexts[first:], worth, influences, strict=False)
        }
        return tuple(found[leaf] for leaf in range(blend.count))

    count = blend.count
    values = estimates(0, worth[:count], influences[:count])
    if luck is None:
        return Credit(values, Ppm(0))
    more, added = _more(game, luck)
    # The factor of nobody's worth is minus how often a gradient comes first.
    shifted = worth[:count] + factors[:count, 0].astype(np.int64).astype(object) * more
    moved = influences[:count] + factors[:count, :1] * added
    return Credit(values, Ppm(0), estimates(0, shifted, moved), estimates(count, worth[count:], influences[count:]))


def _more(game: Game, luck: Measured) -> tuple[int, Ints]:
    """By how much luck is better than the model as it is, and what each record adds to that."""
    nobody = game.measure([[0] * game.count])
    return int(luck.values[0] - nobody.values[0]), luck.influences[0] - nobody.influences[0]


def _majority(blend: Blend, leaf: int, before: list[tuple[int, int]]) -> tuple[int, int, list[tuple[int, int]]]:
    """A gradient with those coalitions before it that have at least half of who is not of its union."""
    others = blend.others(leaf)
    major = [(coalition, weight) for coalition, weight in before if _is_major(coalition, others)]
    return leaf, sum(weight for _, weight in major), major


def _is_major(coalition: int, others: int) -> bool:
    return 2 * (coalition & others).bit_count() >= others.bit_count()


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


def _sampled(game: Game, blend: Blend, seed: bytes, luck: Measured | None) -> Credit:
    count = blend.count
    fitting = MOST_SCORES // (count * game.size)
    pairs = max(LEAST_ORDERS, min(ORDERS, fitting)) // 2
    whole = 1 << STEP_BITS
    ends = game.measure([[0] * count, blend.parts(blend.everybody, whole)])
    start, everybody = (int(value) for value in ends.values)
    noise = Estimate.of(Fraction(), ends.influences[1]).variance * Fraction(1, _NEGLIGIBLE**2) * (1 << 2 * VALUE_BITS)
    others = [blend.others(leaf) for leaf in range(count)]
    total, major = _Tally.of(count, game.records), _Tally.of(count, game.records)
    squares, firsts = [0] * count, [0] * count
    rest = repeat((0, np.zeros(game.records, dtype=np.int64)))
    for number in range(pairs):
        order = list(_order(blend.tree, seed, number))
        pair = [0] * count
        for members in (order, order[::-1]):
            coalitions = list(accumulate((1 << leaf for leaf in members), or_))
            rows = [blend.parts(coalition, whole) for coalition in coalitions]
            firsts[members[0]] += 1
            gains = _gains(game, rows, start, ends.influences[0], everybody, noise)
            for leaf, coalition, (gained, added) in zip(members, coalitions, chain(gains, rest)):  # noqa: B905
                pair[leaf] += gained
                total.add(leaf, gained, added)
                if luck is not None and _is_major(coalition, others[leaf]):
                    major.add(leaf, gained, added)
        for leaf, gained in enumerate(pair):
            squares[leaf] += gained * gained
    # The standard error of a mean of independent pairs, each of two orders.
    spread = max(squares[leaf] * pairs - total.sums[leaf] ** 2 for leaf in range(count))
    square = -(-spread * PPM**2 // (pairs * pairs * (pairs - 1) * 4 << 2 * VALUE_BITS))
    error = Ppm(isqrt(square - 1) + 1 if square else 0)
    values = total.estimates()
    if luck is None:
        return Credit(values, error)
    more, added = _more(game, luck)
    for leaf, often in enumerate(firsts):
        total.sums[leaf] -= often * more
        total.influences[leaf] -= often * added
    return Credit(values, error, total.estimates(), major.estimates())


@dataclass(frozen=True, slots=True)
class _Tally:
    """What each gradient added, summed over orders."""

    sums: list[int]
    influences: Ints
    orders: list[int]

    @classmethod
    def of(cls, count: int, records: int) -> "_Tally":
        return cls([0] * count, np.zeros((count, records), dtype=np.int64), [0] * count)

    def add(self, leaf: int, gained: int, added: Ints) -> None:
        self.sums[leaf] += gained
        self.influences[leaf] += added
        self.orders[leaf] += 1

    def estimates(self) -> tuple[Estimate, ...]:
        """The means. An order or its reverse has half of the others before a gradient, so none is of nothing."""
        rows = zip(self.sums, self.influences, self.orders, strict=True)
        return tuple(Estimate.of(Fraction(sum_, orders << VALUE_BITS), row // orders) for sum_, row, orders in rows)


def _gains(
    game: Game, rows: list[list[int]], worth: int, influences: Ints, everybody: int, noise: Fraction
) -> Iterator[tuple[int, Ints]]:
    """What each row adds to the one before it, up to where the rest is negligible."""
    near = 0
    for part in game.measured(rows):
        for value, row in zip(part.values.tolist(), part.influences, strict=True):
            yield value - worth, row - influences
            worth, influences = value, row
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
