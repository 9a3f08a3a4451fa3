"""Paillier keys: spare ones, and what each of the others was taken for."""

from typing import Any

from sqlalchemy import Row, and_, case, func, insert, or_, select, update

from capsule.errors import CapsuleRefusedError
from capsule.state import tables as t
from capsule.state._topic import Topic, insert_new
from capsule.state.records import StoredKey
from sonar import canonical
from sonar.units import Address, CampaignId, Digest, KeyId

__all__ = ["Keys"]

_SPARE = select(func.count()).where(t.keys.c.use == "spare")


class Keys(Topic):
    """A key is handed out once, however many threads and processes ask."""

    def add_key(self, key_id: KeyId, modulus: bytes, secret: bytes, now: float) -> None:
        """Adds a spare key."""
        row = {"id": key_id, "modulus": modulus, "secret": secret, "use": "spare", "time": now}
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
    ) -> StoredKey | None:
        """Takes the oldest spare key for a use; None if there is none beyond those to be left for other uses.

        `at_most` is how many keys the owner may be given since a time; raises CapsuleRefusedError for one more, also
        where several ask at once.
        """
        # Of PostgreSQL's workers each passes over the rows that others hold; SQLite's transactions do not overlap.
        oldest = (
            select(t.keys.c.id).where(t.keys.c.use == "spare").order_by(t.keys.c.time, t.keys.c.id).limit(1)
            .with_for_update(skip_locked=True)
        )  # fmt: skip
        values = {"use": use, "owner": owner, "campaign": campaign, "time": now}
        claim = update(t.keys).where(t.keys.c.id == oldest.scalar_subquery()).values(values).returning(t.keys)
        with self._recording() as (db, record):
            if at_most is not None and owner is not None:
                most, since = at_most
                given = select(func.count()).where(_issued_since(owner, since))
                if db.execute(given).scalar_one() >= most:
                    raise CapsuleRefusedError("too_many_keys", f"{owner} got {most} keys lately: use them, or wait")
            scarce = leaving > 0 and db.execute(_SPARE).scalar_one() <= leaving
            row = None if scarce else db.execute(claim).one_or_none()
            if row is None:
                return None
            record("key", key=row.id, use=use, account=owner, campaign=campaign)
            return _key(row)

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

    def use_up_key(self, key_id: KeyId, owner: Address) -> bool:
        """Marks an issued key as used; False if it is not issued to this account, or was used before.

        So that whoever edits this table cannot have a key serve twice, a model under it counts as well.
        """
        free = and_(
            t.keys.c.id == key_id, t.keys.c.owner == owner, t.keys.c.use == "issued",
            ~select(t.admissions.c.key).where(t.admissions.c.key == key_id).exists(),
            ~select(t.versions.c.key).where(t.versions.c.key == key_id).exists(),
        )  # fmt: skip
        with self._recording() as (db, record):
            done = bool(db.execute(update(t.keys).where(free).values(use="used")).rowcount)
            if done:
                record("key", key=key_id, use="used", account=owner, campaign=None)
            return done

    def issued_once(self, key_id: KeyId, owner: Address) -> bool:
        """Whether all that the audit log tells of the key is that it was issued to this account.

        A backup's keys may have been used after it was made, so none is that was issued before it was restored.
        """
        told = t.audit.c
        its = and_(told.kind == "key", told.body.contains(key_id.hex(), autoescape=True))
        restored = and_(told.kind == "restore", told.body.contains('"moved":false', autoescape=True))
        with self._reading() as db:
            entries = db.execute(select(told.kind, told.body).where(or_(its, restored)).order_by(told.sequence)).all()
        issued = canonical.dumps({"key": key_id.hex(), "use": "issued", "account": owner, "campaign": None}).decode()
        uses = [entry.body for entry in entries if entry.kind == "key"]
        return uses == [issued] and entries[-1].kind == "key"

    def delete_key(self, key_id: KeyId, now: float) -> bool:
        """Deletes a key's secret for ever and keeps its row; False where there is none left."""
        there = and_(t.keys.c.id == key_id, t.keys.c.secret.is_not(None))
        with self._recording() as (db, record):
            done = bool(db.execute(update(t.keys).where(there).values(secret=None, deleted=now)).rowcount)
            if done:
                record("key deleted", key=key_id)
            return done

    def use_up_box(self, digest: Digest) -> bool:
        """Whether a validation box is new; it is not any more."""
        with self._recording() as (db, record):
            new = insert_new(db, t.boxes, {"digest": digest})
            if new:
                record("box", box=digest)
            return new


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
        row.deleted,
    )
