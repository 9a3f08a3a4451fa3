"""Packing and fixed point."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.syft import (
    CiphertextError,
    EncodingOverflowError,
    Layout,
    decode,
    encode,
    raw_pack,
    raw_unpack,
    rows_that_fit,
)


@given(st.data())
def test_unpacking_undoes_packing_up_to_the_bounds(data):
    width = data.draw(st.integers(2, 100))
    layout = _layout(data, data.draw(st.integers(width + 2, 600)), width, data.draw(st.integers(1, 20)))
    rows = data.draw(st.integers(1, 9))
    values = _values(data, rows, layout)
    plaintexts = raw_pack(np.array(values, dtype=object), layout)
    assert len(plaintexts) == layout.plaintexts(rows) == -(-rows // layout.rows_per_plaintext) * layout.blocks
    assert all(abs(plaintext) < 1 << (layout.key_bits - 3) for plaintext in plaintexts)
    assert raw_unpack(plaintexts, layout, rows).tolist() == values


@given(st.data())
def test_a_plaintext_is_the_sum_of_its_values_shifted_to_their_slots(data):
    width = data.draw(st.one_of(st.integers(2, 100), st.integers(60, 64)))
    layout = _layout(data, data.draw(st.integers(width + 2, 600)), width, data.draw(st.integers(1, 20)))
    rows = data.draw(st.integers(1, 9))
    values = _values(data, rows, layout)
    expected = [0] * layout.plaintexts(rows)
    for row, line in enumerate(values):
        group, j = divmod(row, layout.rows_per_plaintext)
        for output, value in enumerate(line):
            block, slot = divmod(output * layout.stride + j, layout.slots)
            expected[group * layout.blocks + block] += value << (width * slot)
    assert raw_pack(np.array(values, dtype=object), layout) == expected


@given(st.data())
def test_a_stack_is_the_sum_of_its_rows_shifted(data):
    """On plaintexts, what `weighted_products` does with the terms of `Layout.stacking` on ciphertexts."""
    stride = data.draw(st.integers(1, 40))
    outputs = data.draw(st.integers(1, 4))
    layout = Layout(data.draw(st.integers(stride * outputs * 8 + 2, 2000)), 8, outputs, stride, stride)
    rows = data.draw(st.integers(1, 50))
    values = np.array(_values(data, rows, layout), dtype=object)
    plaintexts = raw_pack(values, replace(layout, rows_per_plaintext=1))
    meaning = {1: 0} | {row + 2: plaintext for row, plaintext in enumerate(plaintexts)}
    factors, exponents = layout.stacking(range(2, rows + 2))
    assert len(factors) == len(exponents) == min(rows, stride)
    assert {len(factor) for factor in factors} == {layout.plaintexts(rows)}
    stacked = [
        sum(meaning[element] * exponent for element, exponent in zip(stack, exponents, strict=True))
        for stack in zip(*factors, strict=True)
    ]
    assert stacked == raw_pack(values, layout)


@given(st.data())
def test_bits_outside_the_used_slots_of_any_stack_are_refused(data):
    # Slots up to 62 bits are unpacked in machine words, wider ones as Python's integers.
    layout = _layout(data, 400, data.draw(st.integers(2, 100)), data.draw(st.integers(1, 3)))
    rows = data.draw(st.integers(1, 9))
    plaintexts = raw_pack(np.array(_values(data, rows, layout), dtype=object), layout)
    index = data.draw(st.integers(0, len(plaintexts) - 1))
    used = min(layout.rows_per_plaintext, rows - index * layout.rows_per_plaintext)
    taken = {k * layout.stride + j for k in range(layout.outputs) for j in range(used)}
    slot = data.draw(st.sampled_from(sorted(set(range(layout.slots + 1)) - taken)))
    # Not the slot's top bit: a digit of -2^(width - 1) there is a carry out of the slot below, or none at all.
    stray = data.draw(st.integers(1, layout.largest)) * data.draw(st.sampled_from([1, -1]))
    plaintexts[index] += stray << (layout.slot_width * slot)
    with pytest.raises(CiphertextError, match=f"plaintext {index} has stray bits"):
        raw_unpack(plaintexts, layout, rows)


def test_signs_at_the_bounds_do_not_reach_the_next_row():
    layout = Layout(128, 16, 2, 3, 3)
    for signs in itertools.product((-1, 1), repeat=6):
        values = (np.array(signs).reshape(3, 2) * layout.largest).tolist()
        assert raw_unpack(raw_pack(np.array(values, dtype=object), layout), layout, 3).tolist() == values


def test_no_more_rows_share_a_plaintext_than_fit():
    assert rows_that_fit(3072, 72, 10) == 4
    assert (rows_that_fit(3072, 72, 1), rows_that_fit(3072, 72, 21), rows_that_fit(3072, 72, 22)) == (42, 2, 1)
    assert rows_that_fit(3072, 72, 100) == 1, "a row of several plaintexts"
    assert (Layout(3072, 72, 10, 4, 4).plaintexts(65), Layout(3072, 72, 10, 4).plaintexts(65)) == (17, 65)
    for outputs, rows in ((10, 5), (10, 0), (10, -1), (22, 2), (100, 2)):
        with pytest.raises(EncodingOverflowError, match=f"{rows} rows of {outputs} slots cannot share a plaintext"):
            Layout(3072, 72, outputs, rows, rows)
    for rows in (0, 2, 3, 5, 8):
        with pytest.raises(EncodingOverflowError, match="do not fill a stride of 4: stack 1 or 4"):
            Layout(3072, 72, 10, 4, rows)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_plaintexts_is_refused(count):
    with pytest.raises(CiphertextError, match=f"5 rows are in 2 plaintexts, not in {count}"):
        raw_unpack([0] * count, Layout(128, 16, 2, 3, 3), 5)


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
        raw_unpack([plaintexts[0], plaintexts[1] + stray], layout, 2)


def test_bits_in_an_unused_slot_of_the_last_block_are_refused():
    layout = Layout(50, 16, 4)
    plaintexts = raw_pack(np.array([[1, 2, 3, 4]]), layout)
    assert len(plaintexts) == 2
    with pytest.raises(CiphertextError, match="plaintext 1"):
        raw_unpack([plaintexts[0], plaintexts[1] + (1 << 16)], layout, 1)


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


def _layout(data: st.DataObject, key_bits: int, width: int, outputs: int) -> Layout:
    stride = data.draw(st.integers(1, rows_that_fit(key_bits, width, outputs)))
    return Layout(key_bits, width, outputs, stride, data.draw(st.sampled_from([1, stride])))


def _values(data: st.DataObject, rows: int, layout: Layout) -> list[list[int]]:
    bound = layout.largest
    value = st.one_of(st.sampled_from([-bound, 0, bound]), st.integers(-bound, bound))
    return [[data.draw(value) for _ in range(layout.outputs)] for _ in range(rows)]
