"""What every reader gives: records chunk by chunk, as numbers and as labels; the readers' common ground."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mine.data.dataset import listed
from mine.data.readings import PAIRS, Reading, TextCounts
from mine.errors import DataError

__all__ = [
    "MAX_COLUMNS", "NO_LABEL", "OTHER_LABEL", "STRANGE", "Chunk", "Chunks", "Floats", "Labels", "Table",
    "check_columns", "check_words", "chunk_rows", "numbers_of", "require_columns",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

MAX_COLUMNS = 4096
"""Twice what a campaign can ask for; DuckDB takes some 50 kB of memory for each."""
NO_LABEL = -1
OTHER_LABEL = -2
STRANGE = -np.inf
"""What readers give for a text that is none of the two words of its column, until `check_words` has looked at it."""
_CHUNK_BYTES = 8 << 20
_MAX_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records in the source's order.

    `values` (records, columns) are numbers; NaN where nothing stood, infinite where something else than a finite
    number stood. `codes` (records,) are places in the reader's labels, NO_LABEL, or OTHER_LABEL beyond their limit.
    """

    values: Floats = field(repr=False)
    codes: Codes | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class Labels:
    """The different labels in the order in which they were met, at most `limit`; what comes later has no place."""

    limit: int
    names: list[str] = field(default_factory=list, repr=False)
    first_other: str = field(default="", repr=False)
    _places: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._places = {name: place for place, name in enumerate(self.names)}

    def codes(self, texts: Iterable[str | None]) -> Codes:
        """The places of labels, white space at their ends aside."""
        return np.fromiter((self._place(text) for text in texts), dtype=np.int64)

    def _place(self, text: str | None) -> int:
        name = "" if text is None else text.strip()
        if not name:
            return NO_LABEL
        place = self._places.get(name)
        if place is None:
            if len(self.names) >= self.limit:
                self.first_other = self.first_other or name
                return OTHER_LABEL
            place = self._places[name] = len(self.names)
            self.names.append(name)
        return place


Chunks = Generator[Chunk, None, None]
"""To be closed before what they are read from."""


class Table(Protocol):
    """An open source whose records have columns; all raise DataError for what cannot be read.

    `readings` say how the texts of columns are numbers, where they are not written plainly. With `tolerant` a text that
    is none of a column's two words is no finite number; else it is an error.
    """

    readings: dict[str, Reading]
    tolerant: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that could hold numbers or labels."""
        ...

    @property
    def left(self) -> tuple[str, ...]:
        """Columns of types that can hold neither."""
        ...

    def chunks(self, numbers: Sequence[str], label: str | None, labels: Labels) -> Chunks:
        """All records: the columns `numbers`, and the column `label` if there is one, by their places in `labels`."""
        ...

    def count_texts(self, columns: Sequence[str]) -> dict[str, TextCounts]:
        """What the texts of columns are, by the column; those of numbers have none."""
        ...


def chunk_rows(columns: int) -> int:
    """How many records of so many columns are in memory at once."""
    return max(16, min(_MAX_ROWS, _CHUNK_BYTES // (8 * max(1, columns))))


def check_columns(source: str, names: Sequence[str]) -> None:
    """Raises DataError for columns without names, twice the same, and too many of them."""
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"{source} has {len(names)} columns, above the limit of {MAX_COLUMNS}: choose some with a query (--sql)"
        )
    seen: dict[str, str] = {}
    for position, name in enumerate(names):
        if not name.strip():
            raise DataError(f"{source}: column {position + 1} has no name: give it one")
        if not name.isprintable():
            raise DataError(f"{source}: the column {name!r:.80} has characters that cannot be shown: rename it")
        if name.lower() in seen:
            raise DataError(f"{source} has the column {name!r} twice (capitals do not tell columns apart): rename one")
        seen[name.lower()] = name


def require_columns(source: str, names: Sequence[str], wanted: Iterable[str]) -> None:
    """Raises DataError unless all wanted columns are there."""
    there = set(names)
    if missing := [name for name in wanted if name not in there]:
        has = f"it has {listed(tuple(names))}" if there else "nor any other of numbers or text"
        raise DataError(f"{source} has no column {listed(missing)}: {has}")


def check_words(
    source: str, names: Sequence[str], values: Floats, readings: Mapping[str, Reading], *, tolerant: bool
) -> None:
    """Raises DataError where a column of two words has something else: it would be half read.

    With `tolerant` that becomes infinite in `values`, as what is no finite number is anywhere.
    """
    for at, name in enumerate(names):
        if readings.get(name, "plain") not in PAIRS:
            continue
        strange = np.isneginf(values[:, at])
        if tolerant:
            values[strange, at] = np.inf
        elif strange.any():
            raise DataError(
                f"{source}: column {name!r} had nothing but {readings[name]} when it was added, and has something else "
                "now: add the data set again with --replace"
            )


def numbers_of(values: Sequence[Any], reading: Reading = "plain") -> Floats:
    """Numbers from Python values as databases give them: NaN for nothing, infinite for what is no finite number."""
    if {type(value) for value in values} <= {float, bool}:
        return np.array(values, dtype=np.float64)
    return np.fromiter((_number(value, reading) for value in values), dtype=np.float64, count=len(values))


def _number(value: Any, reading: Reading) -> float:
    if value is None:
        return np.nan
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return np.nan
        if reading == "comma":
            value = "" if "." in value else value.replace(",", ".")
        elif reading in PAIRS:
            yes, no = PAIRS[reading]
            return {yes: 1.0, no: 0.0}.get(value.lower(), STRANGE)
    elif isinstance(value, bytes | bytearray | memoryview):
        return np.inf
    elif reading in PAIRS:
        return STRANGE
    try:
        return float(value)
    except (ArithmeticError, TypeError, ValueError):
        return np.inf
