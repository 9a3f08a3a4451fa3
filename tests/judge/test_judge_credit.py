"""Shapley and Winter values, exact and sampled, against their textbook formulas; and how shares are split."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.judge import ValidationSet
from capsule.judge.blend import LIMIT_BITS, Blend
from capsule.judge.credit import EXACT, Credit, split
from capsule.judge.credit import credit as credit_of
from capsule.judge.game import STEP_BITS, Estimate, Game
from capsule.judge.likeness import Tree, leaves
from capsule.judge.luck import luck
from capsule.judge.measure import INFLUENCE_BITS, VALUE_BITS, Measured
from capsule.judge.metrics import Accuracy
from sonar.units import PPM, Ppm

RECORDS = 60


def game_of(count: int, seed: int, records: int = RECORDS, hint: float = 0.5, alike: float = 0.0) -> Game:
    """Random class scores, and random pushes with a hint of the labels; `alike` says how much they have in common."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, records)
    validation = ValidationSet(np.zeros((records, 1), dtype=np.int64), Accuracy(labels, 3), 30)
    base, *pushes = np.rint(rng.normal(size=(count + 1, 3, records)) * 2.0**30).astype(np.int64)
    common = np.rint((hint * np.eye(3)[:, labels] + alike * rng.normal(size=(3, records))) * 2.0**30).astype(np.int64)
    return Game(validation, base, [push + common for push in pushes])


def blended(tree: Tree) -> Blend:
    """No gradient too long."""
    return Blend(tree, (1 << LIMIT_BITS,) * len(list(leaves(tree))))


def credit(game: Game, tree: Tree, seed: bytes, luck: Measured | None = None) -> Credit:
    return credit_of(game, blended(tree), seed, luck)


def worth(game: Game, tree: Tree, members: Any, count: int) -> tuple[Fraction, Any]:
    found = game.measure([blended(tree).parts(sum(1 << i for i in members), 1 << STEP_BITS)])
    return Fraction(int(found.values[0]), 1 << VALUE_BITS), found.influences[0]


def orders(tree: Tree) -> list[tuple[int, ...]]:
    """Every order of the leaves in which each union comes in one piece."""
    if isinstance(tree, int):
        return [(tree,)]
    inner = [orders(branch) for branch in tree]
    return [
        tuple(itertools.chain.from_iterable(parts))
        for permutation in itertools.permutations(inner)
        for parts in itertools.product(*permutation)
    ]


def slow_values(game: Game, tree: Tree) -> tuple[list[Fraction], Any]:
    count = len(list(leaves(tree)))
    totals, influences = [Fraction()] * count, np.zeros((count, RECORDS))
    every = orders(tree)
    for order in every:
        before, before_influence = worth(game, tree, (), count)
        for size, leaf in enumerate(order, start=1):
            after, after_influence = worth(game, tree, order[:size], count)
            totals[leaf] += after - before
            influences[leaf] += after_influence - before_influence
            before, before_influence = after, after_influence
    return [total / len(every) for total in totals], influences / len(every)


TREES: list[Tree] = [
    0, (0, 1), (0, 1, 2), (0, 1, 2, 3, 4), ((0, 2), 1), ((0, 1, 2), (3, 4)), (((0, 3), 1), 2, 4), ((((0, 1), 2), 3), 4),
]  # fmt: skip


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_exact_values_are_the_mean_over_every_order_of_the_levels(tree: Tree) -> None:
    game = game_of(len(list(leaves(tree))), 5)
    found = credit(game, tree, b"")
    expected, influences = slow_values(game, tree)
    assert [value.value for value in found.values] == expected
    assert found.sampling_error == 0
    for value, row in zip(found.values, influences, strict=True):
        slow = row.var() / RECORDS / 2.0 ** (2 * INFLUENCE_BITS)
        assert float(value.variance) == pytest.approx(slow, rel=1e-3)


def lucky(game: Game) -> Measured:
    """Somewhat better than the model, as if a random direction were."""
    nobody = game.measure([[0] * game.count])
    better = np.random.default_rng(3).integers(0, 2, nobody.influences.shape) << INFLUENCE_BITS
    return Measured(nobody.values + (1 << VALUE_BITS - 3), nobody.influences + better)


def slow_majority_values(game: Game, tree: Tree) -> list[Fraction]:
    """The mean over those orders in which half of the gradients of other unions, or more, come before."""
    count = len(list(leaves(tree)))
    found = []
    for leaf in range(count):
        union = next((set(leaves(branch)) for branch in tree if leaf in leaves(branch)), set()) if tree != 0 else {0}  # type: ignore[union-attr]
        gains = []
        for order in orders(tree):
            before = order[: order.index(leaf)]
            if 2 * len(set(before) - union) >= count - len(union):
                gains.append(worth(game, tree, (*before, leaf), count)[0] - worth(game, tree, before, count)[0])
        found.append(sum(gains, Fraction()) / len(gains))
    return found


@pytest.mark.parametrize("tree", [*TREES, ((0, 1, 2),)], ids=str)
def test_values_beyond_luck_and_to_a_majority_are_means_over_orders(tree: Tree) -> None:
    count = len(list(leaves(tree)))
    game = game_of(count, 5)
    chance = lucky(game)
    found = credit(game, tree, b"", chance)
    assert found.beyond_luck is not None
    assert found.to_majority is not None
    assert found.values == credit(game, tree, b"").values
    every = orders(tree)
    more = Fraction(int(chance.values[0] - game.measure([[0] * count]).values[0]), 1 << VALUE_BITS)
    first = [Fraction(sum(order[0] == leaf for order in every), len(every)) for leaf in range(count)]
    assert [v.value for v in found.beyond_luck] == [
        v.value - often * more for v, often in zip(found.values, first, strict=True)
    ]
    assert [v.value for v in found.to_majority] == slow_majority_values(game, tree)


def test_sampled_values_beyond_luck_and_to_a_majority_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ((0, 1, 2), (3, 4), 5, 6, 7)
    game = game_of(8, 3)
    exact = credit(game, tree, b"", lucky(game))
    monkeypatch.setattr("capsule.judge.credit.EXACT", 4)
    monkeypatch.setattr("capsule.judge.credit._NEGLIGIBLE", 10**9)
    sampled = credit(game, tree, b"head", lucky(game))
    for name in ("values", "beyond_luck", "to_majority"):
        misses = [float(a.value - b.value) for a, b in zip(getattr(exact, name), getattr(sampled, name), strict=True)]
        assert 0 < max(map(abs, misses)) < 4 * sampled.sampling_error / PPM, name
        wide = [
            float(a.variance / b.variance) for a, b in zip(getattr(exact, name), getattr(sampled, name), strict=True)
        ]
        assert 0.4 < min(wide) < max(wide) < 2.5, name


def estimate(value: float) -> Estimate:
    """With a standard error of 1."""
    return Estimate(Fraction(value), Fraction(1))


@pytest.mark.parametrize(
    ("values", "beyond", "major", "due"),
    [
        ((3, 1, 3), None, None, {0, 2}),
        ((3, 3, 3), (3, 0, 0), (0, 3, 1), {0, 1}),
        ((3, 3, 1), (0, 0, 3), (1, -1, 3), {0}),
        ((3, 3, 1), (1, 1, 1), (0, -1, 1), set()),
    ],
    ids=["no luck", "beyond it or to a majority", "nobody surely", "nobody"],
)
def test_credit_is_due_beyond_luck_or_to_a_majority(values: Any, beyond: Any, major: Any, due: set[int]) -> None:
    rows = (None if row is None else tuple(map(estimate, row)) for row in (beyond, major))
    assert Credit(tuple(map(estimate, values)), Ppm(0), *rows).due(2.0) == due


def test_luck_is_the_best_public_direction_and_nothing_where_it_is_within_the_noise() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 400)
    # One thing told by all of six features: every other direction is good.
    inputs = np.rint((np.outer(2 * labels - 1, np.ones(6)) + rng.normal(size=(400, 6))) * 2.0**16).astype(np.int64)
    validation = ValidationSet(inputs, Accuracy(labels, 2), 32)
    nothing = np.zeros((2, 400), dtype=np.int64)
    pushes = [validation.scores(np.rint(rng.normal(size=(6, 2)) * 2.0**16).astype(np.int64)) for _ in range(3)]
    game = Game(validation, nothing, pushes)
    found = luck(game, blended((0, 1, 2)), 2.0, b"seed")
    assert found is not None
    assert found.values[0] > 0.9 * 2**VALUE_BITS > 0.6 * 2**VALUE_BITS > game.measure([[0, 0, 0]]).values[0]
    again = luck(game, blended((0, 1, 2)), 2.0, b"seed")
    assert again is not None
    assert (found.influences == again.influences).all()
    # A model that is good already: a third of a random direction as long as it makes nothing of it.
    taught = validation.scores(np.array([[-1, 1]] * 6, dtype=np.int64) << 18)
    assert luck(Game(validation, taught, pushes), blended((0, 1, 2)), 2.0, b"seed") is None


def test_without_likeness_values_are_shapleys() -> None:
    game, count = game_of(4, 8), 4
    tree = (0, 1, 2, 3)
    found = credit(game, tree, b"").values
    for i in range(count):
        total = Fraction()
        for size in range(count):
            factor = Fraction(math.factorial(size) * math.factorial(count - size - 1), math.factorial(count))
            for others in itertools.combinations([j for j in range(count) if j != i], size):
                total += factor * (worth(game, tree, (*others, i), count)[0] - worth(game, tree, others, count)[0])
        assert found[i].value == total


@pytest.mark.parametrize("tree", [(*range(6),), ((0, 1, 2), 3, (4, 5)), (*range(EXACT),)], ids=str)
def test_values_sum_to_the_worth_of_everyone_together(tree: Tree) -> None:
    count = len(list(leaves(tree)))
    game = game_of(count, 7)
    found = credit(game, tree, b"")
    rise = worth(game, tree, range(count), count)[0] - worth(game, tree, (), count)[0]
    assert sum(value.value for value in found.values) == rise


def test_a_union_earns_what_it_is_worth_as_one_player() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, RECORDS)
    validation = ValidationSet(np.zeros((RECORDS, 1), dtype=np.int64), Accuracy(labels, 3), 30)
    base, *pushes = np.rint(rng.normal(size=(4, 3, RECORDS)) * 2.0**30).astype(np.int64)
    alone = credit(Game(validation, base, pushes), (0, 1, 2), b"").values
    swarm = Game(validation, base, [pushes[0], pushes[1], *[pushes[2]] * 4])
    found = credit(swarm, (0, 1, (2, 3, 4, 5)), b"").values
    # To the rounding of the multipliers.
    assert [float(value.value) for value in found[:2]] == pytest.approx([float(v.value) for v in alone[:2]], abs=1e-9)
    assert float(sum(value.value for value in found[2:])) == pytest.approx(float(alone[2].value), abs=1e-9)
    flat = credit(swarm, (0, 1, 2, 3, 4, 5), b"").values
    assert flat[2].value != found[2].value


@pytest.mark.parametrize("count", [4, EXACT + 2])
def test_a_gradient_that_changes_no_class_is_worth_exactly_nothing_where_others_go_too_far(count: int) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, RECORDS)
    validation = ValidationSet(np.zeros((RECORDS, 1), dtype=np.int64), Accuracy(labels, 3), 30)
    truth = np.eye(3, dtype=np.int64)[:, labels] << 30
    away = [np.rint(rng.normal(scale=8, size=(3, RECORDS)) * 2.0**30).astype(np.int64) for _ in range(count - 2)]
    shifts = [np.zeros_like(truth), np.full_like(truth, 1 << 30)]
    game = Game(validation, truth, [*away, *shifts])
    tree = tuple(range(count))
    # Their own mean goes half as far with a gradient of zeros, and is right more often: that must earn it nothing.
    near, far = blended(tree).multipliers(0b11 | 1 << count - 1, 1 << 16), blended(tree).multipliers(0b11, 1 << 16)
    assert game.values([near])[0] > game.values([far])[0]
    found = credit(game, tree, b"head").values
    assert any(value.value < 0 for value in found[:-2])
    for value in found[-2:]:
        assert value == Estimate(Fraction(), Fraction())
        assert not value.reaches_above(2.0)


@pytest.mark.parametrize("tree", [(*range(8),), ((0, 1, 2), (3, 4), 5, 6, 7)], ids=str)
def test_sampled_values_depend_on_nothing_but_the_seed_and_their_error_is_what_they_state(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = game_of(8, 3)
    exact = credit(game, tree, b"")
    monkeypatch.setattr("capsule.judge.credit.EXACT", 4)
    monkeypatch.setattr("capsule.judge.credit._NEGLIGIBLE", 10**9)
    first = credit(game, tree, b"head")
    assert first == credit(game, tree, b"head")
    misses = []
    for number in range(12):
        found = credit(game, tree, bytes([number]))
        assert found != first
        assert 0 < found.sampling_error < 30_000
        pairs = zip(found.values, exact.values, strict=True)
        misses.append(max(abs(one.value - other.value) for one, other in pairs) * PPM / found.sampling_error)
    # The largest of eight misses, in units of the largest standard error of the eight.
    assert 0.5 < np.mean([float(miss) for miss in misses]) < 2.2


def test_leaving_an_order_early_changes_values_by_less_than_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    count = EXACT + 6
    # Where all teach the same, the first few of an order bring all of the rise.
    game, tree = game_of(count, 4, records=2000, hint=50, alike=100), tuple(range(count))
    truncated = credit(game, tree, b"head").values
    monkeypatch.setattr("capsule.judge.credit._NEGLIGIBLE", 10**9)
    whole = credit(game, tree, b"head").values
    assert truncated != whole
    for one, other in zip(truncated, whole, strict=True):
        assert (one.value - other.value) ** 2 < other.variance


def test_orders_of_a_union_with_its_first_member_are_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from capsule.judge.credit import _order

    tree = ((0, 1), 2)
    drawn = [tuple(_order(tree, b"seed", number)) for number in range(400)]
    counts = [drawn.count(order) for order in orders(tree)]
    assert sum(counts) == 400
    assert min(counts) > 60


def test_noise_is_compared_without_rounding() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        row = rng.integers(-2, 4, 30) << INFLUENCE_BITS
        mean = Fraction(int(row.sum()), 30 << INFLUENCE_BITS)
        found = Estimate.of(mean, row)
        error = row.std() / 2**INFLUENCE_BITS / math.sqrt(len(row))
        assert math.sqrt(found.variance) == pytest.approx(error)
        assert found.above(2.0) == (mean > 2 * error)
        assert found.reaches_above(2.0) == (mean + 2 * error > 0)
    assert not Estimate.of(Fraction(), np.zeros(30, dtype=np.int64)).above(0)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=64))
def test_shares_sum_to_one_million_and_nobody_kept_gets_nothing(weights: list[int]) -> None:
    shares = split([Fraction(weight, 7) for weight in weights])
    assert sum(shares) == PPM
    assert min(shares) >= 1
    assert all(
        abs(share - weight * PPM / sum(weights)) <= len(weights) + 1
        for share, weight in zip(shares, weights, strict=True)
    )
