"""docs/mining.md says what is: its commands can be typed, and its table of the audit log names every kind of entry."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mine.audit import RESTARTED
from mine.audit.telling import KINDS, TAKEN_BACK
from mine.cli import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "mining.md").read_text()
COMMANDS = re.findall(r"^    (mine .+)$", TEXT, flags=re.MULTILINE) + re.findall(r"`(mine [a-z]+[^`]*)`", TEXT)


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_a_command_of_the_document_is_one(line):
    command: click.Command = main
    context = click.Context(main, info_name="mine")
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no {name!r} in {line!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    assert arguments or not words or words[0].startswith("-"), f"{line!r} has arguments that are none"


def recorded() -> Iterator[str]:
    """Every kind of entry that the mine's source can write."""
    yield from (*KINDS.values(), TAKEN_BACK, RESTARTED)
    for path in (ROOT / "mine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            kind = node.args[0]
            leaves = [kind.body, kind.orelse] if isinstance(kind, ast.IfExp) else [kind]
            words = [leaf.value for leaf in leaves if isinstance(leaf, ast.Constant)]
            if node.func.attr == "record":
                yield from words
            elif node.func.attr == "record_change":
                yield from (f"{word} changed" for word in words)


def test_every_kind_of_entry_of_the_audit_log_is_documented():
    section = TEXT.partition("## The record")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
    documented = {kind for row in rows for kind in re.findall(r"`([^`]+)`", row)}
    assert documented == set(recorded())
