"""The audit log's end in the ledger: entries come into being in the same transaction as what they tell of.

A transaction leaves its entries here; once it is on the disk they are written to the log's file, and forgotten here
once they are on the disk there. So each is in the file exactly once, whenever the process is stopped, and the ledger
knows how the file must end.

The key of the entries' seals is made with the ledger and is in it, so that a copy of the ledger that is put back knows
the entries that were written after it was taken.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mine.audit import KEY_BYTES, LONGEST_LINE, RESTARTED, AuditEntry, AuditFile, AuditHead
from mine.errors import AuditError, UnreadableLogError
from mine.ledger.database import Database, Part
from sonar import canonical

__all__ = ["TABLES", "Audited"]

TABLES = """
CREATE TABLE audit_key (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL);
CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), length INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE audit_pending (sequence INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE audit_topics (topic TEXT PRIMARY KEY, digest BLOB NOT NULL)
"""


class Audited(Part):
    """What a part needs that leaves its mark in the audit log."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._audit_key = self._made_key()
        self._audit_file = AuditFile(database.path.with_name("audit.jsonl"), self._audit_key)
        self._audit_checked = False

    @property
    def audit_log(self) -> Path:
        """Where the audit log is."""
        return self._audit_file.path

    def record(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Appends an entry to the audit log, with the present transaction if there is one.

        Facts are JSON values, or bytes, which are written as hexadecimal digits; never records, keys or passwords.
        Raises AuditError if the log does not end as it was left, and for facts that are too long to be read again: then
        nothing that is to be recorded should happen.
        """
        with self._database.write():
            if not self._audit_checked:  # later on the file itself takes nothing that does not follow
                self.check_audit()
            entry = AuditEntry.after(self.audit_head(), time.time(), kind, facts, self._audit_key)
            if (size := len(entry.line)) >= LONGEST_LINE:
                raise AuditError(
                    f"{kind!r} cannot be recorded: its entry would have {size} bytes, and the audit log takes "
                    f"{LONGEST_LINE}; shorten what it tells of, such as lists, queries and names of columns"
                )
            self._database.execute("INSERT INTO audit_pending VALUES (?, ?)", entry.sequence, entry.line)
            self._set_head(entry.head)
            self._database.after_commit(self.flush_audit)

    def record_change(self, topic: str, facts: Mapping[str, Any]) -> None:
        """Appends an entry "`topic` changed" unless the last one on this topic had the same facts."""
        digest = sha256(canonical.dumps(facts)).digest()
        row = self._database.one("SELECT digest FROM audit_topics WHERE topic = ?", topic)
        if row is None or row["digest"] != digest:
            with self._database.write():
                self._database.execute("INSERT OR REPLACE INTO audit_topics VALUES (?, ?)", topic, digest)
                self.record(f"{topic} changed", facts)

    def flush_audit(self) -> None:
        """Writes what a stop has left unwritten; raises AuditError if the log does not end as it was left."""
        rows = self._database.rows("SELECT * FROM audit_pending ORDER BY sequence")
        if rows:
            self._audit_file.append([AuditEntry.parse(row["line"]) for row in rows])
            with self._database.write():
                self._database.execute("DELETE FROM audit_pending WHERE sequence <= ?", rows[-1]["sequence"])

    def audit_entries(self) -> Iterator[AuditEntry]:
        """The entries in the log, each checked against the one before; raises AuditError at the first that differs."""
        return self._audit_file.entries()

    def audit_head(self) -> AuditHead:
        """How the ledger knows the log to end."""
        row = self._database.one("SELECT length, hash FROM audit_head")
        return AuditHead() if row is None else AuditHead(row["length"], row["hash"])

    def verify_audit(self, *, noted: bytes | None = None) -> AuditHead:
        """The head of a log in which everything holds; raises AuditError otherwise.

        `noted` is the hash of an entry that somebody noted before, which must be in the log.
        """
        with self._database.write():  # nobody appends meanwhile
            known = self.audit_head()
            try:
                self.flush_audit()
                return self._audit_file.verify(known, noted=noted)
            except UnreadableLogError:
                raise
            except AuditError as error:
                if known != AuditHead():
                    raise
                raise AuditError(f"{error}; {_way_out(known)}", line=error.line) from error

    def check_audit(self) -> None:
        """Raises AuditError unless the log is as the ledger left it: the first time all of it, later its end.

        Where the log goes on from there in entries that this ledger sealed, an older copy of the ledger was put back:
        it takes over what they tell (`_learn`), and that is told.
        """
        with self._database.write():
            known = self.audit_head()
            try:
                self.flush_audit()
                if self._audit_checked and self._audit_file.head() == known:
                    return
                newer = self._audit_file.newer(known)
            except UnreadableLogError:
                raise
            except AuditError as error:
                raise AuditError(f"{error}; {_way_out(known)}", line=error.line) from error
            self._audit_checked = True
            if newer:
                self._set_head(newer[-1].head)
                self._learn(newer)
                self.record("ledger put back", {"knew": known.length, "log": newer[-1].sequence})

    def restart_audit(self, reason: str) -> Path | None:
        """Goes on after a log that cannot be mended: it is renamed (to what is returned), a new one begins and says so.

        The new log's first entry holds the hash of the last entry that the ledger knew, and the lines of those that
        never came into the old one. What this log and those before it tell beyond the ledger, each up to its first line
        that differs, is taken over: a budget that was spent stays spent.
        """
        with self._database.write():
            newer = self._audit_file.salvage(self.audit_head())
            if newer:
                self._set_head(newer[-1].head)
                self._learn(newer)
        # Nothing is out of sight before what it tells is on the disk: a stop here leaves a log that is refused again.
        with self._database.write():
            aside, known = self._audit_file.move_away(), self.audit_head()
            unwritten = self._database.rows("SELECT line FROM audit_pending ORDER BY sequence")
            self._database.execute("DELETE FROM audit_pending")
            self._audit_checked = True
            self.record(RESTARTED, {
                "reason": reason, "entries": known.length, "before": None if aside is None else aside.name,
                "unwritten": [row["line"].decode() for row in unwritten],
            })  # fmt: skip
        return aside

    def _learn(self, entries: Sequence[AuditEntry]) -> None:
        """Takes over what entries tell that an older copy of the ledger lacks; within a transaction.

        Parts that must not forget what happened do so.
        """

    def _made_key(self) -> bytes:
        """The key of this ledger's seals; made with the ledger, and never changed."""
        row = self._database.one("SELECT key FROM audit_key")
        if row is None:
            with self._database.write():  # of two processes that make a ledger one is first
                self._database.execute("INSERT OR IGNORE INTO audit_key VALUES (1, ?)", secrets.token_bytes(KEY_BYTES))
            row = self._database.one("SELECT key FROM audit_key")
        assert row is not None
        return bytes(row["key"])

    def _set_head(self, head: AuditHead) -> None:
        self._database.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?)", head.length, head.hash)


def _way_out(known: AuditHead) -> str:
    """What an owner can do about a log that does not fit a ledger which knows so much of it."""
    if known == AuditHead():
        return (
            "this ledger is a new one: put the mine.db back that was beside the log, or, where that is lost, use `mine "
            'audit restart --reason "..."`, which counts what the log tells of charges'
        )
    return 'put the log back from a backup, or begin a new one with `mine audit restart --reason "..."`'
