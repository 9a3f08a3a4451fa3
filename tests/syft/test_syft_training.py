"""The closed-form training map against the loop that it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.syft import Statistics, TrainingError, training_map


@given(
    seed=st.integers(0, 2**32 - 1),
    records=st.integers(1, 30),
    features=st.integers(1, 8),
    epochs=st.integers(1, 200),
    rate=st.floats(0.01, 1.0),
    l2=st.sampled_from([0.0, 1e-6, 1e-3, 0.5]),
)
def test_the_map_equals_the_gradient_descent_loop(seed, records, features, epochs, rate, l2):
    rng = np.random.default_rng(seed)
    design = np.hstack(
        [rng.normal(size=(records, features)) * rng.uniform(0.1, 5, size=features), np.ones((records, 1))]
    )
    targets = rng.normal(size=(records, 3))
    weights = rng.normal(size=(features + 1, 3))
    affine = training_map(_statistics(design, targets), epochs=epochs, rate=rate, l2=l2)
    expected = _loop(design, targets, weights, epochs, rate, l2)
    np.testing.assert_allclose(weights + affine.change @ weights + affine.constant, expected, rtol=1e-7, atol=1e-9)


def test_a_million_epochs_reach_the_ridge_solution():
    rng = np.random.default_rng(3)
    design, targets = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    affine = training_map(_statistics(design, targets), epochs=1_000_000, rate=1.0, l2=1e-3)
    ridge = np.linalg.solve(design.T @ design / 50 + 1e-3 * np.eye(4), design.T @ targets / 50)
    np.testing.assert_allclose(affine.constant, ridge, rtol=1e-9)
    np.testing.assert_allclose(affine.change, -np.eye(4), atol=1e-9)


def test_two_schedules_compose():
    rng = np.random.default_rng(4)
    statistics = _statistics(rng.normal(size=(50, 4)), rng.normal(size=(50, 2)))
    one, two = (training_map(statistics, epochs=e, rate=0.7, l2=0.1) for e in (5, 10))
    a = np.eye(4) + one.change
    np.testing.assert_allclose(np.eye(4) + two.change, a @ a, atol=1e-12)
    np.testing.assert_allclose(two.constant, a @ one.constant + one.constant, atol=1e-12)


def test_directions_without_data_stay_where_they_are():
    design = np.array([[1.0, 0.0], [2.0, 0.0]])
    affine = training_map(_statistics(design, np.ones((2, 1))), epochs=50, rate=1.0, l2=0.0)
    np.testing.assert_array_equal(affine.change[1], [0, 0])
    np.testing.assert_array_equal(affine.constant[1], [0])


def test_a_direction_whose_square_vanishes_is_learnt_in_proportion_to_the_steps():
    """The curvature of 1e-160 is below float64's least normal number, but the gradient is not."""
    design, targets = np.array([[1.0, 0.0], [0.0, 1e-160]]), np.ones((2, 1))
    affine = training_map(_statistics(design, targets), epochs=50, rate=0.5, l2=0.0)
    # H = diag(1/2, 0) and C = (1/2, 1e-160 / 2): each step is 0.5 / (1/2) times C along the second.
    np.testing.assert_allclose(affine.constant[:, 0], [1 - 0.5**50, 50 * 1e-160 / 2], rtol=1e-12)
    np.testing.assert_allclose(affine.constant, _loop(design, targets, np.zeros((2, 1)), 50, 0.5, 0.0), rtol=1e-12)


def test_the_change_is_a_symmetric_contraction():
    rng = np.random.default_rng(5)
    for scale in (1e-6, 1.0, 1e6):
        design = rng.normal(size=(20, 30)) * scale
        change = training_map(_statistics(design, np.ones((20, 1))), epochs=7, rate=1.0, l2=0.0).change
        eigenvalues = np.linalg.eigvalsh(change)
        np.testing.assert_array_equal(change, change.T)
        assert eigenvalues.min() >= -1 - 1e-12
        assert eigenvalues.max() <= 1e-12


def test_batches_add_up_to_the_whole():
    rng = np.random.default_rng(6)
    design, targets = rng.normal(size=(100, 4)), rng.normal(size=(100, 2))
    parts = Statistics.empty(4, 2)
    for start in range(0, 100, 33):
        assert parts.add_batch(design[start : start + 33], targets[start : start + 33]) is parts
    whole = _statistics(design, targets)
    assert parts.records == whole.records == 100
    np.testing.assert_allclose(parts.gram, whole.gram, rtol=1e-12)
    np.testing.assert_allclose(parts.moment, whole.moment, rtol=1e-9)


def test_single_precision_batches_are_summed_in_double_precision():
    design = np.full((10, 1), 1 + 2**-20, dtype=np.float32)
    assert Statistics.empty(1, 1).add_batch(design, design).gram[0, 0] == 10 * (1 + 2**-20) ** 2


def test_private_statistics_and_maps_do_not_show_in_a_repr():
    statistics = _statistics(np.full((2, 1), 1.25), np.ones((2, 1)))
    assert repr(statistics) == "Statistics(records=2)"
    assert repr(training_map(statistics, epochs=1, rate=1.0, l2=0.0)) == "AffineMap()"


@pytest.mark.parametrize(
    ("design", "targets"),
    [(np.ones((3, 5)), np.ones((3, 2))), (np.ones((3, 4)), np.ones((2, 2))), (np.ones(4), np.ones((4, 2)))],
)
def test_batches_of_the_wrong_shape_are_refused(design, targets):
    with pytest.raises(TrainingError, match="the statistics need"):
        Statistics.empty(4, 2).add_batch(design, targets)


def test_values_that_are_not_finite_are_refused_and_leave_nothing_behind():
    statistics = Statistics.empty(1, 1)
    with pytest.raises(TrainingError, match="not finite"):
        statistics.add_batch(np.array([[np.nan]]), np.ones((1, 1)))
    assert statistics.records == 0
    assert statistics.gram[0, 0] == 0


@pytest.mark.parametrize(
    "schedule",
    [
        {"epochs": 0, "rate": 1.0, "l2": 0.0},
        {"epochs": 1, "rate": 0.0, "l2": 0.0},
        {"epochs": 1, "rate": 1.1, "l2": 0.0},
        {"epochs": 1, "rate": float("nan"), "l2": 0.0},
        {"epochs": 1, "rate": 1.0, "l2": -1.0},
        {"epochs": 1, "rate": 1.0, "l2": float("inf")},
    ],
)
def test_a_schedule_outside_its_ranges_is_refused(schedule):
    with pytest.raises(TrainingError, match="need epochs"):
        training_map(_statistics(np.ones((2, 1)), np.ones((2, 1))), **schedule)


def test_no_records_and_empty_records_are_refused():
    with pytest.raises(TrainingError, match="no records"):
        training_map(Statistics.empty(2, 1), epochs=1, rate=1.0, l2=0.1)
    with pytest.raises(TrainingError, match="every feature is zero"):
        training_map(_statistics(np.zeros((3, 2)), np.ones((3, 1))), epochs=1, rate=1.0, l2=0.0)


def test_statistics_beyond_float64_are_refused():
    with pytest.raises(TrainingError, match="overflow float64: scale the features"):
        _statistics(np.full((3, 2), 1e200), np.ones((3, 1)))
    statistics = _statistics(np.full((1, 2), 1e154), np.ones((1, 1)))
    for _ in range(2):
        statistics.add_batch(np.full((1, 2), 1e154), np.ones((1, 1)))
    with pytest.raises(TrainingError, match="overflow float64: scale the features"):
        training_map(statistics, epochs=1, rate=1.0, l2=0.0)


def _statistics(design, targets) -> Statistics:
    return Statistics.empty(design.shape[1], targets.shape[1]).add_batch(design, targets)


def _loop(design, targets, weights, epochs, rate, l2):
    hessian = design.T @ design / len(design) + l2 * np.eye(design.shape[1])
    step = rate / np.linalg.eigvalsh(hessian)[-1]
    for _ in range(epochs):
        gradient = design.T @ (design @ weights - targets) / len(design) + l2 * weights
        weights = weights - step * gradient
    return weights
