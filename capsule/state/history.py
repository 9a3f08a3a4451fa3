"""What the audit log tells of keys and settlements, believed as far as the log is chained to its authentic head.

Whoever writes to the database, but has no passphrase, could make a used key an issued one, or a signed round one that
was not: in its table, and in the rows of the log that tell of it. Hence what must happen once is not looked up in rows
but in entries that are checked, each by the one after it and the last by the head, which only the Capsule can write.
A key's are checked back to before it was made: its sealed record says since when (`born`), so nobody can make that
later. Of a round no sealed record says from when on it may have been signed, so its entries are checked from the
first.

A process checks each entry once. What it costs to look something up does not grow with the log, but with what was
appended since the process looked last; and at first with the key's age, or for a round with the log's length.
"""

import threading
from dataclasses import dataclass, field
from typing import Final

from pydantic_core import from_json
from sqlalchemy import Connection, text

from capsule.errors import AuditLogError
from capsule.state.audit import START, AuditHead, AuditLog
from capsule.state.holding import TELLING, Hold, Holds
from capsule.state.verifying import check_entry
from sonar.units import Address, CampaignId, KeyId

__all__ = ["History"]

_TELLING: Final = TELLING | {"key", "settlement"}
_BETWEEN: Final = text(
    "SELECT sequence, time, kind, body, previous, hash FROM audit WHERE sequence > :after AND sequence <= :last "
    "ORDER BY sequence"
)


@dataclass(frozen=True, slots=True)
class _Use:
    """An entry about a key: what it was taken for."""

    sequence: int
    use: str
    account: str | None


@dataclass(slots=True)
class _Found:
    """What some entries tell: keys' uses, what was signed (by which entry, its digest), what a restore holds back."""

    uses: dict[bytes, list[_Use]] = field(default_factory=dict)
    signed: dict[tuple[bytes, int, bytes], tuple[int, bytes]] = field(default_factory=dict)
    holds: Holds = field(default_factory=Holds)

    def then(self, later: "_Found") -> None:
        """Adds what later entries tell; what that costs does not depend on what is known."""
        for key, uses in later.uses.items():
            self.uses.setdefault(key, []).extend(uses)
        for name, entry in later.signed.items():
            self.signed.setdefault(name, entry)
        self.holds.then(later.holds)


class History:
    """Keys' uses and rounds' settlements, from the entries that this process has checked. Safe in threads.

    The first read of the given transactions must be this one's, so that none sees an older log than another.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._first: AuditHead | None = None
        self._last = AuditHead(0, START)
        self._found = _Found()

    def read(self, db: Connection, born: int) -> None:
        """Checks the log back to when it had `born` entries, so that nobody holds the database for that later."""
        with self._lock:
            self._read(db, born)

    def signed_in(
        self, db: Connection, campaign: CampaignId, number: int, head: bytes
    ) -> tuple[int | None, Hold | None]:
        """The entry that tells of a settlement of the round, and what a restore holds back of the campaign.

        Either is None where the log tells of none. Raises AuditLogError.
        """
        with self._lock:
            self._read(db, 0)
            signed = self._found.signed.get((bytes(campaign), number, head))
            return None if signed is None else signed[0], self._found.holds.of(campaign)

    def settlements(self, db: Connection, campaign: CampaignId) -> dict[tuple[int, bytes], bytes]:
        """The digest of each settlement of the campaign, by its round and head; raises AuditLogError."""
        with self._lock:
            self._read(db, 0)
            told = self._found.signed.items()
            return {(number, head): digest for (whose, number, head), (_, digest) in told if whose == campaign}

    def hold_of(self, db: Connection, campaign: CampaignId) -> Hold | None:
        """What a restore holds back of the campaign, None for nothing; raises AuditLogError."""
        with self._lock:
            self._read(db, 0)
            return self._found.holds.of(campaign)

    def is_untouched(self, db: Connection, key_id: KeyId, born: int) -> bool:
        """Whether the log tells nothing of a key made when it had `born` entries; raises AuditLogError."""
        uses, _ = self._look_up(db, key_id, born)
        return not uses

    def is_issued_to(self, db: Connection, key_id: KeyId, born: int, owner: Address) -> bool:
        """Whether all that the log tells of the key is that it was issued to this account.

        A backup's keys may have been used after it was made, so none is that was issued before it was restored.
        Raises AuditLogError where the log does not hold.
        """
        uses, restored = self._look_up(db, key_id, born)
        return [(use.use, use.account) for use in uses] == [("issued", owner)] and restored < uses[0].sequence

    def _look_up(self, db: Connection, key_id: KeyId, born: int) -> tuple[list[_Use], int]:
        """The key's uses, and the entry of the last restore that was no move."""
        with self._lock:
            self._read(db, born)
            uses = self._found.uses.get(bytes(key_id), ())
            return [use for use in uses if use.sequence > born], self._found.holds.restored[0]

    def _read(self, db: Connection, born: int) -> None:
        """Checks what was appended, and what is before the first checked entry; the caller holds the lock."""
        head = self._log.head_in(db)
        if self._first is None:
            self._first = self._last = head
        if head.length < self._last.length:
            raise AuditLogError(head.length + 1, "the entry was there before: the database was put back meanwhile")
        if head != self._last:
            self._found.then(_read(db, self._last, head))
            self._last = head
        if born < self._first.length:
            first = _before(db, born)
            earlier = _read(db, first, self._first)
            earlier.then(self._found)
            self._found, self._first = earlier, first


def _before(db: Connection, length: int) -> AuditHead:
    """The head when the log had so many entries, as the next one names it; what is read from there proves it."""
    if length <= 0:
        return AuditHead(0, START)
    previous = db.execute(text("SELECT previous FROM audit WHERE sequence = :next"), {"next": length + 1}).scalar()
    if not isinstance(previous, bytes):
        raise AuditLogError(length + 1, "the entry is missing, or was changed: run capsule audit verify")
    return AuditHead(length, previous)


def _read(db: Connection, after: AuditHead, last: AuditHead) -> _Found:
    """What the entries after one head tell, up to another; raises AuditLogError unless they lead from it to that."""
    found, place = _Found(), after
    between = {"after": after.length, "last": last.length}
    with db.execute(_BETWEEN, between, execution_options={"yield_per": 500}) as rows:
        for row in rows:
            place = check_entry(tuple(row), place)
            try:
                _take(found, place.length, row.kind, row.body)
            except (ValueError, LookupError, TypeError) as error:
                # Not chained to the head yet: whoever wrote it could compute its hash.
                raise AuditLogError(place.length, "the entry was changed: it is none that a Capsule writes") from error
    if place != last:
        raise AuditLogError(place.length + 1, "the entry is missing, or was exchanged: run capsule audit verify")
    return found


def _take(found: _Found, sequence: int, kind: str, body: str) -> None:
    """Adds what an entry tells; its hash says that the body is as it was written, so nobody asks if it is canonical."""
    if kind not in _TELLING:
        return
    value = from_json(body)
    if kind == "key":
        found.uses.setdefault(bytes.fromhex(value["key"]), []).append(_Use(sequence, value["use"], value["account"]))
    elif kind == "settlement":
        place = bytes.fromhex(value["campaign"]), value["round"], bytes.fromhex(value["head"])
        found.signed.setdefault(place, (sequence, bytes.fromhex(value["settlement"])))
    else:
        found.holds.take(sequence, kind, value)
