"""Unions of alike gradients."""

from typing import Any

import numpy as np
import pytest

from capsule.judge.likeness import LEVELS, leaves, unions


def noised(vector: Any, noise: float, rng: np.random.Generator) -> Any:
    """A vector with noise of this size relative to it."""
    drawn = rng.normal(size=vector.shape)
    moved = vector + noise * np.linalg.norm(vector) / np.linalg.norm(drawn) * drawn
    return np.rint(moved).astype(np.int64)


@pytest.fixture
def drawn() -> tuple[list[Any], np.random.Generator]:
    rng = np.random.default_rng(0)
    return [np.rint(rng.normal(size=(3, 200)) * 2.0**40).astype(np.int64) for _ in range(3)], rng


def test_gradients_of_zeros_stand_alone() -> None:
    zeros = np.zeros((3, 2), dtype=np.int64)
    assert unions([zeros, zeros, zeros + 1], centred=False) == (0, 1, 2)


def test_alike_gradients_are_a_union_and_the_most_alike_a_branch_of_it(drawn: Any) -> None:
    rows, rng = drawn
    near = noised(rows[0], 0.25, rng)
    pushes = [rows[0], rows[1], near, noised(near, 0.01, rng), rows[2]]
    assert unions(pushes, centred=False) == ((0, (2, 3)), 1, 4)


def test_gradients_that_are_all_alike_are_one_union_of_equals(drawn: Any) -> None:
    rows, rng = drawn
    pushes = [noised(rows[0], 0.2, rng) for _ in range(5)]
    assert unions(pushes, centred=False) == ((0, 1, 2, 3, 4),)


@pytest.mark.parametrize("noise", [0.2, 0.05, 0.02, 0.005, 0.0005, 0.0])
def test_replicas_at_every_level_share_one_branch(drawn: Any, noise: float) -> None:
    rows, rng = drawn
    tree: Any = unions([*rows, *(noised(rows[2], noise, rng) for _ in range(4))], centred=False)
    assert tree[:2] == (0, 1)
    assert sorted(leaves(tree[2])) == [2, 3, 4, 5, 6]


def test_scale_hides_nothing(drawn: Any) -> None:
    rows, rng = drawn
    tree: Any = unions([rows[0], noised(rows[0], 0.1, rng) // 2, noised(rows[0], 0.1, rng) * 2, rows[1]], centred=False)
    assert len(tree) == 2


def test_what_changes_no_class_hides_nothing_where_classes_count(drawn: Any) -> None:
    rows, rng = drawn
    hidden = rows[0] + np.rint(rng.normal(size=(1, 200)) * 2.0**43).astype(np.int64)
    assert unions([rows[0], hidden], centred=True) == ((0, 1),)
    assert unions([rows[0], hidden], centred=False) == (0, 1)
    tree: Any = unions([rows[0], hidden, rows[1]], centred=True)
    assert sorted(leaves(tree[0])) == [0, 1]
    assert unions([rows[0], hidden, rows[1]], centred=False) == (0, 1, 2)


def test_chains_of_alike_gradients_are_one_union() -> None:
    angles = np.radians([0, 20, 40, 60, 90])
    pushes = [np.rint(np.array([[np.cos(a), np.sin(a)]]) * 2.0**30).astype(np.int64) for a in angles]
    assert unions(pushes, centred=False) == ((0, 1, 2, 3), 4)


def test_levels_are_nested() -> None:
    assert list(LEVELS) == sorted(LEVELS)
    assert 0 < LEVELS[0] < LEVELS[-1] < 1
