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
from mine.data.arrow import Doubles, Texts, integers
from mine.data.csvfile import csv_relation, unpacked
from mine.data.duckerrors import MEMORY, problem_of
from mine.data.filequery import resolve_query
from mine.data.readings import CLEAR_COMMA, COMMA_NUMBER, PAIRS, Reading, TextCounts
from mine.data.source import Kind, Source, find_files
from mine.data.tables import (
    Chunk,
    Chunks,
    Codes,
    Floats,
    Labels,
    check_columns,
    check_words,
    chunk_rows,
    require_columns,
)
from mine.errors import DataError

__all__ = ["DuckTable"]

_ARROW_COLUMNS = 64
"""DuckDB hands out 131,072 records at once, which of more columns is too much: they are fetched row by row instead."""
_PIECE = 1 << 15
"""Records that are copied at once: for fewer, two threads wait longer for the interpreter than they copy."""
_APART = 72
"""Numbers between two columns: a power of two apart, they would push each other out of the cache."""
_AHEAD = 3
_COUNTED = 32
"""Columns whose texts are counted by one query."""
_BEGINNING = 4096
"""Bytes of a file that tell whether it is an array."""
_WORDS = [word for pair in PAIRS.values() for word in pair]
_TEXT = {"VARCHAR", "JSON"}
_NUMBERS = {
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "UHUGEINT", "FLOAT", "DOUBLE",
}  # fmt: skip
_LABELS = {"DATE", "UUID", "TIMESTAMP", "TIME"}


_SETTINGS: dict[str, Any] = {
    # One thread streams the records in their order, and the other cores are free to multiply them.
    "threads": 1,
    "memory_limit": MEMORY,
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
        self.readings: dict[str, Reading] = {}
        self.tolerant = False
        files: list[Path] = [] if source.kind is Kind.SQL else source.files()
        types: dict[str, str] = {}
        if source.kind is Kind.CSV:
            relation, columns = csv_relation(files[0], target)
            types = dict.fromkeys(columns, "VARCHAR")
        self._connection = _connect(source, files, wide=len(types) > _ARROW_COLUMNS)
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
            check_words(self._source.shown, numbers, values, self.readings, tolerant=self.tolerant)
            if label is None:
                yield Chunk(values)
                continue
            codes = places - 1
            unknown = np.flatnonzero(codes < 0)
            if len(unknown):
                codes[unknown] = labels.codes(others(unknown))
            yield Chunk(values, codes)

    def count_texts(self, columns: Sequence[str]) -> dict[str, TextCounts]:
        """As `Table.count_texts` says."""
        texts = [name for name in columns if not _numeric(self._types_of[name])]
        found = {}
        for start in range(0, len(texts), _COUNTED):
            some = texts[start : start + _COUNTED]
            counts = ", ".join(count for name in some for count in _counts(self._text(name)))
            with self._readable():
                row = self._connection.execute(f"SELECT {counts} FROM {self._from}").fetchall()[0]  # noqa: S608
            wide = len(row) // len(some)
            for at, name in enumerate(some):
                there, commas, clear, *words = row[at * wide : (at + 1) * wide]
                found[name] = TextCounts(there, dict(zip(_WORDS, words, strict=True)), commas, clear)
        return found

    def _by_column(self, query: str, numbers: int) -> Iterator[tuple[Floats, Codes, Any]]:
        # Cut where they are read: who sums up has the longer work.
        with ahead(self._cut(query, numbers), depth=_AHEAD) as pieces:
            yield from pieces

    def _cut(self, query: str, numbers: int) -> Iterator[tuple[Floats, Codes, Any]]:
        for batch in self._batches(query):
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
        doubles = [Doubles(column) for column in columns[:numbers]]
        places = integers(columns[numbers]) if len(columns) > numbers else None
        texts = Texts(columns[numbers + 1]) if len(columns) > numbers else None
        for start in range(0, len(batch), _PIECE):
            part = slice(start, min(len(batch), start + _PIECE))
            values = np.empty((numbers, part.stop - start + _APART)).T[: part.stop - start]
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
            return f"read_json({paths}, format={literal(_json_format(files))}, sample_size=-1, maximum_depth=2)"
        with self._readable():
            for file in files:
                rows = self._connection.execute(
                    "SELECT name FROM parquet_schema(?) WHERE num_children IS NULL", [str(file)]
                ).fetchall()
                check_columns(str(file), [name for (name,) in rows])
        return f"read_parquet({paths})"

    def _checked(self, query: str) -> str:
        """The query with its files' whole names, if all that it does is to select."""
        resolved, files = resolve_query(query, Path(self._source.location))
        with self._readable():
            for name in files:
                self._check_pattern(name)
            names = [name for name, *_ in self._connection.execute(f"DESCRIBE {resolved}").fetchall()]
        check_columns("the query's result", names)
        return resolved

    def _check_pattern(self, name: str) -> None:
        """Raises DataError where a pattern means other files to DuckDB than to who watches and digests them."""
        found = {Path(file).resolve() for (file,) in self._connection.execute("FROM glob(?)", [name]).fetchall()}
        if found != set(find_files(Path(name))):
            raise DataError(f"the pattern {name} finds other files for DuckDB than for this program: name the files")

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
        if _numeric(kind):
            return f"CAST({column} AS DOUBLE)"
        text, reading = self._text(name), self.readings.get(name, "plain")
        number, other = f"try_cast({text} AS DOUBLE)", "'infinity'::DOUBLE"
        if reading == "comma":
            number = f"CASE WHEN NOT contains({text}, '.') THEN try_cast(replace({text}, ',', '.') AS DOUBLE) END"
        elif reading in PAIRS:
            yes, no = map(literal, PAIRS[reading])
            number, other = f"CASE lower({text}) WHEN {yes} THEN 1.0 WHEN {no} THEN 0.0 END", f"-{other}"
        # Kept simple: of wide tables, DuckDB's planning would else take longer than the reading.
        return f"CASE WHEN coalesce({text}, '') = '' THEN NULL ELSE coalesce({number}, {other}) END"

    def _text(self, name: str) -> str:
        """SQL for what stands in the column, as text."""
        column = quoted(name)
        return f"trim({column} ->> '$')" if self._types_of[name] == "JSON" else f"trim(CAST({column} AS VARCHAR))"

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, nanoarrow._utils.NanoarrowException) as error:
            raise DataError(f"{self._source.shown} {problem_of(self._source.kind, str(error))}") from error


def _connect(source: Source, files: list[Path], *, wide: bool) -> Any:
    """A connection that reaches the source's files and nothing else, for good."""
    # Of thousands of columns, DuckDB compares every expression with every other for longer than it reads.
    settings = _SETTINGS | ({"disabled_optimizers": "common_subexpressions"} if wide else {})
    connection = duckdb.connect(":memory:", config=settings)
    statements = [f"allowed_paths = [{', '.join(literal(str(file)) for file in files)}]"]
    if source.kind is Kind.SQL:
        statements = [f"allowed_directories = [{literal(source.location)}]"]
    # Else a Parquet file's row groups, of which some writers make one of a million rows, are in memory as a whole.
    statements.append("disable_parquet_prefetching = true")
    statements.append("python_enable_replacements = false")  # a table's name is no variable of this program
    for statement in (*statements, "enable_external_access = false", "lock_configuration = true"):
        connection.execute(f"SET {statement}")
    return connection


def _json_format(files: list[Path]) -> str:
    """Whether files have a record a line, or one array of records, of which DuckDB takes one at a time as well."""
    formats = {}
    for file in files:
        with unpacked(file) as stream:
            start = stream.read(_BEGINNING).removeprefix(b"\xef\xbb\xbf").lstrip()
        formats["array" if start.startswith(b"[") else "newline_delimited"] = file
    if len(formats) > 1:
        one, other = formats.values()
        raise DataError(f"one of {one} and {other} is an array and the other has lines: add them one by one")
    return next(iter(formats))


def _numeric(kind: str) -> bool:
    return kind in _NUMBERS or kind.startswith("DECIMAL")


def _counts(text: str) -> list[str]:
    """SQL for what `TextCounts` has, from SQL for a text."""
    tests = [f"{text} <> ''", *(f"regexp_full_match({text}, {literal(form)})" for form in (COMMA_NUMBER, CLEAR_COMMA)),
             *(f"lower({text}) = {literal(word)}" for word in _WORDS)]  # fmt: skip
    return [f"count(*) FILTER (WHERE {test})" for test in tests]


def _usable(kind: str) -> bool:
    return kind in _TEXT | _NUMBERS | _LABELS or kind.startswith(("DECIMAL", "ENUM", "TIMESTAMP"))


def _nobody(_: Codes) -> list[str | None]:
    return []
