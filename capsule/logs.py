"""The Capsule's log: one event a line, with named fields; nothing that a stranger sends can end a line or begin one.

An event is a record whose `extra` are its fields. `fields` adds some to every event within a block, also in the
threads that it waits for: a request's id, a campaign. Bodies, headers and secrets are never fields.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

__all__ = ["configure", "fields"]

_FIELDS: ContextVar[dict[str, Any]] = ContextVar("fields", default={})  # noqa: B039  (never changed, only replaced)
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_QUIET = ("httpx", "httpcore", "urllib3", "web3", "alembic")


@contextmanager
def fields(**values: Any) -> Iterator[None]:
    """Adds fields to every event of the block."""
    before = _FIELDS.set({**_FIELDS.get(), **values})
    try:
        yield
    finally:
        _FIELDS.reset(before)


def configure(kind: Literal["text", "json"]) -> None:
    """Makes stderr the log of this process, in lines for people or in a JSON object a line; times are UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_fields)
    formatter = _Text() if kind == "text" else _json()
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_fields(record: logging.LogRecord) -> bool:
    for name, value in _FIELDS.get().items():
        if name not in vars(record):
            setattr(record, name, value)
    vars(record).pop("color_message", None)  # uvicorn's, for terminals
    return True


def _json() -> logging.Formatter:
    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names, json_default=str, json_ensure_ascii=True
    )


class _Text(logging.Formatter):
    """A line an event, its fields behind it; the lines of a traceback begin with a bar."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """The line."""
        extra = {name: value for name, value in vars(record).items() if name not in _KNOWN and name != "taskName"}
        line = super().formatMessage(record)
        return _in_line(" ".join([line, *(f"{name}={value}" for name, value in extra.items())]))

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's own name)
        """The traceback."""
        return "\n".join(f"    | {_in_line(line)}" for line in super().formatException(ei).splitlines())


def _in_line(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
