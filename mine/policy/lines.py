"""On which line of a TOML file a setting stands: tomllib tells that of broken syntax only."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["line_of"]

_HEADER: Final = re.compile(r"\s*(\[\[?[^#\n]*\]?\])\s*(?:#.*)?")


def line_of(text: str, place: Sequence[object]) -> int | None:
    """The line, from 1, of what says most about a place in a file that is TOML; None where nothing does.

    That is the setting itself, or the table that it is in, or the setting whose value it is part of. A line within a
    text of several lines may be taken for a setting, which makes the line wrong and nothing else.
    """
    wanted = [str(part) for part in place]
    table: list[str] = []
    best, depth = None, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.fullmatch(line)
        if header is not None and (path := _path(header[1])) is not None:
            found = table = path
        elif (path := _key(line)) is not None:
            found = [*table, *path]
        else:
            continue
        if depth < len(found) and found == wanted[: len(found)]:
            best, depth = number, len(found)
    return best


def _key(line: str) -> list[str] | None:
    """The path that a line of the form `key = ...` assigns to, within its table."""
    for at, character in enumerate(line):
        if character == "=" and (path := _path(line[:at] + "= 0")) is not None:
            return path
    return None


def _path(statement: str) -> list[str] | None:
    try:
        node: Any = tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(node, dict | list) and node:
        if isinstance(node, list):
            node = node[0]
        else:
            ((name, node),) = node.items()
            path.append(name)
    return path or None
