"""The ledger's SQLite file: opened, brought to its format, written in transactions that are done or undone whole."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from mine.errors import LedgerError

__all__ = ["Database", "Part"]

_BUSY_SECONDS = 30.0


class Database:
    """An open SQLite file of one format: `tables` are the statements that make it, `version` is its number.

    Several processes may have it open, one at a time writes. For one thread. Raises LedgerError for a file of another
    format, and wherever SQLite cannot do what is asked.
    """

    def __init__(self, path: Path, tables: Sequence[str], version: int) -> None:
        self.path = path
        self._afterwards: list[Callable[[], None]] = []
        _for_its_owner_alone(path)
        with self._guard():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
        try:
            self._prepare_file(tables, version)
        except LedgerError:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def execute(self, statement: str, *values: Any) -> int:
        """Changes rows, within `write`; returns how many."""
        assert self._db.in_transaction, "rows are changed within `write` only"
        with self._guard():
            return self._db.execute(statement, values).rowcount

    def one(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, if there is one."""
        return next(iter(self.rows(query, *values)), None)

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._guard(), closing(self._db.execute(query, values)) as found:
            return found.fetchall()

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction: everything within it is on the disk after it, or nothing. Within another one, part of it."""
        if self._db.in_transaction:
            yield
            return
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._afterwards.clear()
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        while self._afterwards:
            self._afterwards.pop(0)()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Has `action` done, once, when the present transaction is on the disk; not at all if it is undone."""
        assert self._db.in_transaction, "what is done after a transaction is asked for within `write`"
        if action not in self._afterwards:
            self._afterwards.append(action)

    def _prepare_file(self, tables: Sequence[str], version: int) -> None:
        with self._guard():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        with self.write():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in ";".join(tables).split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {version}")
            elif found != version:
                raise LedgerError(
                    f"the ledger {self.path} has format {found}, this program writes {version}: upgrade it"
                )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise LedgerError(f"the ledger {self.path} cannot be used: {error}") from error


def _for_its_owner_alone(path: Path) -> None:
    """Makes the file if it is missing, and takes the others' rights away from it and from what SQLite keeps beside it.

    A log or index that SQLite makes later gets the file's own rights.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                if (mode := stat.S_IMODE(one.stat().st_mode)) & 0o077:
                    one.chmod(mode & 0o700)
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be used: {error.strerror}") from error


class Part:
    """Some of the ledger's tables, and what is done with them."""

    def __init__(self, database: Database) -> None:
        self._database = database
