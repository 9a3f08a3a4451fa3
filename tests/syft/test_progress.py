"""Long operations tell how far they are, and can be stopped."""

import numpy as np
import pytest

from capsule.secret import decrypt
from sonar.syft import AffineMap, Statistics, apply_map, encrypt, product
from sonar.syft.progress import paced, slices, span

ROWS = 600


def test_slices_cover_everything_once_and_tell_what_is_done():
    told: list[float] = []
    parts = list(slices(10, told.append, 4))
    assert [list(range(10))[part] for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert told == [0.4, 0.8, 1.0]
    assert list(slices(10, None, 4)) == [slice(0, 10)]
    assert list(slices(0, told.append)) == []


def test_a_part_of_the_whole_is_told_as_such():
    told: list[float] = []
    part = span(told.append, 0.5, 0.75)
    assert part is not None
    part(0.0)
    part(1.0)
    assert told == [0.5, 0.75]
    assert span(None, 0, 1) is None


def test_encryption_maps_products_and_decryption_tell_their_progress(secret, key, obfuscator):
    values, told = np.ones((ROWS, 2), dtype=np.int64), []
    model = encrypt(values, key, obfuscator, slot_width=72, scale=0, bound=1, stride=2, progress=told.append)
    assert len(told) >= 2
    _rises_to_one(told)
    affine = AffineMap(-np.eye(ROWS) / 2, np.zeros((ROWS, 2)))
    gradient = apply_map(affine, model, map_bits=2, gradient_bound=9, obfuscator=obfuscator, progress=told.append)
    _rises_to_one(told)
    combined = product(model, [gradient], [1], 0, engine=obfuscator.engine, progress=told.append)
    _rises_to_one(told)
    assert decrypt(secret, combined, engine=obfuscator.engine, progress=told.append).tolist() == [[2, 2]] * ROWS
    _rises_to_one(told)


def test_a_log_is_told_now_and_then():
    told: list[float] = []
    times = iter([0.0, 1.0, 5.0, 6.0, 10.0, 20.0])
    progress = paced(told.append, 5.0, lambda: next(times))
    for done in (0.1, 0.2, 0.3, 0.4, 1.0):
        progress(done)
    assert told == [0.2, 0.4]


def test_one_large_batch_of_records_tells_its_progress():
    told: list[float] = []
    design, targets = np.ones((40_000, 2)), np.ones((40_000, 1))
    Statistics.of([(design, targets)], 2, 1, total=40_000, progress=told.append)
    assert len(told) > 2
    _rises_to_one(told)


def test_what_the_caller_raises_ends_the_operation(key, obfuscator):
    def stop(_: float) -> None:
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        encrypt(np.ones((ROWS, 2), dtype=np.int64), key, obfuscator, slot_width=72, scale=0, bound=1, progress=stop)


def _rises_to_one(told: list[float]) -> None:
    assert told == sorted(told)
    assert told[-1] == 1.0
    told.clear()
