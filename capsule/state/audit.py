"""The audit log: append-only, hash-chained, its head authenticated, in the same transactions as what it records.

Entry k holds a sequence number k = 1, 2, ..., the time in microseconds, a kind, a body and the hash of entry k - 1 (32
zero bytes before the first). The body is canonical JSON of digests, ids, accounts and codes, never data. With every
integer in 8 bytes, big-endian, and every text in UTF-8 behind its length,

    hash = SHA-256("sonar capsule audit entry 1\\0" || sequence || time || kind || body || previous)
    mac  = HMAC-SHA256(key, "sonar capsule audit head 1\\0" || length || hash of the last entry)

An edit, a cut, an insertion or another order breaks the chain; a chain computed anew, and a cut tail, break the MAC,
whose key is not in the database in the clear. What remains is an old state of the whole database put back: it shows
against a head that somebody noted before.
"""

import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select, update

from capsule.errors import CapsuleError
from capsule.state import tables as t
from capsule.state.denials import note_denial, summarise
from capsule.state.engine import reading, writing
from sonar import canonical, hashchain
from sonar.hashchain import START

__all__ = ["START", "AuditEntry", "AuditHead", "AuditLog", "entry_hash"]

KEY_BYTES: Final = 32
_ENTRY: Final = b"sonar capsule audit entry 1\0"
_HEAD: Final = b"sonar capsule audit head 1\0"
_HEAD_ROW: Final = 1
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry as it is stored; `time` in microseconds since 1970, `body` canonical JSON."""

    sequence: int
    time: int
    kind: str
    body: str
    previous: bytes
    hash: bytes

    def expected_hash(self) -> bytes:
        """The hash of the other fields; raises ValueError where one of them cannot be in an entry."""
        return entry_hash(self.sequence, self.time, self.kind, self.body, self.previous)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many entries there are, and the hash of the last."""

    length: int
    hash: bytes


def entry_hash(sequence: int, moment: int, kind: str, body: str, previous: bytes) -> bytes:
    """The hash of an entry; raises ValueError for what no entry can hold."""
    return hashchain.entry_hash(_ENTRY, sequence, moment, kind, body, previous)


class AuditLog:
    """The log of one database. Entries are appended by the methods of `State` that change what they tell.

    `unlock` gives it the key of its head, without which nothing is appended and no head is told.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock
        self._key: bytes | None = None

    def begin(self, key: bytes) -> None:
        """Starts an empty log under this key of 32 bytes; raises CapsuleError where there is one."""
        with writing(self._engine) as db:
            self.begin_in(db, key)

    def begin_in(self, db: Connection, key: bytes) -> None:
        """What `begin` does, within a transaction."""
        self.unlock(key)
        if db.execute(select(t.audit_head.c.id)).first() or db.execute(select(t.audit.c.sequence).limit(1)).first():
            raise CapsuleError("the database has an audit log already: choose an empty database")
        row = {"id": _HEAD_ROW, "length": 0, "hash": START, "mac": self._mac(AuditHead(0, START))}
        db.execute(insert(t.audit_head).values(row))

    def unlock(self, key: bytes) -> None:
        """Gives the log the key that it was begun with."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"the audit log's key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def now(self) -> float:
        """The time by the Capsule's clock."""
        return self._clock()

    def head(self) -> AuditHead:
        """The present head; raises CapsuleError where it is not the one that this Capsule wrote."""
        with reading(self._engine) as db:
            return self._head(db, lock=False)

    def head_in(self, db: Connection) -> AuditHead:
        """The head as a transaction sees it; raises as `head` does."""
        return self._head(db, lock=False)

    def lock(self, db: Connection) -> None:
        """Locks the head until the transaction ends; all that append wait for one another, and for nothing else."""
        db.execute(select(t.audit_head.c.id).with_for_update())

    def append(self, db: Connection, kind: str, body: Mapping[str, Any]) -> AuditHead:
        """Appends an entry within the given transaction; bytes in `body` are written in hex."""
        before = self._head(db, lock=True)
        text = canonical.dumps({name: _plain(value) for name, value in body.items()}).decode()
        sequence, moment = before.length + 1, int(self._clock() * 1_000_000)
        after = AuditHead(sequence, entry_hash(sequence, moment, kind, text, before.hash))
        row = {"sequence": sequence, "time": moment, "kind": kind, "body": text}
        db.execute(insert(t.audit).values(**row, previous=before.hash, hash=after.hash))
        db.execute(update(t.audit_head).values(length=after.length, hash=after.hash, mac=self._mac(after)))
        return after

    def denied(self, account: str, action: str, code: str) -> None:
        """A request that the account has signed was denied; repetitions are counted and told once an hour."""
        with writing(self._engine) as db:
            self.lock(db)
            note_denial(db, self.append, self._clock(), account, action, code)

    def look_after(self) -> None:
        """Tells how often what was denied was asked again, as soon as its hour is over; to be called now and then.

        Raises CapsuleError where the log's head is not the one that this Capsule wrote, so that it is noticed soon.
        """
        with reading(self._engine) as db:
            self._head(db, lock=False)
            if db.execute(select(t.denials.c.since).limit(1)).first() is None:
                return
        with writing(self._engine) as db:
            self.lock(db)
            summarise(db, self.append, self._clock())

    def entries(self, after: int = 0) -> Iterator[AuditEntry]:
        """The entries in order, from the one after `after`; a page in memory, and a transaction, at a time."""
        query = select(t.audit).order_by(t.audit.c.sequence).limit(_PAGE)
        while True:
            with reading(self._engine) as db:
                rows = db.execute(query.where(t.audit.c.sequence > after)).all()
            for row in rows:
                yield AuditEntry(row.sequence, row.time, row.kind, row.body, row.previous, row.hash)
            if len(rows) < _PAGE:
                return
            after = rows[-1].sequence

    def _head(self, db: Connection, *, lock: bool) -> AuditHead:
        query = select(t.audit_head)
        rows = db.execute(query.with_for_update() if lock else query).all()
        if len(rows) != 1:
            raise CapsuleError(f"the audit log has {len(rows)} heads instead of one: run capsule audit verify")
        head = AuditHead(rows[0].length, rows[0].hash)
        if not self.authentic(head, rows[0].mac):
            raise CapsuleError("the audit log's head was not written by this Capsule: run capsule audit verify")
        return head

    def authentic(self, head: AuditHead, mac: bytes) -> bool:
        """Whether the MAC is that of the head."""
        return head.length >= 0 and hmac.compare_digest(self._mac(head), mac)

    def _mac(self, head: AuditHead) -> bytes:
        if self._key is None:
            raise CapsuleError("the audit log is locked: it needs its key, which the Capsule's passphrase opens")
        return hmac.digest(self._key, _HEAD + head.length.to_bytes(8, "big") + head.hash, "sha256")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
