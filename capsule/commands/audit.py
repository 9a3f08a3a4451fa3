"""`capsule audit`: what the Capsule did, and whether anybody has changed what it says of that."""

import json
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capsule.commands import options
from sonar.cli_support import echo_json, hash_option, moment

if TYPE_CHECKING:
    from capsule.state import AuditEntry

__all__ = ["audit"]

_HASH = re.compile(r"[0-9a-f]{64}")


@click.group()
def audit() -> None:
    """Read the log of all that the Capsule did, and check it."""


@audit.command()
@options.home
@options.database
@click.option("--campaign", callback=hash_option, metavar="ID", help="Only entries about this campaign.")
@click.option("--last", type=click.IntRange(min=1), help="Only so many, the newest. [all]")
@options.as_json
def show(home: Path | None, database: str | None, campaign: bytes | None, last: int | None, as_json: bool) -> None:
    """Print the audit log, the oldest entry first; it holds no secret, so it needs no passphrase.

    What it prints is as good as the database: `capsule audit verify` says how good that is.
    """
    from capsule.home import default_home, open_state

    directory = home or default_home()
    state = open_state(directory, options.database_of(directory, database), migrate=False)
    try:
        rows = (row for row in map(_row, state.audit.entries()) if campaign is None or _is_about(row, campaign))
        chosen = rows if last is None else deque(rows, maxlen=last)
        if as_json:
            echo_json(list(chosen))
            return
        for row in chosen:
            click.echo(f"{row['sequence']:>7}  {row['time']}  {_shown(row['kind'])}  {_facts(row['body'])}".rstrip())
    finally:
        state.close()


@audit.command()
@options.home
@options.database
@options.passphrase
@click.option(
    "--head",
    callback=hash_option,
    metavar="HASH",
    help="The hash of a head that was noted before: it must be in the log.",
)
@options.as_json
def verify(
    home: Path | None, database: str | None, passphrase_file: Path | None, head: bytes | None, as_json: bool
) -> None:
    """Check every entry of the audit log, its order and its end, and all that was signed against it.

    Ends with exit code 8 and the first entry that does not hold. An old copy of the whole database put back is whole by
    itself: it shows only against --head, the hash that the API's /v1/audit/head told at another time.
    """
    from capsule.home import default_home, open_home

    directory = home or default_home()
    url = options.database_of(directory, database)
    opened = open_home(directory, options.read_passphrase(passphrase_file), database=url, migrate=False)
    try:
        found = opened.state.verify_audit(noted=head)
    finally:
        opened.state.close()
    options.show({"entries": found.length, "head": "0x" + found.hash.hex()}, as_json=as_json)


def _row(entry: "AuditEntry") -> dict[str, Any]:
    try:
        body = json.loads(entry.body)
    except ValueError:  # nothing that the Capsule wrote: verify says so, and this shows it
        body = entry.body
    return {
        "sequence": entry.sequence,
        "time": moment(entry.time),
        "kind": entry.kind,
        "body": body,
        "hash": "0x" + entry.hash.hex(),
    }


def _is_about(row: dict[str, Any], campaign: bytes) -> bool:
    return isinstance(row["body"], dict) and row["body"].get("campaign") == campaign.hex()


def _facts(body: Any) -> str:
    if not isinstance(body, dict):
        return _shown(json.dumps(body))
    facts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in body.items()]
    return "  ".join(f"{_shown(name)}={_value(value)}" for name, value in facts if value != "null")


def _value(text: str) -> str:
    """A fact for people, ids and digests as they are shown everywhere."""
    return "0x" + text if _HASH.fullmatch(text) else _shown(text)


def _shown(text: str) -> str:
    """One line that cannot steer the terminal: who has the database may have written anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
