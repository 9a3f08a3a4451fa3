"""When a mine may work: windows of local time such as "22:00-06:00" or "sat,sun 00:00-24:00"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Self

__all__ = ["Window", "next_opening", "within"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK: Final = len(_DAYS)
_FORM: Final = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)")
_MINUTES: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, minutes after midnight, on the days on which it begins; past midnight if it must.

    `end` is above `start`, so up to a day later, and `days` are counted from Monday, 0.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The window that somebody wrote; raises ValueError that says how to write one."""
        found = _FORM.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f'{text!r:.60} are no hours: write them like "22:00-06:00" or "sat,sun 00:00-24:00"')
        start, end = _minutes(found["start"]), _minutes(found["end"])
        if start in (end, _MINUTES):
            raise ValueError(f'{text!r:.60} never begins or never ends: for the whole day write "00:00-24:00"')
        return cls(_days(found["days"]), start, end if end > start else end + _MINUTES)

    def holds(self, moment: datetime) -> bool:
        """Whether a local time lies in it."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment.weekday() - 1) % _WEEK
        return (today in self.days and self.start <= minute < self.end) or (
            yesterday in self.days and minute + _MINUTES < self.end
        )


def within(hours: Sequence[str], moment: datetime) -> bool:
    """Whether a local time lies in any of these windows; none at all: always."""
    return not hours or any(Window.parse(text).holds(moment) for text in hours)


def next_opening(hours: Sequence[str], moment: datetime) -> datetime:
    """When the first of these windows opens after a local time at which none is open."""
    found = []
    for window in (Window.parse(text) for text in hours):
        for ahead in range(_WEEK + 1):
            day = moment.date() + timedelta(days=ahead)
            opens = datetime.combine(day, time(*divmod(window.start, 60)), moment.tzinfo)
            if day.weekday() in window.days and opens > moment:
                found.append(opens)
                break
    return min(found)


def _minutes(text: str) -> int:
    hour, minute = (int(part) for part in text.split(":"))
    if minute > 59 or hour * 60 + minute > _MINUTES:
        raise ValueError(f"{text} is no time of day: write it from 00:00 to 24:00")
    return hour * 60 + minute


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(_WEEK))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            start, end = _DAYS.index(first), _DAYS.index(last if dash else first)
        except ValueError as error:
            raise ValueError(f"{part!r:.60} is no day: write {', '.join(_DAYS)}, or mon-fri") from error
        days |= {at % _WEEK for at in range(start, end + 1 if end >= start else end + 1 + _WEEK)}
    return frozenset(days)
