"""A CSV file as DuckDB reads it: dialect from its first line, records in order, errors that name the record."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import duckdb

from mine.errors import DataError

__all__ = ["CsvFile", "listed"]

_DELIMITERS = ",;\t|"
_MAX_LINE = 16 << 20
_SHOWN = 8
_PIECE = 1 << 20


class CsvFile:
    """An open CSV file with a header row that names `target`; a context manager."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path.expanduser().resolve()
        self.target = target
        self.delimiter, self.header = _first_line(self.path, target)
        _check_quotes(self.path, self.delimiter)
        # One thread keeps the records in the file's order; nothing is ever installed or loaded from elsewhere.
        options: dict[str, Any] = {
            "threads": 1,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._connection = duckdb.connect(":memory:", config=options)
        columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in self.header)
        self._table = (
            f"read_csv({_literal(str(self.path))}, auto_detect=false, header=true, delim={_literal(self.delimiter)}, "
            f"quote='\"', escape='\"', columns={{{columns}}}, max_line_size={_MAX_LINE}, parallel=false)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count_numbers(self, columns: list[str]) -> tuple[int, dict[str, int]]:
        """How many records there are, and in how many of them each column is a finite number."""
        counts = ", ".join(["count(*)", *(f"count({_number(column)})" for column in columns)])
        records, *found = self._query(f"SELECT {counts} FROM {self._table}")[0]  # noqa: S608  (names are quoted)
        return records, dict(zip(columns, found, strict=True))

    def labels(self, limit: int) -> list[tuple[str, int]]:
        """The distinct values of the target column with their number of records, at most `limit` of them."""
        return self._query(
            f"SELECT coalesce(trim({_quoted(self.target)}), ''), count(*) FROM {self._table} "  # noqa: S608  (quoted)
            f"GROUP BY 1 ORDER BY 1 LIMIT {limit}"
        )

    def first_without_number(self, column: str) -> tuple[int, str | None]:
        """The first record, counted from 1, in which the column is not a finite number, and what stands there."""
        return self._first(f"{_number(column)} IS NULL", column)

    def first_without_label(self) -> int:
        """The first record, counted from 1, without a label."""
        return self._first(f"coalesce(trim({_quoted(self.target)}), '') = ''", self.target)[0]

    def batches(self, columns: list[str], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The records in the file's order: the columns as finite numbers or None, then the label or None."""
        wanted = ", ".join([*map(_number, columns), f"trim({_quoted(self.target)})"])
        with self._readable():
            self._connection.execute(f"SELECT {wanted} FROM {self._table}")  # noqa: S608  (names are quoted)
        while True:
            with self._readable():
                rows = self._connection.fetchmany(size)
            if not rows:
                return
            yield rows

    def _first(self, condition: str, column: str) -> tuple[int, str | None]:
        rows = self._query(
            f"SELECT record, {_quoted(column)} FROM (SELECT row_number() OVER () AS record, * FROM {self._table}) "  # noqa: S608
            f"WHERE {condition} LIMIT 1"
        )
        record, value = rows[0]
        return int(record), value

    def _query(self, query: str) -> list[Any]:
        with self._readable():
            return self._connection.execute(query).fetchall()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            problem = " ".join(lines[:3])[:500]
            if "state machine" in problem:  # what DuckDB says where line ends change, e.g. from \r\n to \n
                problem = "its lines do not all end alike, or its quotes do not match: save it anew"
            raise DataError(f"{self.path} is not a readable CSV file: {problem}") from error


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Some names for a message, never too many of them."""
    shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _first_line(file: Path, target: str) -> tuple[str, list[str]]:
    """The delimiter under which the first line names the target, and all of its names."""
    if any(character in str(file) for character in "*?["):
        raise DataError(f"the path {file} has one of the characters * ? [: rename the file or its folder")
    if not file.is_file():
        raise DataError(f"there is no file {file}: give the path of a CSV file")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            line = stream.readline(_MAX_LINE)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: save it as a CSV file in UTF-8") from error
    if not line.strip():
        raise DataError(f"{file} has no header row: its first line must name the columns, among them {target!r}")
    headers = {delimiter: _split(line, delimiter) for delimiter in _DELIMITERS}
    fitting = [delimiter for delimiter, names in headers.items() if target in names]
    if not fitting:
        raise DataError(
            f"{file} has no column {target!r}: its first line names {listed(max(headers.values(), key=len))}"
        )
    _check_names(file, headers[fitting[0]])
    return fitting[0], headers[fitting[0]]


def _check_quotes(file: Path, delimiter: str) -> None:
    """Raises DataError for a quote that is never closed: DuckDB would leave out all records from there on."""
    try:
        with file.open("rb") as stream:
            quotes = sum(piece.count(b'"') for piece in iter(lambda: stream.read(_PIECE), b""))
        if quotes % 2:  # may also be a quote inside of a value without quotes, which does no harm
            with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
                _read_all(file, csv.reader(text, delimiter=delimiter, strict=True))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _read_all(file: Path, rows: Any) -> None:
    line = 0
    try:
        for _ in rows:
            line = rows.line_num
    except csv.Error as error:
        raise DataError(
            f"{file}: a quote in the record that starts at line {line + 1} is never closed: close or remove it"
        ) from error


def _check_names(file: Path, names: list[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name:
            raise DataError(f"{file}: column {position + 1} has no name in the first line")
        if name.lower() in seen:
            raise DataError(f"{file} has the column {name!r} twice (capitals do not tell columns apart): rename one")
        seen.add(name.lower())


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _number(column: str) -> str:
    """SQL for the column's finite number, else NULL."""
    value = f"try_cast(trim({_quoted(column)}) AS DOUBLE)"
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
