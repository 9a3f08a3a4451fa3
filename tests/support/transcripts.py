"""Transcripts of a command line: readable files of what was typed and what came back, played again by a test.

A transcript has comments (`# ...`), commands (`$ mine add ...`), what they print (a line of stderr begins with `! `,
an empty line is `.`), an exit code that is not 0 as `[exit 9]`, and stage directions (`@ the round is settled`), which
the test carries out.
What is another each time stands in angle brackets, such as <address>.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from click.testing import CliRunner

__all__ = ["Player", "masked"]

_MASKS = (
    (r"\b(0x)?[0-9a-f]{64}\b", "<hash>"),
    (r"\b0x[0-9a-fA-F]{40}\b", "<address>"),
    (r"\b0x[0-9a-f]{12}\b", "<short id>"),
    (r"\b0x[0-9a-f]{16,}\b", "<digest>"),
    (r"\bbaf[a-z2-7]{20,}", "<cid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "<time>"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d:\d\d\b", "<moment>"),
    (r"\b20\d\d-[01]\d\b", "<month>"),
    (r"(\"started\": )\d+", r"\1<time>"),
    (r"\b\d+(\.\d+)? s\b", "<seconds> s"),
    (r"(\bseconds\b\"?:? +)[\d.]+", r"\1<seconds>"),
    (r"-?\b\d+\.(?:\d{5,}|2499) ether", "<ether>"),  # gas is in it, whose price moves
    (r"\b0\.\d{5,}\b", "<ether>"),
    (r"\b[\d.]+ gwei now", "<gas price> gwei now"),
    (r"-?\b\d{9,}\b(?<!000000000)", "<wei>"),
)
_IN_COLUMN = re.compile(r"<(ether|seconds|wei|camp)>(?: \w+)?  +\S")
_SPACES = re.compile(r"(?<=\S)  +(?=\S)")


def masked(text: str, known: Mapping[str, str], more: Sequence[tuple[str, str]] = ()) -> str:
    """The text with everything replaced that is another each time; `known` has names for values of this play."""
    for value in sorted(known, key=len, reverse=True):
        text = text.replace(value, known[value])
    for pattern, name in (*_MASKS, *more):
        text = re.sub(pattern, name, text)
    if _IN_COLUMN.search(text):  # columns are as wide as what was in them
        text = _SPACES.sub("  ", text)
    return text


@dataclass
class Player:
    """Plays transcripts: `programs` by their first word, in a directory and environment of their own."""

    programs: Mapping[str, click.Command]
    environment: Mapping[str, str]
    directions: Mapping[str, Callable[[], None]]
    known: dict[str, str] = field(default_factory=dict)
    """Values of this play and the names under which they stand in the transcript: `<campaign>` in a command is put in,
    and masked in what is printed."""
    masks: list[tuple[str, str]] = field(default_factory=list)
    """Patterns that stage directions add, and what stands in their place."""

    def play(self, script: Path) -> str:
        """The transcript as it reads now."""
        return "\n".join(line for line in self._lines(script.read_text())) + "\n"

    def _lines(self, script: str) -> Iterator[str]:
        for line in script.splitlines():
            if line.startswith("@ "):
                self.directions[line[2:]]()
                yield line
            elif line.startswith("$ "):
                yield line
                yield from self._run(line[2:])
            elif line.startswith("#"):
                yield line
            elif not line:
                yield ""

    def _run(self, command: str) -> Iterator[str]:
        for value, name in self.known.items():
            command = command.replace(name, value)
        program, *words = shlex.split(command)
        done = CliRunner(env=dict(self.environment)).invoke(self.programs[program], words, prog_name=program)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        for text, mark in ((done.stdout, ""), (done.stderr, "! ")):
            for line in masked(text, self.known, self.masks).splitlines():
                yield (mark + line).rstrip() if line else mark + "."
        if done.exit_code:
            yield f"[exit {done.exit_code}]"
