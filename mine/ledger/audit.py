"""The audit log's end in the ledger: entries come into being in the same transaction as what they tell of.

A transaction leaves its entries here; once it is on the disk they are written to the log's file, and forgotten here
once they are on the disk there. So each is in the file exactly once, whenever the process is stopped, and the ledger
knows how the file must end.
"""

import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from mine.audit import RESTARTED, AuditEntry, AuditFile, AuditHead
from mine.errors import AuditError
from mine.ledger.database import Database, Part
from sonar import canonical

__all__ = ["TABLES", "Audited"]

TABLES = """
CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), length INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE audit_pending (sequence INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE audit_topics (topic TEXT PRIMARY KEY, digest BLOB NOT NULL)
"""


class Audited(Part):
    """What a part needs that leaves its mark in the audit log."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._audit_file = AuditFile(database.path.with_name("audit.jsonl"))
        self._audit_checked = False

    @property
    def audit_log(self) -> Path:
        """Where the audit log is."""
        return self._audit_file.path

    def record(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Appends an entry to the audit log, with the present transaction if there is one.

        Facts are JSON values, or bytes, which are written as hexadecimal digits; never records, keys or passwords.
        Raises AuditError if the log does not end as it was left: then nothing that is to be recorded should happen.
        """
        with self._database.write():
            if not self._audit_checked:  # later on the file itself takes nothing that does not follow
                self.check_audit()
            entry = AuditEntry.after(self.audit_head(), time.time(), kind, facts)
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
            self.flush_audit()
            return self._audit_file.verify(self.audit_head(), noted=noted)

    def check_audit(self) -> None:
        """Looks at the log's end only: raises AuditError unless it is the one that the ledger knows.

        Where the file is ahead of a ledger that was put back, the ledger takes over the file's end, which says more.
        """
        with self._database.write():
            self.flush_audit()
            known, found = self.audit_head(), self._audit_file.head()
            if found != known and (found.length <= known.length or not self._continues(known)):
                raise AuditError(
                    f"the audit log {self.audit_log} does not end with entry {known.length}, as it was left, but with "
                    f"{found.length}: `mine audit verify` finds the first line that differs"
                )
            self._audit_checked = True
            if found != known:
                self._set_head(found)
                self.record("ledger put back", {"knew": known.length, "log": found.length})

    def restart_audit(self, reason: str) -> Path | None:
        """Goes on after a log that cannot be mended: it is renamed (to what is returned), a new one begins and says so.

        The new log's first entry holds the hash of the last entry that the ledger knew, and the lines of those that
        never came into the old one.
        """
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

    def _continues(self, known: AuditHead) -> bool:
        """Whether the whole file holds, and goes on from the entry that the ledger knows as the last."""
        heads = {entry.head for entry in self._audit_file.entries() if entry.sequence == known.length}
        return known == AuditHead() or known in heads

    def _set_head(self, head: AuditHead) -> None:
        self._database.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?)", head.length, head.hash)
