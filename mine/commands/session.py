"""What commands that need the chain open and close, and how they tell what happens."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonar.cli_support import talk
from sonar.errors import ConfigError

if TYPE_CHECKING:
    from eth_typing import ChecksumAddress

    from mine.home import Home
    from mine.ledger import Ledger
    from mine.policy import Policy
    from mine.reporting import Report
    from mine.worker import Worker
    from sonar.chain.signing import Signed

__all__ = ["onlooking", "quiet", "rules_of", "session", "teller"]


@contextmanager
def session(
    home: Path | None, network: Path | None, report: "Report", patience: float = 30.0, small_key: bool = False
) -> Iterator[tuple["Home", "Worker"]]:
    """Everything that one command needs, open; an unreachable chain is an error here."""
    from mine.home import Home
    from mine.worker import Options, Worker
    from sonar.config import Network
    from sonar.hardening import forbid_dumps
    from sonar.storage import open_store

    forbid_dumps()  # this process is about to hold the account's key
    place = Home(home)
    place.require()
    net = Network.load(network)
    with place.ledger() as ledger, open_store(net.store, timeout=patience) as store:
        account, options = place.account(net.chain_id), Options(patience, small_key)
        with closing(Worker(place, ledger, account, net, store, report, options)) as worker:
            yield place, worker


@contextmanager
def onlooking(home: Path | None, network: Path | None) -> Iterator[tuple["Home", "Worker"]]:
    """The same for commands that sign nothing: they take no passphrase, and hold no key."""
    from eth_utils.address import to_checksum_address

    from mine.home import Home
    from mine.worker import Options, Worker
    from sonar.config import Network
    from sonar.storage import open_store

    place, options = Home(home), Options()
    account = _Onlooker(to_checksum_address(place.address()))
    net = Network.load(network)
    with (
        place.ledger() as ledger,
        open_store(net.store, timeout=options.patience) as store,
        closing(Worker(place, ledger, account, net, store, quiet, options)) as worker,
    ):
        yield place, worker


def rules_of(place: "Home", ledger: "Ledger") -> "Policy":
    """The owner's policy as it is now; raises PolicyError, also for a table of a data set that is not there."""
    return place.policy([dataset.name for dataset in ledger.datasets()])


@dataclass(frozen=True, slots=True)
class _Onlooker:
    """An account of which only the address is known."""

    address: "ChecksumAddress"

    def sign_transaction(self, _transaction: dict[str, Any], /) -> "Signed":
        """Raises ConfigError."""
        raise ConfigError(f"this command signs nothing for {self.address}")


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
