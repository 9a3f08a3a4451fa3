"""A CSV file for DuckDB: the dialect from its first line, and faults that DuckDB would pass over."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

from mine.data._sqltext import literal
from mine.data.dataset import listed
from mine.data.tables import check_columns
from mine.errors import DataError

__all__ = ["csv_relation", "unpacked"]

_DELIMITERS = ",;\t|"
_MAX_LINE = 16 << 20
_PIECE = 1 << 20
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet: unpack it, or save its sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet or document: save its sheet as CSV"),
    (b"\x1f\x8b", "packed with gzip: give its name the ending .gz"),
    (b"PAR1", "a Parquet file: give its name the ending .parquet"),
    (b"SQLite format 3\0", "an SQLite database: give its name the ending .sqlite"),
)
"""What other files begin with."""


def csv_relation(file: Path, target: str) -> tuple[str, list[str]]:
    """The SQL that reads a file with a header row that names `target`, every value as text, and all columns' names.

    Raises DataError for a file without such a row, one that is not UTF-8, and a quote that is never closed; for a
    packed one also where its checksum is wrong. No message has what may be a value of a record.
    """
    delimiter, header = _first_line(file, target)
    _check_quotes(file, delimiter)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    packing = "gzip" if _packed(file) else "none"
    relation = (
        f"read_csv({literal(str(file))}, auto_detect=false, header=true, delim={literal(delimiter)}, "
        f"quote='\"', escape='\"', columns={{{columns}}}, max_line_size={_MAX_LINE}, parallel=false, "
        f"compression={literal(packing)})"
    )
    return relation, header


@contextmanager
def unpacked(file: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """A file's bytes, unpacked as they are read where its name ends with .gz; raises DataError where it cannot be."""
    try:
        with file.open("rb") as raw:
            yield gzip.GzipFile(fileobj=raw) if _packed(file) else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file} is cut off or no whole gzip file: copy it again") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _packed(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _first_line(file: Path, target: str) -> tuple[str, list[str]]:
    """The delimiter under which the first line names the target, and all of its names."""
    try:
        with unpacked(file) as stream:
            head = stream.read(16)
        for beginning, what in _OTHERS:
            if head.startswith(beginning):
                raise DataError(f"{file} is no CSV file but {what}")
        with unpacked(file) as stream, TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            line, second = text.readline(_MAX_LINE), text.readline(_MAX_LINE)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: save it as a CSV file in UTF-8") from error
    if not line.strip():
        raise DataError(f"{file} has no header row: its first line must name the columns, among them {target!r}")
    headers = {delimiter: _split(line, delimiter) for delimiter in _DELIMITERS}
    fitting = [delimiter for delimiter, names in headers.items() if target in names]
    delimiter = fitting[0] if fitting else max(headers, key=lambda one: len(headers[one]))
    names = headers[delimiter]
    numbers = [name for name in names if _is_number(name)]
    if any(not name.isdecimal() for name in numbers) or (numbers and (not fitting or len(set(names)) < len(names))):
        raise DataError(
            f"{file} seems to have no header row: its first line looks like a record, which is not shown here; put a "
            f"line with the columns' names before it, among them {target!r}"
        )
    if not fitting:
        # Names for sure only where the next line has numbers; else they may be a record's words.
        known = any(map(_is_number, _split(second, delimiter)))
        found = f"names {listed(names)}" if known else f"has {len(names)} cells, none of them that"
        raise DataError(f"{file} has no column {target!r}: its first line {found}")
    check_columns(str(file), names)
    return delimiter, names


def _check_quotes(file: Path, delimiter: str) -> None:
    """Raises DataError for a quote that is never closed: DuckDB would leave out all records from there on."""
    with unpacked(file) as stream:
        quotes = sum(piece.count(b'"') for piece in iter(lambda: stream.read(_PIECE), b""))
    if quotes % 2:  # may also be a quote inside of a value without quotes, which does no harm
        with (
            unpacked(file) as stream,
            TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text,
        ):
            _read_all(file, csv.reader(text, delimiter=delimiter, strict=True))


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


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", ".", 1)))
    except ValueError:
        return False
