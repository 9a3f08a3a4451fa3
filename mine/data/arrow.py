"""Columns of Arrow batches, as DuckDB hands them out: numbers without copies, texts where they are asked for."""

from typing import Any

import numpy as np

from mine.data.tables import Codes, Floats

__all__ = ["Doubles", "Texts", "integers"]


class Doubles:
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


class Texts:
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


def integers(column: Any) -> Codes:
    found: Codes = np.asarray(column.view().buffer(1))[column.offset : column.offset + len(column)]
    return found
