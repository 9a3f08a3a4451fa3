"""Sums over streams of records: one pass gives what all records at once would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.syft import Statistics, TrainingError
from sonar.syft.statistics import CHUNK


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 50),
    places=st.lists(st.integers(0, 50), max_size=6),
    weights=st.none() | st.tuples(*[st.floats(0.1, 10)] * 4),
)
def test_a_stream_in_any_batches_gives_the_sums_of_all_records(seed, count, places, weights, records, cut):
    design, targets = records(seed, count)
    found = Statistics.of(iter(cut(design, targets, places)), 4, 4, class_weights=weights)
    each = np.ones(count) if weights is None else targets @ np.array(weights)
    np.testing.assert_allclose(found.gram, (design.T * each) @ design, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.moment, (design.T * each) @ targets, rtol=1e-12, atol=1e-12)
    assert found.records == count
    assert found.weight == pytest.approx(each.sum())
    assert found.squares == pytest.approx((each**2).sum())


def test_one_large_batch_is_cut_into_chunks_and_never_converted_as_a_whole(records):
    design, targets = records(1, 2 * CHUNK + 17)
    narrow = design.astype(np.float32)
    whole = narrow.astype(np.float64)
    found = Statistics.empty(4, 4).add_batch(narrow, targets)
    np.testing.assert_allclose(found.gram, whole.T @ whole, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.moment, whole.T @ targets, rtol=1e-12, atol=1e-9)


def test_progress_is_the_part_of_the_total_and_ends_at_one(records, cut):
    told = []
    design, targets = records(2, 90)
    Statistics.of(cut(design, targets, [30, 60]), 4, 4, total=120, progress=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    Statistics.of([(design, targets)], 4, 4, total=1, progress=told.append)
    assert max(told) == 1.0


def test_progress_may_stop_the_pass(records):
    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Statistics.of([records(3, 5)], 4, 4, total=10, progress=stop)


def test_progress_without_a_total_is_refused(records):
    with pytest.raises(TrainingError, match="a total of None records has no parts to report"):
        Statistics.of([records(3, 5)], 4, 4, progress=lambda _: None)


@pytest.mark.parametrize(("name", "where"), [("features", 0), ("targets", 1)])
def test_the_first_record_that_is_not_finite_is_named(name, where, records):
    batch = records(4, CHUNK + 10)
    batch[where][CHUNK + 6, 1] = np.inf
    with pytest.raises(TrainingError, match=f"has {name} that are not finite, first in its record {CHUNK + 7}: clean"):
        Statistics.empty(4, 4).add_batch(*batch)


@pytest.mark.parametrize("targets", [[[1.0, 1.0]], [[0.0, 0.0]], [[0.5, 0.5]], [[2.0, -1.0]], [[np.nan, 1.0]]])
def test_class_weights_need_one_hot_targets(targets):
    with pytest.raises(TrainingError, match="one-hot"):
        Statistics.empty(1, 2, class_weights=(1.0, 2.0)).add_batch(np.ones((1, 1)), np.array(targets))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ((1.0,), "there are 1 class weights for 2 classes"),
        ((1.0, 0.0), "a class weight is 0.0"),
        ((1.0, float("nan")), "a class weight is nan"),
        ((1.0, float("inf")), "a class weight is inf"),
    ],
)
def test_class_weights_that_are_none_are_refused(weights, says):
    with pytest.raises(TrainingError, match=says):
        Statistics.empty(1, 2, class_weights=weights)
