"""Windows of local time: days, midnight, and what is no window."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mine.policy.hours import Window, next_opening, within

MONDAY = datetime(2026, 11, 2)


def at(day, text):
    hour, minute = text.split(":")
    return MONDAY + timedelta(days=day, hours=int(hour), minutes=int(minute))


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ([], [(0, "00:00"), (6, "23:59")], []),
        (["09:00-17:30"], [(0, "09:00"), (3, "17:29")], [(0, "08:59"), (0, "17:30")]),
        (["22:00-06:00"], [(0, "22:00"), (0, "05:59"), (6, "23:59")], [(0, "06:00"), (4, "21:59")]),
        (["sat,sun 00:00-24:00"], [(5, "00:00"), (6, "23:59")], [(4, "23:59"), (0, "00:00")]),
        (["fri 22:00-06:00"], [(4, "22:00"), (5, "05:59")], [(4, "05:00"), (5, "22:00"), (6, "03:00")]),
        (["sun 23:00-01:00"], [(6, "23:30"), (0, "00:59")], [(0, "23:30"), (1, "00:30")]),
        (["Mon-Fri 12:00-13:00"], [(0, "12:30"), (4, "12:30")], [(5, "12:30")]),
        (["sat-mon 12:00-13:00"], [(5, "12:30"), (0, "12:30")], [(1, "12:30"), (4, "12:30")]),
        (["01:00-02:00", "03:00-04:00"], [(0, "01:30"), (0, "03:30")], [(0, "02:30")]),
    ],
)
def test_a_moment_is_within_hours_or_not(hours, inside, outside):
    assert all(within(hours, at(*moment)) for moment in inside)
    assert not any(within(hours, at(*moment)) for moment in outside)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10-12", "write them like"),
        ("", "write them like"),
        ("10:00-25:00", "25:00 is no time of day"),
        ("10:61-12:00", "10:61 is no time of day"),
        ("10:00-10:00", "never begins or never ends"),
        ("24:00-06:00", "never begins"),
        ("mo 10:00-12:00", "'mo' is no day: write mon, tue"),
        ("mon- 10:00-12:00", "'mon-' is no day"),
        ("mon,,tue 10:00-12:00", "is no day"),
    ],
)
def test_what_is_no_window_is_told_how_to_write_one(text, says):
    with pytest.raises(ValueError, match=says):
        Window.parse(text)


@given(
    days=st.lists(st.sampled_from(["mon", "wed", "sun", "fri-sun"]), min_size=1, max_size=2),
    start=st.integers(0, 1439), length=st.integers(1, 1439), moment=st.integers(0, 7 * 1440 - 1),
)  # fmt: skip
def test_the_next_opening_is_the_first_minute_of_the_week_to_come_that_is_within(days, start, length, moment):
    end = (start + length) % 1440
    hours = [f"{','.join(days)} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"]
    now = MONDAY + timedelta(minutes=moment)
    if within(hours, now):
        return
    slow = next(now + timedelta(minutes=n) for n in range(1, 8 * 1440) if within(hours, now + timedelta(minutes=n)))
    assert next_opening(hours, now) == slow
