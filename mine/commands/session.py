"""What commands that need the chain open and close, and how they tell what happens."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonar.cli_support import talk

if TYPE_CHECKING:
    from mine.home import Home
    from mine.worker import Report, Worker

__all__ = ["quiet", "session", "teller"]


@contextmanager
def session(
    home: Path | None, network: Path | None, report: "Report", patience: float = 30.0, small_key: bool = False
) -> Iterator[tuple["Home", "Worker"]]:
    """Everything that one command needs, open; an unreachable chain is an error here."""
    from mine.home import Home
    from mine.worker import Options, Worker
    from sonar.config import Network
    from sonar.storage import open_store

    place = Home(home)
    place.require()
    net = Network.load(network)
    with place.ledger() as ledger, open_store(net.store, timeout=patience) as store:
        yield (
            place,
            Worker(place, ledger, place.account(net.chain_id), net, store, report, Options(patience, small_key)),
        )


def quiet(_what: str, _facts: dict[str, Any]) -> None:
    """For commands that print their own result."""


def teller(*, as_json: bool) -> "Report":
    """Tells what happens: for people on stderr, for machines as JSON lines on stdout."""

    def tell(what: str, facts: dict[str, Any]) -> None:
        if as_json:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            click.echo(json.dumps({"event": what, "time": now, **facts}))
            sys.stdout.flush()
        else:
            from mine.overview import sentence

            talk(sentence(what, facts))

    return tell
