"""Small matrices take one BLAS thread, large ones what there is, and afterwards all is as before."""

import numpy as np
from threadpoolctl import threadpool_info

from sonar.syft import Schedule
from sonar.syft._blas import small_matrices


def _threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_only_small_matrices_are_kept_to_one_thread():
    before = _threads()
    assert before
    with small_matrices(785):
        assert _threads() == [1] * len(before)
    assert _threads() == before
    with small_matrices(1024):
        assert _threads() == before


def test_records_are_gathered_with_one_thread_for_few_features():
    seen = []

    def batches():
        seen.append(_threads())
        yield np.ones((30, 2)), np.ones((30, 1))

    Schedule(epochs=2, rate=1.0, l2=0.1).gather(batches(), 2, 1)
    Schedule(epochs=2, rate=1.0, l2=0.1, batch_size=20).gather(batches(), 2, 1)
    assert all(set(threads) == {1} for threads in seen)
    assert len(seen) == 2
