"""Denied requests in the audit log, bounded: what somebody asks in vain, again and again, must not fill the disk.

The first denial of an account, action and code is an entry; its repetitions within an hour are counted and make one
more entry when the hour is over. Accounts are free, so there is a most of such entries an hour as well; the denials
beyond it are only counted. Requests that nobody has signed are not told here at all.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from capsule.state import tables as t

__all__ = ["MOST", "WINDOW_SECONDS", "note_denial", "summarise"]

WINDOW_SECONDS: Final = 3600.0
MOST: Final = 256
"""So many different denials are told in a window."""
_REST: Final = {"account": "", "action": "", "code": ""}

Append = Callable[[Connection, str, Mapping[str, Any]], object]


def note_denial(db: Connection, append: Append, now: float, account: str, action: str, code: str) -> None:
    """Tells or counts a denial; the caller holds the lock of the log."""
    summarise(db, append, now)
    what = {"account": account, "action": action, "code": code}
    if _count(db, what):
        return
    told = db.execute(select(func.count()).select_from(t.denials).where(t.denials.c.account != "")).scalar_one()
    if told < MOST:
        append(db, "denied", what)
        db.execute(insert(t.denials).values(**what, since=now, repeats=0))
    elif not _count(db, _REST):
        db.execute(insert(t.denials).values(**_REST, since=now, repeats=1))


def summarise(db: Connection, append: Append, now: float) -> None:
    """Tells the repetitions of windows that are over; the caller holds the lock of the log."""
    over = t.denials.c.since <= now - WINDOW_SECONDS
    for row in db.execute(select(t.denials).where(over, t.denials.c.repeats > 0).order_by(t.denials.c.since)).all():
        told = {"account": row.account or None, "action": row.action or None, "code": row.code or None}
        append(db, "denied again", {**told, "repeats": row.repeats})
    db.execute(delete(t.denials).where(over))


def _count(db: Connection, what: Mapping[str, str]) -> bool:
    """Whether this is told already in the present window; it is counted if so."""
    same = and_(*(t.denials.c[name] == value for name, value in what.items()))
    return bool(db.execute(update(t.denials).where(same).values(repeats=t.denials.c.repeats + 1)).rowcount)
