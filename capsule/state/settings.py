"""Settings, and the nonces of requests that were answered."""

from typing import Any

from sqlalchemy import delete, select, tuple_

from capsule.state import tables as t
from capsule.state._topic import Topic, insert_new, put
from sonar.units import Address

__all__ = ["Settings"]

_GRACE_SECONDS = 3600
_MOST_AT_ONCE = 1000


class Settings(Topic):
    """Named values that this Capsule needs once."""

    def setting(self, name: str) -> bytes | None:
        """A setting's value."""
        with self._reading() as db:
            return db.execute(select(t.settings.c.value).where(t.settings.c.name == name)).scalar()

    def settings(self, prefix: str) -> dict[str, bytes]:
        """The settings whose names begin so, in the order of their names."""
        its = t.settings.c.name.startswith(prefix, autoescape=True)
        with self._reading() as db:
            rows = db.execute(select(t.settings).where(its).order_by(t.settings.c.name)).all()
        return {row.name: row.value for row in rows}

    def set(self, **values: bytes) -> None:
        """Sets settings."""
        with self._writing() as db:
            for name, value in sorted(values.items()):  # in one order, so that nobody waits in a circle
                put(db, t.settings, {"name": name, "value": value})

    def set_told(self, name: str, value: bytes | None, kind: str, **told: Any) -> None:
        """Sets a setting, or drops it where `value` is None, and has the audit log tell of that."""
        with self._recording() as (db, record):
            if value is None:
                db.execute(delete(t.settings).where(t.settings.c.name == name))
            else:
                put(db, t.settings, {"name": name, "value": value})
            record(kind, **told)

    def found(self, audit_key: bytes, **values: bytes) -> None:
        """Makes the database a new Capsule's, with its settings and an empty log: all of it, or nothing if killed."""
        with self._writing() as db:
            self.audit.begin_in(db, audit_key)
            for name, value in sorted(values.items()):
                put(db, t.settings, {"name": name, "value": value})

    def remember_nonce(self, account: Address, nonce: bytes, expiry: int, now: int) -> bool:
        """Whether the nonce is new; it is remembered for an hour beyond its expiry, and then cleaned up.

        The hour is for workers whose clocks differ: none may forget what another would still take.
        """
        with self._writing() as db:
            old = select(*t.nonces.primary_key).where(t.nonces.c.expiry < now - _GRACE_SECONDS).limit(_MOST_AT_ONCE)
            # Those that another process deletes now are left to it.
            db.execute(delete(t.nonces).where(tuple_(*t.nonces.primary_key).in_(old.with_for_update(skip_locked=True))))
            return insert_new(db, t.nonces, {"account": account, "nonce": nonce, "expiry": expiry})
