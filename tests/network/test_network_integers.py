"""Integers of a gradient on their way out of a judge process: as bytes of one width, whatever width that is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.sandbox.integers import pack_integers, packed_size, unpack_integers
from sonar.sandbox.errors import FrameError


@given(st.integers(1, 80), st.integers(1, 4), st.data())
def test_integers_survive_packing_at_every_width(bits, rows, data):
    bound = (1 << bits) - 1
    drawn = data.draw(st.lists(st.integers(-bound, bound), min_size=3 * rows, max_size=3 * rows))
    values = np.array([*drawn, None], dtype=object)[:-1].reshape(rows, 3)
    packed = pack_integers(values, bound)
    assert len(packed) == packed_size((rows, 3), bound)
    assert packed == b"".join(value.to_bytes(bits // 8 + 1, "little", signed=True) for value in drawn)
    assert (unpack_integers(packed, (rows, 3), bound) == values).all()


@pytest.mark.parametrize("bits", [17, 54, 70])
def test_an_integer_above_the_bound_is_neither_written_nor_read(bits):
    bound = (1 << bits) - 2
    for wrong in (bound + 1, -bound - 1, 1 << 90):
        with pytest.raises(FrameError, match="above the bound"):
            pack_integers(np.array([[0, wrong]], dtype=object), bound)
    packed = (bound + 1).to_bytes(bits // 8 + 1, "little", signed=True)
    with pytest.raises(FrameError, match="above the bound"):
        unpack_integers(packed, (1, 1), bound)
    with pytest.raises(FrameError, match="are not integers"):
        unpack_integers(packed, (1, 2), bound)
