"""Reads the whole audit log and finds the first place where it, or what it tells of, is not what the Capsule wrote."""

from typing import Any, Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from capsule.errors import AuditLogError
from capsule.state.agreement import check_agreement
from capsule.state.audit import START, AuditEntry, AuditHead, AuditLog
from capsule.state.engine import reading, reason
from capsule.state.holding import check_holding
from capsule.state.posted import check_posted
from capsule.state.spending import check_spending

__all__ = ["check_entry", "verify", "verify_view"]

_ENTRIES: Final = text("SELECT sequence, time, kind, body, previous, hash FROM audit ORDER BY sequence")
_HEADS: Final = text("SELECT length, hash, mac FROM audit_head")
_ENTRY_TYPES: Final = (int, int, str, str, bytes, bytes)
_HEAD_TYPES: Final = (int, bytes, bytes)


def verify(engine: Engine, log: AuditLog, *, noted: bytes | None = None) -> AuditHead:
    """The head of a log in which everything holds; raises AuditLogError with the first entry that does not.

    `noted` is the hash of a head that somebody noted before: it must be that of an entry, or the database is not the
    one that it was. The log must be unlocked. What is appended meanwhile is not seen.
    """
    with reading(engine, consistent=True) as db:
        return verify_view(db, log, noted=noted)


def verify_view(db: Connection, log: AuditLog, *, noted: bytes | None = None) -> AuditHead:
    """What `verify` does, as a transaction sees the log."""
    last, found = _follow(db, noted)
    _check_head(db, log, last)
    check_agreement(db, last.length)
    check_spending(db, last.length)
    check_holding(db, last.length)
    check_posted(db, last.length)
    if noted is not None and not found:
        raise AuditLogError(
            last.length,
            f"the log ends here, and the noted head 0x{noted.hex()} is not in it: the database was put back or "
            "exchanged",
        )
    return last


def _follow(db: Connection, noted: bytes | None) -> tuple[AuditHead, bool]:
    """The last entry, and whether the noted head was met on the way."""
    last, found = AuditHead(0, START), noted == START
    try:
        # As the driver gives them: whoever edited the file may have left values of any type.
        with db.execute(_ENTRIES, execution_options={"yield_per": 500}) as rows:
            for row in rows:
                last = check_entry(tuple(row), last)
                found = found or last.hash == noted
    except DBAPIError as error:
        raise AuditLogError(last.length + 1, f"the entry cannot be read: {reason(error)}") from error
    return last, found


def check_entry(row: tuple[Any, ...], last: AuditHead) -> AuditHead:
    """The head with the entry after `last`, which is given as the driver gives its row; raises AuditLogError."""
    expected = last.length + 1
    if row[0] != expected:
        raise AuditLogError(expected, f"the entry is missing: {row[0]!r} comes after {last.length}")
    if tuple(map(type, row)) != _ENTRY_TYPES:
        raise AuditLogError(expected, "the entry was changed: its fields are not of the types that they were")
    entry = AuditEntry(*row)
    if entry.previous != last.hash:
        raise AuditLogError(expected, f"the entry does not follow entry {last.length}: one of the two was exchanged")
    try:
        computed = entry.expected_hash()
    except ValueError as error:
        raise AuditLogError(expected, f"the entry was changed: {error}") from error
    if computed != entry.hash:
        raise AuditLogError(expected, "the entry was changed: its hash is not that of its fields")
    return AuditHead(expected, computed)


def _check_head(db: Connection, log: AuditLog, last: AuditHead) -> None:
    rows = [tuple(row) for row in db.execute(_HEADS)]
    if len(rows) != 1 or tuple(type(value) for value in rows[0]) != _HEAD_TYPES:
        raise AuditLogError(last.length, f"the log has {len(rows)} heads, or one of strange types: it was changed")
    length, head_hash, mac = rows[0]
    if not log.authentic(AuditHead(length, head_hash), mac):
        raise AuditLogError(last.length, "the log's head was not written by this Capsule: the log was made anew")
    if length > last.length:
        raise AuditLogError(last.length + 1, f"the entries up to {length} are missing: the log was cut")
    if length < last.length:
        raise AuditLogError(length + 1, f"the log's head is entry {length}: what comes after it was added by others")
    if head_hash != last.hash:
        raise AuditLogError(length, "the log's head is of another last entry: the log was made anew")
