"""Tables that DuckDB reads: CSV, Parquet and JSON files, and any query over the files below a folder.

Every connection is in memory, may read the owner's files only, writes nothing to disk and loads no extension.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import duckdb
import nanoarrow
import numpy as np

from mine.data._sqltext import literal, quoted
from mine.data.ahead import ahead
from mine.data.csvfile import csv_relation
from mine.data.filequery import resolve_query
from mine.data.source import Kind, Source
from mine.data.tables import Chunk, Chunks, Codes, Floats, Labels, check_columns, chunk_rows, require_columns
from mine.errors import DataError

__all__ = ["DuckTable"]

_MEMORY = "1GB"
"""What DuckDB may use; streamed files need a small part of it, sorts and joins of a query as much as their tables."""
_ARROW_COLUMNS = 64
"""DuckDB hands out 131,072 records at once, which of more columns is too much: they are fetched row by row instead."""
_TEXT = {"VARCHAR", "JSON"}
_NUMBERS = {
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "UHUGEINT", "FLOAT", "DOUBLE",
}  # fmt: skip
_LABELS = {"DATE", "UUID", "TIMESTAMP", "TIME"}


_SETTINGS: dict[str, Any] = {
    # One thread streams the records in their order, and the other cores are free to multiply them.
    "threads": 1,
    "memory_limit": _MEMORY,
    "temp_directory": "",  # private records never go to a disk that their owner did not choose
    "enable_external_file_cache": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class DuckTable:
    """An open source of the kinds csv, parquet, jsonl and sql; a context manager.

    `target` tells a CSV file's delimiter. Raises DataError for what is not readable or asks for more than reading.
    """

    def __init__(self, source: Source, target: str) -> None:
        self._source = source
        files: list[Path] = [] if source.kind is Kind.SQL else source.files()
        if source.kind is Kind.CSV:
            relation, columns = csv_relation(files[0], target)
            types = dict.fromkeys(columns, "VARCHAR")
        self._connection = _connect(source, files)
        try:
            if source.kind is not Kind.CSV:
                relation = self._relation(files)
                types = self._types(relation)
            self._from, self._types_of = relation, types
            self.columns = tuple(name for name, kind in types.items() if _usable(kind))
            self.left = tuple(name for name, kind in types.items() if not _usable(kind))
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def chunks(self, numbers: Sequence[str], label: str | None, labels: Labels) -> Chunks:
        """As `Table.chunks` says."""
        require_columns(self._source.shown, self.columns, [*numbers, *([] if label is None else [label])])
        wanted = [f"{self._number(name)} AS n{place}" for place, name in enumerate(numbers)]
        if label is not None:
            known = "[" + ", ".join(map(literal, labels.names)) + "]::VARCHAR[]"
            text = self._text(label)
            # Labels that are known come as numbers, so that a string is made of the others only.
            wanted += [f"coalesce(list_position({known}, {text}), 0)::BIGINT AS place",
                       f"CASE WHEN list_position({known}, {text}) IS NULL THEN {text} END AS label"]  # fmt: skip
        query = f"SELECT {', '.join(wanted)} FROM {self._from}"  # noqa: S608  (names are quoted)
        rows = self._by_column(query, len(numbers)) if len(numbers) <= _ARROW_COLUMNS else self._by_row(query, numbers)
        for values, places, others in rows:
            if label is None:
                yield Chunk(values)
                continue
            codes = places - 1
            unknown = np.flatnonzero(codes < 0)
            if len(unknown):
                codes[unknown] = labels.codes(others(unknown))
            yield Chunk(values, codes)

    def _by_column(self, query: str, numbers: int) -> Iterator[tuple[Floats, Codes, Any]]:
        # What is worked on, the next and the one after: some 100 bytes a record and column.
        with ahead(self._batches(query), depth=1) as batches:
            for batch in batches:
                yield from self._pieces(batch, numbers)

    def _batches(self, query: str) -> Iterator[Any]:
        with self._readable():
            stream = iter(nanoarrow.ArrayStream(self._connection.sql(query)))
        while True:
            with self._readable():
                batch = next(stream, None)
            if batch is None:
                return
            yield batch

    @staticmethod
    def _pieces(batch: Any, numbers: int) -> Iterator[tuple[Floats, Codes, Any]]:
        columns = [nanoarrow.c_array(child) for child in batch.iter_children()]
        doubles = [_Doubles(column) for column in columns[:numbers]]
        places = _integers(columns[numbers]) if len(columns) > numbers else None
        texts = _Texts(columns[numbers + 1]) if len(columns) > numbers else None
        for start in range(0, len(batch), chunk_rows(numbers)):
            part = slice(start, min(len(batch), start + chunk_rows(numbers)))
            values = np.empty((part.stop - start, numbers), order="F")
            for place, column in enumerate(doubles):
                column.copy(part, values[:, place])
            if places is None or texts is None:
                yield values, np.zeros(len(values), dtype=np.int64), _nobody
            else:
                yield values, places[part], partial(texts.at, start)

    def _by_row(self, query: str, numbers: Sequence[str]) -> Iterator[tuple[Floats, Codes, Any]]:
        with self._readable():
            self._connection.execute(query)
        width = len(numbers)
        while True:
            with self._readable():
                rows = self._connection.fetchmany(chunk_rows(width))
            if not rows:
                return
            values = np.array([row[:width] for row in rows], dtype=np.float64)
            if len(rows[0]) == width:
                yield values, np.zeros(len(rows), dtype=np.int64), _nobody
            else:
                found = np.array([row[width] for row in rows], dtype=np.int64)
                yield values, found, lambda which, rows=rows: [rows[at][width + 1] for at in which]

    def _relation(self, files: list[Path]) -> str:
        paths = "[" + ", ".join(literal(str(file)) for file in files) + "]"
        if self._source.kind is Kind.SQL:
            return f"({self._checked(self._source.query or '')})"
        if any(file.stat().st_size == 0 for file in files):
            raise DataError(f"{self._source.shown} is empty: give a file with records")
        if self._source.kind is Kind.JSONL:
            # All types are found before the first record is read, so that a late one does not surprise.
            return f"read_json({paths}, format='newline_delimited', sample_size=-1, maximum_depth=2)"
        with self._readable():
            for file in files:
                rows = self._connection.execute(
                    "SELECT name FROM parquet_schema(?) WHERE num_children IS NULL", [str(file)]
                ).fetchall()
                check_columns(str(file), [name for (name,) in rows])
        return f"read_parquet({paths})"

    def _checked(self, query: str) -> str:
        """The query with its files' whole names, if all that it does is to select."""
        resolved, _ = resolve_query(query, Path(self._source.location))
        with self._readable():
            names = [name for name, *_ in self._connection.execute(f"DESCRIBE {resolved}").fetchall()]
        check_columns("the query's result", names)
        return resolved

    def _types(self, relation: str) -> dict[str, str]:
        with self._readable():
            found = self._connection.sql(f"SELECT * FROM {relation}")  # noqa: S608  (the owner's own query, checked)
            types = {str(name): str(kind) for name, kind in zip(found.columns, found.types, strict=True)}
        check_columns(self._source.shown, list(types))
        return types

    def _number(self, name: str) -> str:
        """SQL for the column's number: NULL where nothing stands, infinite for what is none."""
        column, kind = quoted(name), self._types_of[name]
        if kind == "DOUBLE":
            return column
        if kind in _NUMBERS or kind.startswith("DECIMAL"):
            return f"CAST({column} AS DOUBLE)"
        text = self._text(name)
        number, truth = f"try_cast({text} AS DOUBLE)", f"try_cast({text} AS BOOLEAN)::DOUBLE"
        # Kept simple: of wide tables, DuckDB's planning would else take longer than the reading.
        return f"CASE WHEN coalesce({text}, '') = '' THEN NULL ELSE coalesce({number}, {truth}, 'infinity'::DOUBLE) END"

    def _text(self, name: str) -> str:
        """SQL for what stands in the column, as text."""
        column = quoted(name)
        return f"trim({column} ->> '$')" if self._types_of[name] == "JSON" else f"trim(CAST({column} AS VARCHAR))"

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, nanoarrow._utils.NanoarrowException) as error:
            raise DataError(f"{self._source.shown} {_problem(self._source.kind, str(error))}") from error


def _connect(source: Source, files: list[Path]) -> Any:
    """A connection that reaches the source's files and nothing else, for good."""
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    statements = [f"allowed_paths = [{', '.join(literal(str(file)) for file in files)}]"]
    if source.kind is Kind.SQL:
        statements = [f"allowed_directories = [{literal(source.location)}]"]
    # Else a Parquet file's row groups, of which some writers make one of a million rows, are in memory as a whole.
    statements.append("disable_parquet_prefetching = true")
    for statement in (*statements, "enable_external_access = false", "lock_configuration = true"):
        connection.execute(f"SET {statement}")
    return connection


def _usable(kind: str) -> bool:
    return kind in _TEXT | _NUMBERS | _LABELS or kind.startswith(("DECIMAL", "ENUM", "TIMESTAMP"))


class _Doubles:
    """An Arrow column of doubles."""

    def __init__(self, column: Any) -> None:
        view = column.view()
        part = slice(column.offset, column.offset + len(column))
        self._values = np.asarray(view.buffer(1))[part]
        self._valid: Any = None
        if column.null_count:
            bits = np.frombuffer(view.buffer(0), dtype=np.uint8)
            self._valid = np.unpackbits(bits, bitorder="little", count=part.stop)[part]

    def copy(self, part: slice, target: Floats) -> None:
        """Copies a part, NaN where it has no value."""
        target[:] = self._values[part]
        if self._valid is not None:
            target[self._valid[part] == 0] = np.nan


class _Texts:
    """An Arrow column of texts, made into strings where they are asked for."""

    def __init__(self, column: Any) -> None:
        view = column.view()
        self._offset = column.offset
        self._ends, self._data = np.asarray(view.buffer(1)), memoryview(view.buffer(2))
        self._valid = np.frombuffer(view.buffer(0), dtype=np.uint8) if column.null_count else None

    def at(self, start: int, which: Codes) -> list[str | None]:
        """The texts of some records, counted from `start`."""
        return [self._text(at) for at in (which + (start + self._offset)).tolist()]

    def _text(self, at: int) -> str | None:
        if self._valid is not None and not self._valid[at // 8] >> at % 8 & 1:
            return None
        return bytes(self._data[self._ends[at] : self._ends[at + 1]]).decode()


def _integers(column: Any) -> Codes:
    found: Codes = np.asarray(column.view().buffer(1))[column.offset : column.offset + len(column)]
    return found


def _nobody(_: Codes) -> list[str | None]:
    return []


def _problem(kind: Kind, message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    problem = " ".join(lines[:3])[:500]
    if "state machine" in problem:  # what DuckDB says where line ends change, e.g. from \r\n to \n
        problem = "its lines do not all end alike, or its quotes do not match: save it anew"
    if "Out of Memory" in problem:
        return f"takes more than {_MEMORY} of memory to be read: ask for less, without sorts and joins of large tables"
    if "file system operations are disabled" in problem:
        return "is all that the query may read: name files below this folder"
    what = {Kind.CSV: "CSV file", Kind.PARQUET: "Parquet file", Kind.JSONL: "file of JSON lines", Kind.SQL: "query"}
    return f"is not a readable {what[kind]}: {problem}"
