"""Amounts as people read them: rounded, and never to more than there is."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.units import ether, format_ether, round_ether


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0"),
        (1, "0.000000000000000001"),
        (915_223_913_043_478_260, "0.915223"),
        (999_999_999_999_999_999, "0.999999"),
        (10**18, "1"),
        (1_234_567_891_234_567_891, "1.234567"),
        (20 * 10**18, "20"),
        (123_456_789, "0.000000000123456"),
    ],
)
def test_ether_for_people_has_six_digits_that_count(wei, text):
    assert round_ether(wei) == text


@given(st.integers(0, 2**128))
def test_rounded_ether_is_never_more_and_lacks_less_than_a_hundred_thousandth(wei):
    shown = Decimal(round_ether(wei))
    assert ether(shown) <= wei
    assert wei - ether(shown) <= wei / 100_000
    assert round_ether(ether(shown)) == round_ether(wei)
    assert len(round_ether(wei)) <= len(format_ether(wei))
