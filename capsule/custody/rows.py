"""Rows of a database as bytes, the same from every kind of database.

    row   = "r" || its values || ...        a table ends with "."
    value = "n" | "i" || 8 bytes, signed | "f" || 8 bytes, IEEE 754 | "t" || length || UTF-8 | "b" || length || bytes

Numbers are big-endian, lengths have 8 bytes.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from capsule.secret import CapsuleSecretError

__all__ = ["Value", "end_table", "read_rows", "read_text", "write_row", "write_text"]

Value = int | float | str | bytes | None

_LONGEST: Final = 1 << 30


class Reader(Protocol):
    """Gives exactly as many bytes as are asked for."""

    def read(self, size: int, /) -> bytes: ...


def write_text(write: Callable[[bytes], None], text: str) -> None:
    """A text outside of any table."""
    _write_value(write, text)


def read_text(reader: Reader) -> str:
    """What `write_text` wrote; raises CapsuleSecretError for anything else."""
    value = _read_value(reader, reader.read(1))
    if not isinstance(value, str):
        raise _unreadable()
    return value


def write_row(write: Callable[[bytes], None], values: tuple[Value, ...]) -> None:
    """One row."""
    write(b"r")
    for value in values:
        _write_value(write, value)


def end_table(write: Callable[[bytes], None]) -> None:
    """Says that a table has no more rows."""
    write(b".")


def read_rows(reader: Reader, columns: int) -> Iterator[tuple[Value, ...]]:
    """The rows of a table with so many columns; raises CapsuleSecretError for what is none."""
    while (mark := reader.read(1)) != b".":
        if mark != b"r":
            raise _unreadable()
        yield tuple(_read_value(reader, reader.read(1)) for _ in range(columns))


def _write_value(write: Callable[[bytes], None], value: Value) -> None:
    match value:
        case None:
            write(b"n")
        case int():
            write(b"i" + value.to_bytes(8, "big", signed=True))
        case float():
            write(b"f" + struct.pack(">d", value))
        case str():
            data = value.encode()
            write(b"t" + len(data).to_bytes(8, "big"))
            write(data)
        case bytes():
            write(b"b" + len(value).to_bytes(8, "big"))
            write(value)


def _read_value(reader: Reader, tag: bytes) -> Value:
    match tag:
        case b"n":
            return None
        case b"i":
            return int.from_bytes(reader.read(8), "big", signed=True)
        case b"f":
            (number,) = struct.unpack(">d", reader.read(8))
            return float(number)
        case b"t" | b"b":
            length = int.from_bytes(reader.read(8), "big")
            if length > _LONGEST:
                raise _unreadable()
            data = reader.read(length)
            try:
                return data if tag == b"b" else data.decode()
            except UnicodeDecodeError as error:
                raise _unreadable() from error
    raise _unreadable()


def _unreadable() -> CapsuleSecretError:
    return CapsuleSecretError("the backup was not written by a Capsule of this version: restore it with its own")
