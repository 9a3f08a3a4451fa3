"""`mine audit`: what the mine wrote down about who asked, what left, what it cost and what it brought."""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mine.commands import options
from sonar.cli_support import echo_json, hash_option, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mine.audit import AuditEntry
    from mine.errors import AuditError
    from mine.ledger import Ledger

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """Read the mine's own log of all that it did, and check it; it never leaves the home."""


@audit.command()
@click.option("--campaign", metavar="ID", help="Only entries about the campaign whose id starts so.")
@click.option("--kind", help="Only entries of this kind, such as released or judged.")
@click.option("--last", type=click.IntRange(min=1), help="Only so many, the newest. [all]")
@options.home
@options.as_json
def show(campaign: str | None, kind: str | None, last: int | None, home: Path | None, as_json: bool) -> None:
    """Print the audit log, the oldest entry first, as far as it is whole.

    Ends with exit code 9 at the first line that is not as the mine wrote it, which it names; `mine audit verify`
    compares the end with the ledger, too.
    """
    from mine.home import Home

    digits = None if campaign is None else "0x" + campaign.lower().removeprefix("0x")
    with Home(home).ledger() as ledger:
        told = _Told(ledger)
        wanted = (
            row for row in map(_row, told)
            if (kind is None or row["kind"] == kind)
            and (digits is None or str(row["facts"].get("campaign", "")).startswith(digits))
        )  # fmt: skip
        rows = wanted if last is None else deque(wanted, maxlen=last)
        if as_json:
            echo_json(list(rows))
        else:
            for row in rows:
                facts = _facts(row["facts"])
                click.echo(f"{row['sequence']:>6}  {row['time']}  {_shown(row['kind'])}  {facts}".rstrip())
        if told.fault is not None:
            raise told.fault


@audit.command()
@click.option(
    "--head",
    callback=hash_option,
    metavar="HASH",
    help="The hash of an entry that was noted before: it must be in the log.",
)
@options.home
@options.as_json
def verify(head: bytes | None, home: Path | None, as_json: bool) -> None:
    """Check every entry of the audit log, their order, and their end against the ledger.

    Ends with exit code 9 and the first line that differs. Who can write the whole home could make both anew: that
    shows against --head, the hash that this command or the start of `mine run` told before.
    """
    from mine.home import Home

    with Home(home).ledger() as ledger:
        found = ledger.verify_audit(noted=head)
    if as_json:
        echo_json({"entries": found.length, "head": "0x" + found.hash.hex()})
    else:
        click.echo(f"entries  {found.length}\nhead     0x{found.hash.hex()}")


@audit.command()
@click.option("--reason", required=True, help="Why; it is the new log's first entry.")
@options.home
@options.as_json
def restart(reason: str, home: Path | None, as_json: bool) -> None:
    """Begin a new log where the old one is lost or was changed, and cannot be put back from a backup.

    The old file is renamed and kept. The new one's first entry says why it is there, and how many entries were before;
    until then a mine does nothing that it would have to record.
    """
    from mine.home import Home

    with Home(home).ledger() as ledger:
        aside = ledger.restart_audit(reason)
        log = ledger.audit_log
    if as_json:
        echo_json({"log": str(log), "before": None if aside is None else str(aside)})
    else:
        click.echo(f"{log} begins anew; " + ("there was no file" if aside is None else f"the old one is {aside}"))


class _Told:
    """The log's entries up to the first fault, which is then known."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger
        self.fault: AuditError | None = None

    def __iter__(self) -> "Iterator[AuditEntry]":
        from mine.errors import AuditError

        try:
            self._ledger.flush_audit()
        except AuditError as error:
            self.fault = error  # what is not written yet does not fit the file's end: the file says why, or this does
        try:
            yield from self._ledger.audit_entries()
        except AuditError as error:
            self.fault = error


def _row(entry: "AuditEntry") -> dict[str, Any]:
    return {
        "sequence": entry.sequence, "time": moment(entry.time), "kind": entry.kind,
        "facts": json.loads(entry.facts), "hash": "0x" + entry.hash.hex(),
    }  # fmt: skip


def _facts(facts: dict[str, Any]) -> str:
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    return "  ".join(f"{_shown(name)}={_shown(value)}" for name, value in told.items() if value != "null")


def _shown(text: str) -> str:
    """Text that cannot steer the terminal: reasons and names come from strangers."""
    return text if text.isprintable() else json.dumps(text)
