"""What the topics of the database share: transactions, those that leave an entry in the audit log, and upserts."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from capsule.errors import CapsuleHomeError
from capsule.state import tables as t
from capsule.state.audit import AuditLog
from capsule.state.engine import reading, writing
from capsule.state.history import History

__all__ = ["Recorder", "Topic", "insert_new", "put", "put_all"]


class Recorder(Protocol):
    """Appends an entry about the present transaction to the audit log."""

    def __call__(self, kind: str, /, **body: Any) -> None: ...


class Topic:
    """One topic's queries; each method is one transaction."""

    def __init__(self, engine: Engine, audit: AuditLog) -> None:
        self._engine = engine
        self.audit = audit
        self._history = History(audit)
        self._vault: bytes | None = None

    def pin_vault(self, header: bytes) -> None:
        """Refuses changes from now on while the vault's header in the database is another one.

        What this process seals would not open any more: the passphrase was changed while it ran.
        """
        self._vault = header

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with reading(self._engine) as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with writing(self._engine) as db:
            yield db

    @contextmanager
    def _recording(self) -> Iterator[tuple[Connection, Recorder]]:
        """A transaction that can append to the audit log.

        The log's head is locked from the start, so that such transactions are one after another on every database,
        and what one of them checks still holds when it writes. Raises CapsuleHomeError as `pin_vault` says.
        """
        with writing(self._engine) as db:
            self.audit.lock(db)
            if self._vault is not None:
                present = db.execute(select(t.settings.c.value).where(t.settings.c.name == "vault")).scalar()
                if present != self._vault:
                    raise CapsuleHomeError("the passphrase was changed while this process ran: start it again")

            def record(kind: str, /, **body: Any) -> None:
                self.audit.append(db, kind, body)

            yield db, record


def insert_new(db: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Whether no row had this primary key; the row is inserted if so, and the one that is there stays."""
    insert = _insert(db, table).values(row).on_conflict_do_nothing()
    return db.execute(insert.returning(*table.primary_key)).first() is not None


def put(db: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Inserts the row, or changes the one with its primary key to it."""
    put_all(db, table, [row])


def put_all(db: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts the rows, all of the same columns, or changes those with their primary keys to them; of two the later."""
    keys = [column.name for column in table.primary_key]
    given = {tuple(row[name] for name in keys): dict(row) for row in rows}
    if not given:
        return
    statement = _insert(db, table)
    changed = [name for name in next(iter(given.values())) if name not in keys]
    changes = {name: statement.excluded[name] for name in changed}
    db.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes), list(given.values()))


def _insert(db: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)
