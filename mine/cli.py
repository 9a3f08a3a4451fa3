"""The `mine` command: a data owner's account, data sets and daemon."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonar import __version__
from sonar.cli_support import SonarGroup, echo_json, talk

if TYPE_CHECKING:
    from mine.home import Home
    from mine.policy import Policy
    from mine.worker import Report, Worker

__all__ = ["main"]

_home = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="The mine's home (default: SONAR_MINE_HOME)."
)
_network = click.option(
    "--network", type=click.Path(dir_okay=False, path_type=Path), help="The network file (default: SONAR_NETWORK)."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
_small_key = click.option("--allow-insecure-small-key", "small_key", is_flag=True, hidden=True)
_patience = click.option(
    "--patience", default=30.0, show_default=True, type=click.FloatRange(min=0.1), metavar="SECONDS",
    help="How long to wait for one answer or transaction before trying again later.",
)  # fmt: skip


@click.group(cls=SonarGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mine")
def main() -> None:
    """Train campaigns on your data, which stays here, and be paid for the improvement."""


@main.command()
@_home
@click.option("--key-file", type=click.Path(path_type=Path), help="Adopt this keystore or raw key file.")
@click.option("--no-passphrase", is_flag=True, help="Make a raw key file, for development networks.")
@_json
def init(home: Path | None, key_file: Path | None, no_passphrase: bool, as_json: bool) -> None:
    """Make the mine's home: its account and a policy to edit."""
    from mine.home import Home
    from sonar.wallet import create_key_file, create_keystore, load_account

    place = Home(home)
    place.create()
    if key_file is not None:
        account = load_account(key_file)
        place.adopt(key_file)
    elif no_passphrase:
        account = create_key_file(place.account_file)
    else:
        account = create_keystore(place.account_file, _new_passphrase())
    place.write_policy()
    if as_json:
        echo_json({"home": str(place.path), "address": account.address, "policy": str(place.policy_file)})
    else:
        click.echo(account.address)
        talk(f"the mine's home is {place.path}; its rules are in {place.policy_file}; fund the address before it mines")


@main.command()
@click.argument("name")
@click.argument("csv", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="COLUMN", help="The column with the class of each record.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column to leave out; may be given several times.")
@click.option("--replace", is_flag=True, help="Put this data set in the place of the one with the same name.")
@_home
@_json
def add(
    name: str, csv: Path, target: str, ignore: tuple[str, ...], replace: bool, home: Path | None, as_json: bool
) -> None:
    """Add the data set NAME: a CSV file with a header row. The file stays where it is."""
    from mine.data import inspect
    from mine.home import Home

    with Home(home).ledger() as ledger:
        dataset = inspect(name, csv, target, ignore)
        ledger.add_dataset(dataset, replace=replace)
    if as_json:
        echo_json({"name": name, "path": str(dataset.path), "target": target, "records": dataset.records,
                   "columns": list(dataset.columns), "labels": dict(dataset.labels)})  # fmt: skip
    else:
        click.echo(f"{name}: {dataset.records} records, {len(dataset.columns)} numeric columns, "
                   f"{len(dataset.labels)} classes in {target!r}")  # fmt: skip


@main.command()
@_home
@_network
@_json
def campaigns(home: Path | None, network: Path | None, as_json: bool) -> None:
    """List campaigns, and which data set fits each or why none does."""
    from mine.overview import campaign_rows, campaign_table

    with _session(home, network, _quiet) as (place, worker):
        policy = place.policy()
        worker.follow(policy)
        rows = campaign_rows(worker, policy)
    if as_json:
        echo_json(rows)
    else:
        click.echo(campaign_table(rows))


@main.command()
@click.argument("campaign")
@click.option("--dry-run", is_flag=True, help="Train and throw the gradient away: nothing is stored or posted.")
@_home
@_network
@_patience
@_small_key
@_json
def train(
    campaign: str, dry_run: bool, home: Path | None, network: Path | None, patience: float, small_key: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Train CAMPAIGN's present round once and post the gradient."""
    from mine.errors import MineError
    from mine.follow import find_campaign
    from mine.records import State

    with _session(home, network, _teller(False), patience, small_key) as (place, worker), place.running():
        policy = place.policy()
        worker.follow(policy)
        known = find_campaign(worker.ledger, worker.deployment, campaign)
        submission = worker.ledger.submission(known.id, known.round)
        result: dict[str, Any] = {"campaign": "0x" + known.id.hex(), "round": known.round}
        if submission is None or dry_run:
            trained = worker.train(known, policy)
            if trained is None:
                raise MineError(f"round {known.round} of 0x{known.id.hex()} takes no gradient from this mine now")
            result |= {
                "version": trained.version, "dataset": trained.dataset.name, "records": trained.gradient.records,
                "seconds": round(trained.seconds, 3), "bytes": len(trained.box),
                "gradient": "0x" + trained.gradient.digest.hex(), "bond_wei": trained.terms.terms.bond,
            }  # fmt: skip
            if not dry_run:
                submission = worker.prepare(trained)
        if not dry_run:
            assert submission is not None
            if submission.state in {State.PREPARED, State.SIGNED}:
                submission = worker.post(submission)
            result |= {"artifact": submission.artifact.cid, "index": submission.index}
        result["state"] = "dry-run" if dry_run or submission is None else submission.state.value
    if as_json:
        echo_json(result)
    else:
        click.echo("\n".join(f"{key:<9} {value}" for key, value in result.items()))


@main.command()
@click.option("--once", is_flag=True, help="Do what can be done now and end; what is down is then an error.")
@click.option("--poll", default=2.0, show_default=True, type=click.FloatRange(min=0.05), metavar="SECONDS",
              help="The pause between two looks at the chain.")  # fmt: skip
@click.option("--campaign", metavar="ID", help="Work for this campaign only.")
@click.option(
    "--allow-single", is_flag=True, help="Take part in rounds that keep a single mine, whatever the policy says."
)
@_home
@_network
@_patience
@_small_key
@_json
def run(
    once: bool, poll: float, campaign: str | None, allow_single: bool, home: Path | None, network: Path | None,
    patience: float, small_key: bool, as_json: bool,
) -> None:  # fmt: skip
    """Mine until stopped: train every campaign that fits, post, watch the verdicts. --json: a line each happening."""
    from contextlib import ExitStack

    from mine.daemon import Daemon
    from mine.home import Home
    from mine.stopping import Stop
    from mine.worker import Options, Worker
    from sonar.config import Network
    from sonar.storage import open_store

    place, report, only = Home(home), _teller(as_json), _digits(campaign)
    stop = Stop()
    with stop.on_signals(), ExitStack() as stack:
        net = Network.load(network)
        account = place.account()
        ledger = stack.enter_context(place.ledger())
        stack.enter_context(place.running())
        store = stack.enter_context(open_store(net.store, timeout=patience))
        single = {"min_mines": 1} if allow_single else {}

        def policy() -> "Policy":
            return place.policy().model_copy(update=single)

        policy()  # a mistake in it should stop the start
        options = Options(patience, small_key)
        daemon = Daemon(
            lambda: Worker(place, ledger, account, net, store, report, options), policy, report, poll=poll, stop=stop
        )
        report("started", {"address": account.address, "datasets": [one.name for one in ledger.datasets()]})
        if once:
            daemon.step(only)
            if not daemon.knows(only) and campaign is not None:
                from sonar.errors import ConfigError

                raise ConfigError(f"no campaign's id starts with {campaign}: `mine campaigns` lists them all")
            if (error := daemon.waiting()) is not None:
                raise error
        else:
            daemon.run(only)
    if stop.requested:
        report("stopped", {})


@main.command()
@_home
@_network
@_json
def status(home: Path | None, network: Path | None, as_json: bool) -> None:
    """Show the account, the data sets, and every gradient with its verdict and pay."""
    from mine.overview import status_report, status_table

    rows = status_report(home, network)
    if as_json:
        echo_json(rows)
    else:
        click.echo(status_table(rows))


@main.command()
@click.option("--to", metavar="ADDRESS", help="Who receives it (default: the mine's own account).")
@click.option("--token", metavar="ADDRESS", help="An ERC-20 token (default: the native coin).")
@_home
@_network
@_patience
@_json
def withdraw(
    to: str | None, token: str | None, home: Path | None, network: Path | None, patience: float, as_json: bool
) -> None:
    """Withdraw everything that the contract owes this mine: pay and returned bonds."""
    from mine.overview import withdraw_all
    from sonar.units import round_ether

    with _session(home, network, _quiet, patience) as (place, worker):
        result = withdraw_all(place, worker, to, token, patience)
    if as_json:
        echo_json(result)
    elif token is None:
        click.echo(f"{round_ether(result['amount'])} ether to {result['to']}")
    else:
        click.echo(f"{result['amount']} of {token} to {result['to']}")


@contextmanager
def _session(
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
        yield place, Worker(place, ledger, place.account(), net, store, report, Options(patience, small_key))


def _quiet(_what: str, _facts: dict[str, Any]) -> None:
    """For commands that print their own result."""


def _teller(as_json: bool) -> "Report":
    """Tells what happens: for people on stderr, for machines as JSON lines on stdout."""

    def tell(what: str, facts: dict[str, Any]) -> None:
        if as_json:
            click.echo(json.dumps({"event": what, **facts}))
            sys.stdout.flush()
        else:
            from mine.overview import sentence

            talk(sentence(what, facts))

    return tell


def _digits(campaign: str | None) -> str:
    """The first digits of a campaign's id, which need not be on chain yet."""
    digits = (campaign or "").lower().removeprefix("0x")
    if campaign is not None and (not digits or len(digits) > 64 or set(digits) - set("0123456789abcdef")):
        from sonar.errors import ConfigError

        raise ConfigError(f"{campaign!r} is not a campaign's id: give it, or its first digits (`mine campaigns`)")
    return digits


def _new_passphrase() -> str:
    from sonar.errors import ConfigError

    if (given := os.environ.get("SONAR_PASSPHRASE")) is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(
            "a new account needs a passphrase: set SONAR_PASSPHRASE, or use --no-passphrase on a development network"
        )
    return str(click.prompt("Passphrase of the new account", hide_input=True, confirmation_prompt=True, err=True))
