"""Opening a database by its URL: SQLite (WAL) in a file, or PostgreSQL through psycopg. A password is never shown."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from capsule.errors import CapsuleDatabaseError, CapsuleError, CapsuleHomeError

__all__ = ["answering", "check_answers", "describe", "open_engine", "reading", "reason", "scrub", "unusable", "writing"]

_BUSY_SECONDS = 30
_OLDEST_POSTGRESQL = 14
_NO_PRIVILEGE = "42501"
"""The SQLSTATE of what a role may not do."""
_OLDEST_SQLITE = (3, 37)  # strict tables
_SQLITE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # what is deleted is overwritten, and not only forgotten
)
_POSTGRESQL = (
    "SET TIME ZONE 'UTC'",
    # The head of the audit log is locked by every change: who hangs must not hold it for ever.
    f"SET lock_timeout = '{_BUSY_SECONDS}s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    # Longer than any query of a transaction that others wait for.
    "SET statement_timeout = '120s'",
    # A worker whose machine is gone must not hold claims for hours.
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


def open_engine(target: str | Path, *, create: bool = True) -> Engine:
    """An engine for a SQLite file, given as a path, or for a database URL; raises CapsuleHomeError for another one.

    Without `create` a SQLite file must be there already.
    """
    url = URL.create("sqlite", database=str(target)) if isinstance(target, Path) else _parse(target)
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url, create=create)
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return _open_postgresql(url.set(drivername="postgresql+psycopg"))
    raise CapsuleHomeError(
        f"a database of {url.drivername} cannot be used: give sqlite:////path/to/file or postgresql://host/database"
    )


def describe(engine: Engine) -> str:
    """The database for people, without user, password and options."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = "" if url.port is None else f":{url.port}"
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


@contextmanager
def reading(engine: Engine, *, consistent: bool = False) -> Iterator[Connection]:
    """A transaction that changes nothing and waits for nobody; raises CapsuleDatabaseError as `writing` does.

    With `consistent` all its queries see the same moment, which on SQLite they always do, for as long as it takes.
    """
    options: dict[str, Any] = {"capsule_reads": True, "postgresql_readonly": True}
    if consistent and engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    with answering(engine), engine.connect().execution_options(**options) as db, db.begin():
        if "isolation_level" in options:
            db.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            db.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield db


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction; raises CapsuleDatabaseError where the database does not answer or stays busy."""
    with answering(engine), engine.begin() as db:
        yield db


@contextmanager
def answering(engine: Engine) -> Iterator[None]:
    """Raises CapsuleDatabaseError where the database does not answer, or answers that it is damaged.

    Raises CapsuleError for a number beyond 64 bits.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise CapsuleDatabaseError(f"the database {describe(engine)} cannot be used now: {reason(error)}") from error
    except (DataError, OverflowError) as error:  # of PostgreSQL and of SQLite
        raise CapsuleError(f"the database {describe(engine)} cannot hold a value: {reason(error)}") from error
    except IntegrityError:
        raise  # a mistake of ours
    except DatabaseError as error:
        if getattr(error.orig, "sqlstate", None) == _NO_PRIVILEGE:
            raise CapsuleDatabaseError(
                f"the database {describe(engine)} refuses what the Capsule asks ({reason(error)}): connect as the "
                "owner of its tables, or make the role that"
            ) from error
        raise CapsuleDatabaseError(
            f"the database {describe(engine)} is damaged or was changed by others ({reason(error)}): restore a backup"
        ) from error


def reason(error: Exception) -> str:
    """The driver's own sentence: it knows hosts and accounts, but neither passwords nor rows."""
    told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(told).strip().partition("\n")[0]


def scrub(engine: Engine, seconds: float) -> bool:
    """Writes SQLite's log into its file and empties it; False where somebody still reads it after some seconds.

    Who would write waits meanwhile.
    """
    with answering(engine), closing(engine.raw_connection()) as db:
        cursor = db.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = cursor.fetchone() or (1, 0, 0)
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    return not busy


def _parse(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, and so may the parser's error.
        raise CapsuleHomeError(
            "the database's URL cannot be read: give sqlite:////path/to/file or postgresql://user@host/database"
        ) from None


def _open_sqlite(url: URL, *, create: bool) -> Engine:
    if url.drivername not in {"sqlite", "sqlite+pysqlite"} or not url.database or url.database == ":memory:":
        raise CapsuleHomeError("SQLite needs a file here: give sqlite:////path/to/file")
    if url.query:
        raise CapsuleHomeError("a SQLite URL takes no options here: give sqlite:////path/to/file")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise CapsuleHomeError(f"this Python has SQLite {sqlite3.sqlite_version}: use one with {oldest} or newer")
    if not create and not Path(url.database).exists():
        raise CapsuleHomeError(f"there is no database at {Path(url.database).absolute()}: is its name mistyped?")
    try:
        Path(url.database).touch(mode=0o600)
        names = Path(url.database).stat().st_nlink
    except OSError as error:
        raise CapsuleHomeError(f"the database {url.database} cannot be opened: {error.strerror}") from error
    if names > 1:  # SQLite keeps a log by name, so who opens it by another one would not see this one's
        raise CapsuleHomeError(
            f"{url.database} has {names} names (hard links), by which it could be opened twice: remove the others, "
            "which `find -samefile` lists"
        )
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
        for pragma in _SQLITE:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("capsule_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _open_postgresql(url: URL) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args=_PATIENCE, hide_parameters=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise CapsuleHomeError("PostgreSQL needs psycopg: run pip install 'sonar-marketplace[postgres]'") from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for statement in _POSTGRESQL:
                cursor.execute(statement)
        connection.commit()

    return engine


def check_answers(engine: Engine) -> None:
    """Raises CapsuleHomeError unless the database can be reached and is one that a Capsule can use."""
    try:
        with engine.connect() as db:
            if engine.dialect.name == "postgresql":
                _check_postgresql(db, describe(engine))
    except OperationalError as error:
        server = engine.dialect.name == "postgresql"
        hint = ": check host and user in its URL, and the password in PGPASSFILE's file" if server else ""
        raise CapsuleHomeError(f"the database {describe(engine)} cannot be opened: {reason(error)}{hint}") from error
    except DatabaseError as error:
        raise unusable(engine, error) from error


def unusable(engine: Engine, error: DatabaseError) -> CapsuleHomeError:
    """What to tell of a database that gave this error when it was opened: a file is none, a server says why."""
    if engine.dialect.name == "sqlite":
        return CapsuleHomeError(f"{describe(engine)} is not a Capsule's database: move it away or restore a backup")
    return CapsuleHomeError(
        f"the database {describe(engine)} cannot be opened: {reason(error)}: correct its URL, or what its role may do"
    )


def _check_postgresql(db: Connection, where: str) -> None:
    encoding = db.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise CapsuleHomeError(f"the database {where} has the encoding {encoding}: make one with UTF8")
    number = int(db.exec_driver_sql("SHOW server_version_num").scalar_one())
    if number < _OLDEST_POSTGRESQL * 10_000:
        raise CapsuleHomeError(
            f"{where} is a PostgreSQL {number // 10_000}: give one of version {_OLDEST_POSTGRESQL} or newer"
        )
