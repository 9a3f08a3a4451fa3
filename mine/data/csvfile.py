"""A CSV file for DuckDB: the dialect from its first line, and faults that DuckDB would pass over."""

import csv
from pathlib import Path
from typing import Any

from mine.data._sqltext import literal
from mine.data.dataset import listed
from mine.data.tables import check_columns
from mine.errors import DataError

__all__ = ["csv_relation"]

_DELIMITERS = ",;\t|"
_MAX_LINE = 16 << 20
_PIECE = 1 << 20


def csv_relation(file: Path, target: str) -> tuple[str, list[str]]:
    """The SQL that reads a file with a header row that names `target`, every value as text, and all columns' names.

    Raises DataError for a file without such a row, one that is not UTF-8, and a quote that is never closed.
    """
    delimiter, header = _first_line(file, target)
    _check_quotes(file, delimiter)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    relation = (
        f"read_csv({literal(str(file))}, auto_detect=false, header=true, delim={literal(delimiter)}, "
        f"quote='\"', escape='\"', columns={{{columns}}}, max_line_size={_MAX_LINE}, parallel=false)"
    )
    return relation, header


def _first_line(file: Path, target: str) -> tuple[str, list[str]]:
    """The delimiter under which the first line names the target, and all of its names."""
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
    check_columns(str(file), headers[fitting[0]])
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


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
