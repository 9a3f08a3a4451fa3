"""Schedules in closed form against the plain loops that they stand for."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.syft import Epoch, Schedule, Statistics, TrainingError

SCHEDULES = st.fixed_dictionaries({
    "epochs": st.integers(1, 40),
    "rate": st.floats(0.05, 1.0),
    "l2": st.sampled_from([0.0, 1e-6, 1e-3, 0.5]),
    "loss": st.sampled_from(["ridge", "taylor-logistic"]),
    "batch_size": st.none() | st.integers(1, 40),
    "class_weights": st.none() | st.tuples(*[st.floats(0.1, 10)] * 4),
})  # fmt: skip


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    features=st.integers(1, 12),
    places=st.lists(st.integers(0, 60), max_size=5),
    values=SCHEDULES,
)
def test_a_schedule_is_the_loop_over_its_batches(seed, count, features, places, values, records, cut):
    schedule = Schedule(**values)
    design, targets = records(seed, count, features)
    weights = np.random.default_rng(seed).normal(size=(features + 1, 4))
    gathered = schedule.gather(cut(design, targets, places), features + 1, 4)
    affine = schedule.training_map(gathered)
    assert gathered.records == count
    np.testing.assert_allclose(
        weights + affine.change @ weights + affine.constant, loop(design, targets, weights, schedule),
        rtol=1e-7, atol=1e-9,
    )  # fmt: skip
    assert np.linalg.norm(affine.change, 2) <= (1 if schedule.batch_size is None else 2) + 1e-9


def loop(design, targets, weights, schedule):
    """Gradient descent as the documentation says it, batch by batch, on the Taylor polynomial or the square."""
    each = np.ones(len(design))
    if schedule.class_weights is not None:
        each = targets @ np.array(schedule.class_weights)
    size = schedule.batch_size or len(design)
    # As many whole batches as there are; the last one takes what remains.
    edges = [size * batch for batch in range(max(1, len(design) // size))] + [len(design)]
    for _ in range(schedule.epochs):
        for start, stop in pairwise(edges):
            x, y, v = (values[start:stop] for values in (design, targets, each))
            logits = x @ weights
            error = logits - y if schedule.loss == "ridge" else 1 / 2 + logits / 4 - y
            curvature = 1 if schedule.loss == "ridge" else 1 / 4
            hessian = curvature * (x.T * v) @ x / v.sum() + schedule.l2 * np.eye(x.shape[1])
            gradient = (x.T * v) @ error / v.sum() + schedule.l2 * weights
            weights = weights - schedule.rate / np.linalg.eigvalsh(hessian)[-1] * gradient
    return weights


@pytest.mark.parametrize("features", [2, 10, 40], ids=["by sums", "by more records than features", "by records"])
@pytest.mark.parametrize("remainder", [1, 2, 7])
def test_what_remains_joins_the_batch_before_it(features, remainder, records):
    design, targets = records(3, 24 + remainder, features)
    mini, full = Schedule(epochs=1, rate=1.0, l2=1e-3, batch_size=8), Schedule(epochs=1, rate=1.0, l2=1e-3)
    found = mini.training_map(mini.gather([(design, targets)], features + 1, 4)).constant
    weights = np.zeros((features + 1, 4))
    for batch in (slice(0, 8), slice(8, 16), slice(16, None)):
        step = full.training_map(full.gather([(design[batch], targets[batch])], features + 1, 4))
        weights = weights + step.change @ weights + step.constant
    np.testing.assert_allclose(found, weights, atol=1e-12)


@pytest.mark.parametrize("features", [2, 40], ids=["by sums", "by records"])
@pytest.mark.parametrize("remainder", range(8))
def test_the_capsule_cannot_solve_for_the_last_record(features, remainder, records):
    """The last step of rate 1 on one record x of label y would leave x'W = y, whatever the start."""
    design, targets = records(5, 64 + remainder, features)
    schedule = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=8)
    affine = schedule.training_map(schedule.gather([(design, targets)], features + 1, 4))
    assert np.abs(design[-1] @ affine.constant - targets[-1]).max() > 0.01


@pytest.mark.parametrize("features", [2, 40], ids=["by sums", "by records"])
@pytest.mark.parametrize("count", [1, 5])
def test_fewer_records_than_a_batch_are_one_batch(features, count, records):
    design, targets = records(6, count, features)
    full, mini = Schedule(epochs=3, rate=1.0, l2=0.1), Schedule(epochs=3, rate=1.0, l2=0.1, batch_size=8)
    one, other = (s.training_map(s.gather([(design, targets)], features + 1, 4)) for s in (full, mini))
    np.testing.assert_allclose(other.change, one.change, atol=1e-12)
    np.testing.assert_allclose(other.constant, one.constant, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 30), places=st.lists(st.integers(0, 60), max_size=9))
def test_records_are_cut_into_the_same_batches_however_they_arrive(seed, batch_size, places, records, cut):
    schedule = Schedule(epochs=1, rate=0.7, l2=1e-3, batch_size=batch_size)
    design, targets = records(seed, 60, 20)
    whole = schedule.gather([(design, targets)], 21, 4)
    parts = schedule.gather(cut(design, targets, places), 21, 4)
    np.testing.assert_allclose(parts.augmented, whole.augmented, rtol=0, atol=1e-12)


def test_a_batch_that_holds_all_records_is_the_full_batch(records):
    design, targets = records(1, 50)
    full = Schedule(epochs=30, rate=0.9, l2=1e-2)
    mini = Schedule(epochs=30, rate=0.9, l2=1e-2, batch_size=50)
    one, other = (schedule.training_map(schedule.gather([(design, targets)], 4, 4)) for schedule in (full, mini))
    np.testing.assert_allclose(other.change, one.change, atol=1e-12)
    np.testing.assert_allclose(other.constant, one.constant, atol=1e-12)


def test_a_million_epochs_of_mini_batches_reach_a_fixed_point(records):
    design, targets = records(2, 40)
    schedule = Schedule(epochs=10**6, rate=1.0, l2=1e-3, batch_size=8)
    affine = schedule.training_map(schedule.gather([(design, targets)], 4, 4))
    np.testing.assert_allclose(affine.change, -np.eye(4), atol=1e-9)
    after = loop(design, targets, affine.constant, Schedule(epochs=1, rate=1.0, l2=1e-3, batch_size=8))
    np.testing.assert_allclose(after, affine.constant, atol=1e-9)


def test_directions_without_data_stay_where_they_are_for_a_million_epochs():
    rng = np.random.default_rng(3)
    design = np.hstack([rng.normal(size=(40, 2)), np.zeros((40, 3)), np.ones((40, 1))])
    schedule = Schedule(epochs=10**6, rate=0.5, l2=0.0, batch_size=2)
    affine = schedule.training_map(schedule.gather([(design, np.ones((40, 1)))], 6, 1))
    np.testing.assert_array_equal(affine.change[2:5], 0)
    np.testing.assert_array_equal(affine.constant[2:5], 0)


def test_the_taylor_logistic_loss_is_the_logistic_loss_for_small_weights(records):
    design, targets = records(4, 200)
    schedule = Schedule(epochs=1, rate=1e-3, l2=0.0, loss="taylor-logistic")
    step = schedule.training_map(schedule.gather([(design, targets)], 4, 4)).constant
    gradient = design.T @ (1 / (1 + np.exp(-(design @ np.zeros((4, 4))))) - targets) / 200
    largest = np.linalg.eigvalsh(design.T @ design / 800)[-1]
    np.testing.assert_allclose(step, -1e-3 / largest * gradient, rtol=1e-9)


def test_a_class_weight_counts_records_as_if_they_were_there_more_often(records):
    design, targets = records(5, 30)
    often = np.repeat(np.arange(30), 1 + 2 * targets[:, 1].astype(int))
    plain = Schedule(epochs=9, rate=1.0, l2=1e-3)
    weighted = Schedule(epochs=9, rate=1.0, l2=1e-3, class_weights=(0.5, 1.5, 0.5, 0.5))
    one = plain.training_map(plain.gather([(design[often], targets[often])], 4, 4))
    other = weighted.training_map(weighted.gather([(design, targets)], 4, 4))
    np.testing.assert_allclose(other.change, one.change, atol=1e-12)
    np.testing.assert_allclose(other.constant, one.constant, atol=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    batch_size=st.none() | st.integers(1, 20),
    features=st.sampled_from([2, 40]),
    weights=st.tuples(*[st.floats(0.1, 10)] * 4),
)
def test_records_count_as_their_class_weights_leave_of_them(seed, count, batch_size, features, weights, records):
    design, targets = records(seed, count, features)
    schedule = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=batch_size, class_weights=weights)
    found = schedule.gather([(design, targets)], features + 1, 4)
    each, size = targets @ np.array(weights), batch_size or count
    batches = np.split(each, range(size, count - size + 1, size))
    assert found.effective_records == pytest.approx(each.sum() ** 2 / (each**2).sum())
    assert found.effective_batch == pytest.approx(min(v.sum() ** 2 / (v**2).sum() for v in batches))
    plain = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=batch_size).gather([(design, targets)], features + 1, 4)
    assert plain.effective_records == pytest.approx(count)
    assert plain.effective_batch == pytest.approx(min(len(v) for v in batches))


@pytest.mark.parametrize("weight", [0.001, 1 / 3, 7.7, 1000.0])
def test_records_of_equal_class_weights_count_no_less_than_there_are(weight, records):
    found = Statistics.of([records(10, 999)], 4, 4, class_weights=(weight,) * 4)
    assert 999 <= found.effective_records < 999.001
    assert Statistics.empty(4, 4).effective_records == 0


def test_one_pass_serves_every_full_batch_schedule_and_every_number_of_epochs():
    values = {"epochs": 5, "rate": 0.5, "l2": 0.1}
    full, mini = Schedule(**values), Schedule(**values, batch_size=8)
    for change in ({"epochs": 9}, {"rate": 1.0}, {"l2": 0.0}, {"loss": "taylor-logistic"}):
        assert Schedule(**{**values, **change}).pass_key == full.pass_key
        same = Schedule(**{**values, **change}, batch_size=8).pass_key == mini.pass_key
        assert same == ("epochs" in change)
    weighted = {"class_weights": (1.0, 2.0)}
    keys = {full.pass_key, mini.pass_key, Schedule(**values, batch_size=9).pass_key,
            Schedule(**values, **weighted).pass_key, Schedule(**values, **weighted, batch_size=8).pass_key}  # fmt: skip
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs 0, rate 1.0, l2 0.1: need"),
        ({"rate": 2.0}, "epochs 1, rate 2.0, l2 0.1: need"),
        ({"l2": float("nan")}, "l2 nan: need"),
        ({"loss": "hinge"}, "the loss 'hinge' is not known: choose one of ridge, taylor-logistic"),
        ({"batch_size": 0}, "a batch size of 0 takes no record"),
        ({"class_weights": (1.0, -1.0)}, "a class weight is -1.0"),
        ({"class_weights": (0.5, 1.0, 51.0)}, "the class weight 51 is above 100 times the class weight 0.5, so that"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(change, says):
    with pytest.raises(TrainingError, match=says):
        Schedule(**{"epochs": 1, "rate": 1.0, "l2": 0.1, **change})


@pytest.mark.parametrize("batch_size", [None, 1, 2, 100])
def test_bad_records_are_refused_by_every_schedule(batch_size, records):
    schedule = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=batch_size)

    def train(design, targets):
        return schedule.training_map(schedule.gather([(design, targets)], 4, 4))

    design, targets = records(6, 10)
    with pytest.raises(TrainingError, match="there are no records to train on"):
        train(design[:0], targets[:0])
    with pytest.raises(TrainingError, match="every feature is zero in every record"):
        train(0 * design, targets)
    with pytest.raises(TrainingError, match="the statistics need"):
        train(design[:, 1:], targets)
    with pytest.raises(TrainingError, match="scale the features"):
        train(design * 1e200, targets)
    design[3, 1] = np.nan
    with pytest.raises(TrainingError, match="features that are not finite"):
        train(design, targets)
    design[3, 1], targets[3, 1] = 0, np.inf
    with pytest.raises(TrainingError, match="targets that are not finite"):
        train(design, targets)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 100])
def test_a_logistic_schedule_needs_the_bias_column(batch_size, records):
    schedule = Schedule(epochs=1, rate=1.0, l2=0.0, loss="taylor-logistic", batch_size=batch_size)
    design, targets = records(7, 10)
    with pytest.raises(TrainingError, match="a constant 1"):
        schedule.training_map(schedule.gather([(design[:, ::-1].copy(), targets)], 4, 4))


def test_a_batch_of_zeros_among_others_changes_nothing(records):
    design, targets = records(8, 12)
    zeros = np.zeros((4, 4)), targets[:4]
    schedule = Schedule(epochs=3, rate=1.0, l2=0.0, batch_size=4)
    with_zeros = schedule.gather([(design[:8], targets[:8]), zeros, (design[8:], targets[8:])], 4, 4)
    np.testing.assert_array_equal(with_zeros.augmented, schedule.gather([(design, targets)], 4, 4).augmented)


def test_what_another_kind_of_schedule_gathered_is_refused(records):
    full = Schedule(epochs=1, rate=1.0, l2=0.0)
    mini = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=5)
    weighted = Schedule(epochs=1, rate=1.0, l2=0.0, class_weights=(1.0, 1.0, 1.0, 2.0))
    batch = records(9, 20)
    with pytest.raises(TrainingError, match="batch size 5 cannot use Statistics"):
        mini.training_map(full.gather([batch], 4, 4))
    with pytest.raises(TrainingError, match="batch size None cannot use an Epoch"):
        full.training_map(mini.gather([batch], 4, 4))
    with pytest.raises(TrainingError, match="the statistics have class weights None"):
        weighted.training_map(full.gather([batch], 4, 4))


def test_a_map_that_expands_is_refused_before_it_is_encoded():
    with pytest.raises(TrainingError, match=r"changes weights by up to 3 times their size"):
        Epoch(np.hstack([3 * np.eye(2), np.zeros((2, 1))]), 1, 1.0, 1.0).training_map(1)
    with pytest.raises(TrainingError, match="not finite"):
        Epoch(np.hstack([3 * np.eye(2), np.zeros((2, 1))]), 1, 1.0, 1.0).training_map(10**6)


def test_what_was_gathered_does_not_show_in_a_repr(records):
    mini = Schedule(epochs=1, rate=1.0, l2=0.0, batch_size=5)
    assert repr(mini.gather([records(1, 7)], 4, 4)) == "Epoch(records=7)"
    weighted = Statistics.of([records(1, 7)], 4, 4, class_weights=(1.0, 2.0, 3.0, 4.0))
    assert repr(weighted) == "Statistics(records=7)"
