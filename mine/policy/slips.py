"""What is wrong with a file that is no TOML, in the words of who writes it: the line, and what is expected there.

tomllib says where, and what in its own grammar; its sentences are told by how they begin, and any other as it is.
"""

import re
import tomllib
from typing import Final

__all__ = ["slip"]

_PLACE: Final = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
_TWICE: Final = re.compile(r"Cannot declare \((?P<path>.*)\) twice")
_LINE: Final = 'write one setting a line, such as max_bond = "0.01"'
_VALUE: Final = 'write text in quotes ("0.01"), a list in [ ], and true or false in small letters'
_SLIPS: Final = (
    ("Cannot overwrite a value", "this setting is there twice: leave one of them"),
    ("Cannot declare", "this table is there already: put all of its settings below one line with its name"),
    ("Cannot mutate", "this setting is there twice: leave one of them"),
    ("Expected '=' after a key", f"the sign = is missing: {_LINE}"),
    ("Invalid statement", f"this is neither a setting nor the name of a table: {_LINE}"),
    ("Expected ']'", "the name of a table has no ] at its end: write it as [money]"),
    ("Unclosed array", "a list here or above has no ] at its end, or no comma between two entries"),
    ("Unterminated string", "a text has no quote at its end: close it"),
    ("Illegal character '\\n'", "a text has no quote at its end: close it"),
    ("Invalid value", f"the value cannot be read: {_VALUE}"),
    ("Expected '\"'", "a text has no quote at its end: close it"),
    ('Expected "\'"', "a text has no quote at its end: close it"),
    ("Invalid hex value", "a \\ in a text is written twice: \\\\"),
    ("Unescaped '\\' in a string", "a \\ in a text is written twice: \\\\"),
    ("Expected newline or end of document", f"what follows the value does not belong there: {_VALUE}"),
)


def slip(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """The line, from 1, at which a file could not be read, and a sentence of what is wrong there. No value is told."""
    found = _PLACE.fullmatch(str(error))
    lines = text.splitlines()
    if found is None:
        return len(lines) or 1, f"it is not TOML: {error}"
    number = int(found["line"]) if found["line"] else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    if any(quote in line for quote in "“”„‘’"):
        return number, 'the quotes are those of a text program: write the straight ones, "'
    if twice := _TWICE.match(found["what"]):
        name = ".".join(part.strip("' ") for part in twice["path"].split(",") if part.strip())
        return number, f"the table [{name}] is there already: put all of its settings below one line [{name}]"
    return number, next(
        (says for start, says in _SLIPS if found["what"].startswith(start)), f"it is not TOML: {found['what']}"
    )
