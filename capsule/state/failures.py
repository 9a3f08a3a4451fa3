"""How many admissions failed lately, by account: each costs the Capsule some work, and not all of them cost a key."""

from typing import Final

from sqlalchemy import and_, delete, select, update

from capsule.state import tables as t
from capsule.state._topic import Topic, insert_new
from sonar.units import Address

__all__ = ["Failures"]

_WINDOW_SECONDS: Final = 3600.0


class Failures(Topic):
    """Failed admissions, counted for an hour from an account's first one; for every process, and across restarts."""

    def count_failure(self, account: Address, now: float) -> None:
        """Counts a failed admission, and forgets the hours that are over."""
        with self._recording() as (db, _):  # one after another, so that none is lost
            db.execute(delete(t.failures).where(t.failures.c.since <= now - _WINDOW_SECONDS))
            if not insert_new(db, t.failures, {"account": account, "since": now, "number": 1}):
                more = update(t.failures).where(t.failures.c.account == account)
                db.execute(more.values(number=t.failures.c.number + 1))

    def failures(self, account: Address, now: float) -> int:
        """How many of the account's admissions failed in its present hour."""
        present = and_(t.failures.c.account == account, t.failures.c.since > now - _WINDOW_SECONDS)
        with self._reading() as db:
            return db.execute(select(t.failures.c.number).where(present)).scalar() or 0
