"""Packing and fixed point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.syft import CiphertextError, EncodingOverflowError, Layout, decode, encode, raw_pack, raw_unpack


@given(st.data())
def test_unpacking_undoes_packing_up_to_the_bounds(data):
    width = data.draw(st.integers(2, 100))
    layout = Layout(data.draw(st.integers(width + 2, 600)), width, data.draw(st.integers(1, 20)))
    rows = data.draw(st.integers(1, 4))
    value = st.one_of(
        st.sampled_from([-layout.largest, 0, layout.largest]), st.integers(-layout.largest, layout.largest)
    )
    values = [[data.draw(value) for _ in range(layout.outputs)] for _ in range(rows)]
    plaintexts = raw_pack(np.array(values, dtype=object), layout)
    assert len(plaintexts) == rows * layout.blocks
    assert all(abs(plaintext) < 1 << (layout.key_bits - 3) for plaintext in plaintexts)
    assert raw_unpack(plaintexts, layout).tolist() == values


def test_digits_at_3072_bits_take_one_plaintext_a_row():
    layout = Layout(3072, 72, 10)
    assert (layout.slots, layout.blocks) == (42, 1)
    assert Layout(3072, 72, 100).blocks == 3


def test_a_value_beyond_its_slot_is_refused():
    layout = Layout(128, 16, 2)
    for value in (1 << 15, -(1 << 15)):
        with pytest.raises(EncodingOverflowError, match="does not fit a slot of 16 bits"):
            raw_pack(np.array([[0, value]]), layout)


def test_floats_are_not_packed():
    with pytest.raises(TypeError, match="encode it first"):
        raw_pack(np.array([[0.5]]), Layout(128, 16, 1))


def test_a_slot_wider_than_the_key_is_refused():
    with pytest.raises(EncodingOverflowError, match="do not fit a key of 64 bits"):
        Layout(64, 63, 1)


@pytest.mark.parametrize("stray", [1 << 32, -(1 << 32), 1 << 100, 1 << 31])
def test_bits_outside_the_used_slots_are_refused(stray):
    layout = Layout(128, 16, 2)
    plaintexts = raw_pack(np.array([[1, -1], [2, 3]]), layout)
    with pytest.raises(CiphertextError, match="plaintext 1 has stray bits"):
        raw_unpack([plaintexts[0], plaintexts[1] + stray], layout)


def test_bits_in_an_unused_slot_of_the_last_block_are_refused():
    layout = Layout(50, 16, 4)
    plaintexts = raw_pack(np.array([[1, 2, 3, 4]]), layout)
    assert len(plaintexts) == 2
    with pytest.raises(CiphertextError, match="plaintext 1"):
        raw_unpack([plaintexts[0], plaintexts[1] + (1 << 16)], layout)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.integers(0, 60))
def test_decoding_undoes_encoding_to_half_a_unit(numbers, bits):
    values = encode(np.array([numbers]), bits, 1 << 100)
    error = np.abs(decode(values, bits) - np.array([numbers]))
    assert (error <= np.maximum(2.0 ** -(bits + 1), np.spacing(np.abs([numbers])))).all()


@given(st.floats(-1e3, 1e3), st.integers(0, 40))
def test_encoding_rounds_half_to_even_as_python_does(number, bits):
    assert encode(np.array([[number]]), bits, 1 << 90)[0, 0] == round(number * 2**bits)


def test_small_bounds_give_int64_and_large_ones_python_integers():
    assert encode(np.ones((1, 1)), 24, (1 << 30) - 1).dtype == np.int64
    assert encode(np.ones((1, 1)), 80, 1 << 80).tolist() == [[1 << 80]]


@pytest.mark.parametrize("number", [65.0, -65.0, 1e30, 1e300])
def test_a_number_above_the_bound_is_refused(number):
    with pytest.raises(EncodingOverflowError, match=r"above the bound|not finite"):
        encode(np.array([[0.0, number]]), 24, 1 << 30)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(EncodingOverflowError, match="not finite"):
        encode(np.array([[number]]), 24, 1 << 30)
