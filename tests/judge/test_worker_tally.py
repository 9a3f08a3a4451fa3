"""The worker's counters, read by threads that do not wait for each other."""

import threading

import pytest

from capsule.worker.tally import Counter, Gauge, Seconds, Tally


def test_a_counter_loses_nothing_among_threads_and_never_falls() -> None:
    counter = Counter()
    threads = [threading.Thread(target=lambda: [counter.add() for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 20_000
    with pytest.raises(ValueError, match="fall"):
        counter.add(-1)


def test_durations_are_counted_in_every_bucket_that_holds_them() -> None:
    seconds = Seconds((1.0, 2.0))
    for duration in (0.5, 1.0, 1.5, 9.0):
        seconds.observe(duration)
    found = seconds.read()
    assert found.cumulative == ((1.0, 2), (2.0, 3))
    assert (found.count, found.total) == (4, 12.0)


def test_tallies_do_not_share_their_numbers() -> None:
    first, second = Tally(), Tally()
    first.reorganisations.add()
    first.queue_depth.value = 3
    assert (second.reorganisations.value, second.queue_depth.value, Gauge().value) == (0, 0, 0)
