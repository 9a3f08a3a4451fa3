"""What the three commands share: errors to exit codes, results on stdout, talk on stderr."""

import gc
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from sonar.errors import ConfigError, SonarError

_YOUNG_OBJECTS = 50_000
"""How many objects are made before unreachable ones are looked for: Python's default of 700 has imports alone, which
make 150,000 that all stay, searched often enough to take a tenth longer."""

__all__ = ["SonarGroup", "echo_json", "hash_option", "moment", "printable", "talk"]


class SonarGroup(click.Group):
    """A command group that ends with a Sonar error's own sentence and exit code, never with a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command line."""
        gc.set_threshold(_YOUNG_OBJECTS)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a SonarError, or a file that the system refuses, becomes one line on stderr."""
        try:
            return super().invoke(ctx)
        except SonarError as error:
            _fail(error)
        except OSError as error:
            if error.filename is None:
                raise
            _fail(ConfigError(f"{error.filename}: {error.strerror}{_owner(error)}"))


def echo_json(value: Any) -> None:
    """A result for machines: one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, sort_keys=False))


def talk(text: str, **style: Any) -> None:
    """Anything that is not a result: stderr, plain where it is not a terminal or NO_COLOR is set.

    What nodes, stores and Capsules say may be in it, so nothing in it can steer the terminal.
    """
    click.secho(printable(text), err=True, color=False if os.environ.get("NO_COLOR") else None, **style)


def printable(text: str) -> str:
    """The text with a replacement for every character that could steer a terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for character in text)  # fmt: skip


def hash_option(_context: click.Context, _option: click.Parameter, text: str | None) -> bytes | None:
    """The callback of an option that takes 32 bytes in hexadecimal digits, with 0x or without."""
    if text is None:
        return None
    digits = text.lower().removeprefix("0x")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise click.BadParameter(f"{text!r:.100} is not a hash: give its 64 hexadecimal digits")
    return bytes.fromhex(digits)


def moment(microseconds: int) -> str:
    """A time since 1970 in UTC, to the millisecond; as it is where no calendar holds it."""
    try:
        found = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{microseconds} us"
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _owner(error: OSError) -> str:
    """Whose a file is that may not be opened."""
    if not isinstance(error, PermissionError):
        return ""
    try:
        owner = Path(error.filename).owner()
    except (OSError, KeyError, NotImplementedError):
        return ""
    return f": it belongs to the account {owner}; run this as that account, or give the file to yours with chown"


def _fail(error: SonarError) -> NoReturn:
    talk(f"Error: {error}")
    sys.exit(error.exit_code)
