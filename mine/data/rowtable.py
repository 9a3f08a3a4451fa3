"""Tables that come row by row: a query to a SQLite file or to PostgreSQL, read and never written."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import numpy as np

from mine.data.filequery import ONE_SELECT
from mine.data.readings import Reading, TextCounts
from mine.data.source import Source
from mine.data.tables import (
    Chunk,
    Chunks,
    Labels,
    check_columns,
    check_words,
    chunk_rows,
    numbers_of,
    require_columns,
)
from mine.errors import DataError, SourceAwayError

__all__ = ["PostgresTable", "SqliteTable"]

_MAX_VALUE = 1 << 20
"""Bytes of one value in a SQLite file."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_CURSOR = "sonar_mine"
Rows = list[tuple[Any, ...]]


class SqliteTable:
    """A query to a SQLite file, opened for reading only; a context manager."""

    left: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self._source = source
        self.readings: dict[str, Reading] = {}
        self.tolerant = False
        path = Path(source.location)
        if not path.is_file():
            raise DataError(f"there is no file {path}: was it moved?")
        with self._readable():
            # Other threads may close it; only one uses it at a time.
            self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
        try:
            with self._readable():
                self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
                self._db.execute("PRAGMA trusted_schema = OFF")
                self._db.execute("PRAGMA query_only = ON")
                self._db.set_authorizer(_authorize)
            self.columns = self._names()
        except BaseException:
            self._db.close()
            raise

    @property
    def shown(self) -> str:
        """The source in a message."""
        return self._source.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def chunks(self, numbers: Sequence[str], label: str | None, labels: Labels) -> Chunks:
        """As `Table.chunks` says."""
        require_columns(self._source.shown, self.columns, [*numbers, *([] if label is None else [label])])
        yield from _chunks(self, self._pieces(), numbers, label, labels)

    def count_texts(self, columns: Sequence[str]) -> dict[str, TextCounts]:
        """As `Table.count_texts` says."""
        return _count_texts(self._pieces(), self.columns, columns)

    def _pieces(self) -> Iterator[Rows]:
        with self._readable():
            cursor = self._db.execute(self._source.query or "")
        size = chunk_rows(len(self.columns))

        def more() -> Rows:
            with self._readable():
                return cursor.fetchmany(size)

        yield from iter(more, [])

    def _names(self) -> tuple[str, ...]:
        with self._readable():
            cursor = self._db.execute(self._source.query or "")
            names = [column[0] for column in cursor.description or ()]
            cursor.close()
        if not names:
            raise DataError(ONE_SELECT)
        check_columns("the query's result", names)
        return tuple(names)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Warning as error:  # what older Pythons raise for a second statement
            raise DataError(ONE_SELECT) from error
        except sqlite3.DatabaseError as error:
            if "not authorized" in str(error) or "prohibited" in str(error) or "one statement" in str(error):
                raise DataError(ONE_SELECT) from error
            raise DataError(f"{self._source.shown} cannot be read with SQLite: {error}") from error
        except (UnicodeError, OverflowError) as error:
            raise DataError(f"{self._source.shown} has a value that cannot be read: {error}") from error


class PostgresTable:
    """A query to PostgreSQL in a transaction that only reads, its rows fetched in pieces; a context manager.

    The password comes from where libpq looks: PGPASSFILE, PGSERVICEFILE or PGPASSWORD.
    """

    left: tuple[str, ...] = ()
    when_connected: ClassVar[list[Callable[[], None]]] = []
    """Called once there is a connection and before anything is asked: a process apart forbids all others then."""

    def __init__(self, source: Source) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise DataError(
                "reading PostgreSQL takes psycopg: install it with pip install 'sonar-marketplace[postgres]'"
            ) from error
        self._source, self._psycopg = source, psycopg
        self.readings: dict[str, Reading] = {}
        self.tolerant = False
        with self._readable():
            self._db = psycopg.connect(source.location, connect_timeout=10, application_name="sonar mine")
        for call in self.when_connected:
            call()
        try:
            with self._readable():
                self._db.set_read_only(True)
                self._db.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            self.columns = self._names()
        except BaseException:
            self._db.close()
            raise

    @property
    def shown(self) -> str:
        """The source in a message."""
        return self._source.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def chunks(self, numbers: Sequence[str], label: str | None, labels: Labels) -> Chunks:
        """As `Table.chunks` says."""
        require_columns(self._source.shown, self.columns, [*numbers, *([] if label is None else [label])])
        yield from _chunks(self, self._pieces(), numbers, label, labels)

    def count_texts(self, columns: Sequence[str]) -> dict[str, TextCounts]:
        """As `Table.count_texts` says."""
        return _count_texts(self._pieces(), self.columns, columns)

    def _pieces(self) -> Iterator[Rows]:
        size = chunk_rows(len(self.columns))
        cursor = self._db.cursor(name=_CURSOR)

        def more() -> Rows:
            with self._readable():
                return cursor.fetchmany(size)

        try:
            with self._readable():
                cursor.execute(self._query())
            yield from iter(more, [])
        finally:
            with self._readable():
                cursor.close()

    def _names(self) -> tuple[str, ...]:
        with self._readable():
            # Parsed by the extended protocol, which takes one statement only; the cursor's own takes several.
            parsed = self._db.pgconn.prepare(b"", self._query())
            if parsed.status != self._psycopg.pq.ExecStatus.COMMAND_OK:
                raise self._psycopg.errors.error_from_result(parsed)
            with self._db.cursor(name=_CURSOR) as cursor:
                cursor.execute(self._query())
                names = [column.name for column in cursor.description or ()]
        if not names:
            raise DataError(ONE_SELECT)
        check_columns("the query's result", names)
        return tuple(names)

    def _query(self) -> bytes:
        # As bytes, so that no percent sign is taken for a parameter. A cursor takes one SELECT, VALUES or WITH only.
        return (self._source.query or "").encode()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        errors = self._psycopg.errors
        try:
            yield
        except (errors.ReadOnlySqlTransaction, errors.SyntaxError) as error:
            raise DataError(f"{ONE_SELECT} ({_first_line(error)})") from error
        except self._psycopg.OperationalError as error:
            said = f"{self._source.shown} cannot be read now: {_first_line(error)}"
            if "password" in said:
                said += "; libpq takes it from ~/.pgpass (mode 600), or where PGPASSFILE or PGSERVICE says"
            raise SourceAwayError(said) from error
        except self._psycopg.DataError as error:  # the server repeats the value
            raise DataError(
                f"{self._source.shown} has a value that the query cannot take ({type(error).__name__}): convert it "
                "another way, or leave such records out"
            ) from error
        except (self._psycopg.Error, UnicodeError) as error:
            raise DataError(f"{self._source.shown} cannot be read: {_first_line(error)}") from error


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _chunks(
    table: "SqliteTable | PostgresTable", pieces: Iterator[Rows], numbers: Sequence[str], label: str | None,
    labels: Labels,
) -> Chunks:  # fmt: skip
    places = [table.columns.index(name) for name in numbers]
    readings = [table.readings.get(name, "plain") for name in numbers]
    where = None if label is None else table.columns.index(label)
    for rows in pieces:
        values = np.empty((len(rows), len(places)), order="F")
        for at, (place, reading) in enumerate(zip(places, readings, strict=True)):
            values[:, at] = numbers_of([row[place] for row in rows], reading)
        check_words(table.shown, numbers, values, table.readings, tolerant=table.tolerant)
        codes = None if where is None else labels.codes(_text(row[where]) for row in rows)
        yield Chunk(values, codes)


def _count_texts(pieces: Iterator[Rows], columns: tuple[str, ...], wanted: Sequence[str]) -> dict[str, TextCounts]:
    places = {name: columns.index(name) for name in wanted}
    counts = {name: TextCounts.of(()) for name in wanted}
    for rows in pieces:
        for name, place in places.items():
            texts = (text.strip() for row in rows if (text := _text(row[place])) is not None)
            counts[name] += TextCounts.of(filter(None, texts))
    return counts


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
