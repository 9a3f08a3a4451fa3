"""The mean in which a union weighs as one, and nothing is longer than the median."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.judge.blend import LIMIT_BITS, Blend, limits
from capsule.judge.likeness import leaves


@st.composite
def trees(draw: st.DrawFn) -> Any:
    size = draw(st.integers(1, 12))
    labels = [draw(st.tuples(*[st.integers(0, 2)] * 3)) for _ in range(size)]

    def grow(members: list[int], depth: int) -> Any:
        if len(members) == 1 or depth == 3:
            return members[0] if len(members) == 1 else tuple(members)
        groups = [[i for i in members if labels[i][depth] == k] for k in range(3)]
        branches = tuple(grow(group, depth + 1) for group in groups if group)
        return branches[0] if len(branches) == 1 else branches

    return size, grow(list(range(size)), 0)


@given(trees(), st.data())
def test_weights_sum_to_the_whole_and_a_branch_weighs_the_same_however_many_it_has(drawn: Any, data: Any) -> None:
    size, tree = drawn
    members = data.draw(st.frozensets(st.integers(0, size - 1), min_size=1))
    found = Blend(tree, (1 << LIMIT_BITS,) * size).multipliers(sum(1 << i for i in members), 1 << 16)
    assert {i for i, weight in enumerate(found) if weight} == members
    assert (1 << 16) - 13 * size <= sum(found) <= 1 << 16
    if isinstance(tree, tuple):
        present = [set(leaves(branch)) & members for branch in tree if set(leaves(branch)) & members]
        for branch in present:
            assert sum(found[i] for i in branch) == pytest.approx((1 << 16) / len(present), abs=13 * size)


@given(trees(), st.data())
def test_what_a_coalition_has_of_the_mean_of_all_is_the_same_whoever_else_is_in_it(drawn: Any, data: Any) -> None:
    size, tree = drawn
    blend = Blend(tree, (1 << LIMIT_BITS,) * size)
    members = data.draw(st.frozensets(st.integers(0, size - 1)))
    everybody = blend.multipliers(blend.everybody, 1 << 16)
    found = blend.parts(sum(1 << i for i in members), 1 << 16)
    assert found == [part if i in members else 0 for i, part in enumerate(everybody)]


def test_nobody_is_no_step() -> None:
    assert Blend((0, 1), (1024, 1024)).multipliers(0, 1 << 16) == [0, 0]


def test_a_gradient_of_twice_the_median_length_counts_by_half() -> None:
    found = limits([4 * 10**20, 10**20, 10**19, 0], 10**20)
    assert found == (512, 1024, 1024, 1024)
    assert Blend((0, 1, 2, 3), found).multipliers(0b0111, 3 << 10) == [512, 1024, 1024, 0]


@given(st.integers(1, 2**90), st.integers(1, 2**90))
def test_no_limited_gradient_is_longer_than_the_median(square: int, median: int) -> None:
    (limit,) = limits([square], median)
    assert limit == 1024 or limit**2 * square <= median << 20 < (limit + 1) ** 2 * square
