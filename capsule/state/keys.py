"""Paillier keys: spare ones, and what each of the others was taken for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, insert, select, update

from capsule.errors import AuditLogError, CapsuleRefusedError
from capsule.state import tables as t
from capsule.state._topic import Topic, insert_new
from capsule.state.records import StoredKey
from sonar.units import Address, CampaignId, Digest, KeyId

__all__ = ["Keys", "Reseal"]

_SPARE = select(func.count()).where(t.keys.c.use == "spare")

Reseal = Callable[[StoredKey, StoredKey], bytes]
"""The secret of a key as it was, sealed for what it becomes; called in the transaction that changes it."""


class Keys(Topic):
    """A key is handed out once, however many threads and processes ask, and whoever edits the rows of its past.

    Its secret is sealed for what the key is taken for, so that a changed row does not open, and what it was taken for
    before is looked up in the audit log, so that a row put back as it was is not believed.
    """

    def add_key(self, key: StoredKey) -> None:
        """Adds a spare key; `born` is at most the audit log's present length."""
        row = {
            "id": key.id, "modulus": key.modulus, "secret": key.secret, "use": "spare", "time": key.time,
            "born": key.born,
        }  # fmt: skip
        with self._recording() as (db, _):
            db.execute(insert(t.keys).values(row))

    def keys_by_use(self) -> dict[str, int]:
        """How many keys there are of each use; those whose secret was deleted count as `deleted`."""
        use = case((t.keys.c.deleted.is_not(None), "deleted"), else_=t.keys.c.use)
        with self._reading() as db:
            rows = db.execute(select(use, func.count()).group_by(use)).all()
        return {str(found): int(number) for found, number in rows}

    def spare_keys(self) -> int:
        """How many keys wait for use."""
        with self._reading() as db:
            return db.execute(_SPARE).scalar_one()

    def claim_key(
        self,
        use: str,
        owner: Address | None,
        now: float,
        *,
        campaign: CampaignId | None = None,
        at_most: tuple[int, float] | None = None,
        leaving: int = 0,
        reseal: Reseal,
    ) -> StoredKey | None:
        """Takes the oldest spare key for a use; None if there is none beyond those to be left for other uses.

        `at_most` is how many keys the owner may be given since a time; raises CapsuleRefusedError for one more, also
        where several ask at once, and AuditLogError for a key that was taken before.
        """
        oldest = select(t.keys).where(t.keys.c.use == "spare").order_by(t.keys.c.time, t.keys.c.id).limit(1)
        with self._reading() as db:
            born = db.execute(select(func.min(t.keys.c.born)).where(t.keys.c.use == "spare")).scalar()
        if born is not None:
            with self._reading() as db:
                self._history.read(db, born)
        with self._recording() as (db, record):
            if at_most is not None and owner is not None:
                most, since = at_most
                given = select(func.count()).where(_issued_since(owner, since))
                if db.execute(given).scalar_one() >= most:
                    raise CapsuleRefusedError("too_many_keys", f"{owner} got {most} keys lately: use them, or wait")
            scarce = leaving > 0 and db.execute(_SPARE).scalar_one() <= leaving
            # Of PostgreSQL's workers each passes over the rows that others hold; SQLite's transactions do not overlap.
            row = None if scarce else db.execute(oldest.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            spare = _key(row)
            if not self._history.is_untouched(db, spare.id, spare.born):
                raise AuditLogError(spare.born + 1, f"key 0x{spare.id.hex()} stands as spare and was taken before")
            taken = replace(spare, use=use, owner=owner, campaign=campaign, time=now)
            taken = _change(db, spare, taken, reseal)
            record("key", key=taken.id, use=use, account=owner, campaign=campaign)
            return taken

    def key(self, key_id: KeyId) -> StoredKey | None:
        """A key by its fingerprint."""
        with self._reading() as db:
            row = db.execute(select(t.keys).where(t.keys.c.id == key_id)).one_or_none()
            return None if row is None else _key(row)

    def keys(self) -> list[StoredKey]:
        """All keys without their secrets, the oldest first."""
        columns = [column for column in t.keys.c if column.name != "secret"]
        with self._reading() as db:
            rows = db.execute(select(*columns).order_by(t.keys.c.time, t.keys.c.id)).all()
        return [_key(row, secret=b"") for row in rows]

    def issued_since(self, owner: Address, time: float) -> int:
        """How many keys the account was given since `time`."""
        with self._reading() as db:
            return db.execute(select(func.count()).where(_issued_since(owner, time))).scalar_one()

    def key_uses(self, owner: Address) -> frozenset[str]:
        """What has become of the account's keys: `issued` ones can still admit a model, `used` ones cannot."""
        with self._reading() as db:
            return frozenset(db.execute(select(t.keys.c.use).where(t.keys.c.owner == owner).distinct()).scalars())

    def use_up_key(self, key_id: KeyId, owner: Address, now: float, *, reseal: Reseal) -> bool:
        """Marks an issued key as used; False if it is not issued to this account, or was used before.

        A model under it counts as well. Raises AuditLogError where the log does not hold.
        """
        free = and_(
            t.keys.c.id == key_id, t.keys.c.owner == owner, t.keys.c.use == "issued",
            ~select(t.admissions.c.key).where(t.admissions.c.key == key_id).exists(),
            ~select(t.versions.c.key).where(t.versions.c.key == key_id).exists(),
        )  # fmt: skip
        with self._recording() as (db, record):
            row = db.execute(select(t.keys).where(free, t.keys.c.secret.is_not(None))).one_or_none()
            if row is None or not self._history.is_issued_to(db, key_id, row.born, owner):
                return False
            issued = _key(row)
            _change(db, issued, replace(issued, use="used", used=now), reseal)
            record("key", key=key_id, use="used", account=owner, campaign=None)
            return True

    def issued_once(self, key: StoredKey, owner: Address) -> bool:
        """Whether all that the audit log tells of the key is that it was issued to this account, and not yet used.

        A backup's keys may have been used after it was made, so none is that was issued before it was restored. Raises
        AuditLogError where the log does not hold.
        """
        with self._reading() as db:
            return self._history.is_issued_to(db, key.id, key.born, owner)

    def use_up_box(self, digest: Digest) -> bool:
        """Whether a validation box is new; it is not any more."""
        with self._recording() as (db, record):
            new = insert_new(db, t.boxes, {"digest": digest})
            if new:
                record("box", box=digest)
            return new


def _change(db: Connection, before: StoredKey, after: StoredKey, reseal: Reseal) -> StoredKey:
    """Makes a key what it becomes."""
    after = replace(after, secret=reseal(before, after))
    values = {
        "secret": after.secret, "use": after.use, "owner": after.owner, "campaign": after.campaign, "time": after.time,
        "used": after.used,
    }  # fmt: skip
    db.execute(update(t.keys).where(t.keys.c.id == after.id).values(values))
    return after


def _issued_since(owner: Address, time: float) -> Any:
    return and_(t.keys.c.owner == owner, t.keys.c.time >= time)


def _key(row: Row[Any], *, secret: bytes | None = None) -> StoredKey:
    return StoredKey(
        KeyId(row.id),
        row.modulus,
        (row.secret or b"") if secret is None else secret,
        row.use,
        None if row.owner is None else Address(row.owner),
        None if row.campaign is None else CampaignId(row.campaign),
        row.time,
        row.born,
        row.used,
        row.deleted,
    )
