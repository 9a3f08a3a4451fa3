"""`mine run` and `mine status`: the daemon, and how it stands."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mine.commands import options
from mine.commands.session import rules_of, teller
from sonar.cli_support import echo_json

if TYPE_CHECKING:
    from mine.policy import Policy

__all__ = ["run", "status"]

_STATUS_SECONDS = 2.0


@click.command()
@click.option("--once", is_flag=True, help="Do what can be done now and end; what is down is then an error.")
@click.option("--poll", default=2.0, show_default=True, type=click.FloatRange(min=0.05), metavar="SECONDS",
              help="The pause between two looks at the chain.")  # fmt: skip
@click.option("--campaign", metavar="ID", help="Work for this campaign only.")
@click.option(
    "--allow-single", is_flag=True, help="Take part in rounds that keep a single mine, whatever the policy says."
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), metavar="PORT",
              help="Serve metrics and health there; 0 takes a free port.")  # fmt: skip
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where metrics are served.")  # fmt: skip
@options.home
@options.network
@options.patience
@options.small_key
@options.as_json
def run(
    once: bool, poll: float, campaign: str | None, allow_single: bool, metrics_port: int | None, metrics_host: str,
    home: Path | None, network: Path | None, patience: float, small_key: bool, as_json: bool,
) -> None:  # fmt: skip
    """Mine until stopped: train every campaign that fits, post, watch the verdicts. --json: a line each happening."""
    from contextlib import ExitStack

    from mine.daemon import Daemon
    from mine.home import Home
    from mine.metrics import serving
    from mine.stopping import Stop
    from mine.vitals import Watch
    from mine.worker import Options, Worker
    from sonar.config import Network
    from sonar.hardening import forbid_dumps
    from sonar.storage import open_store

    forbid_dumps()  # this process is about to hold the account's key
    place, report, only = Home(home), teller(as_json=as_json), _digits(campaign)
    stop = Stop()
    with stop.on_signals(), ExitStack() as stack:
        net = Network.load(network)
        account = place.account(net.chain_id)
        os.environ.pop("SONAR_PASSPHRASE", None)  # nothing that this process starts needs it
        ledger = stack.enter_context(place.ledger())
        stack.enter_context(place.running())
        store = stack.enter_context(open_store(net.store, timeout=patience))

        def policy() -> "Policy":
            rules = rules_of(place, ledger)
            return rules.taking_single() if allow_single else rules

        policy()  # a mistake in it should stop the start
        options = Options(patience, small_key)
        daemon = Daemon(
            lambda: Worker(place, ledger, account, net, store, report, options), policy, report, poll=poll, stop=stop
        )
        stack.callback(daemon.close)
        watch = Watch(daemon, place.vitals_file)
        if metrics_port is not None:
            url = stack.enter_context(serving(metrics_host, metrics_port, lambda: watch.vitals, lambda warning: report(
                "warning", {"reason": warning})))  # fmt: skip
            report("metrics", {"url": url})
        head = ledger.audit_head()
        report("started", {
            "address": account.address, "datasets": [one.name for one in ledger.datasets()],
            "audit_entries": head.length, "audit_head": "0x" + head.hash.hex(),
        })  # fmt: skip
        if once:
            daemon.step(only)
            if not daemon.knows(only) and campaign is not None:
                from sonar.errors import ConfigError

                raise ConfigError(f"no campaign's id begins with {campaign}: `mine campaigns` lists them all")
            if (error := daemon.waiting()) is not None:
                raise error
        else:
            daemon.run(only, watch.look)
    if stop.requested:
        report("stopped", {})


@click.command()
@click.option("--once", is_flag=True, help="Print it once, also on a terminal.")
@options.home
@options.network
@options.as_json
def status(once: bool, home: Path | None, network: Path | None, as_json: bool) -> None:
    """Show the account, the data sets, and every round with its state, verdict and pay; on a terminal until Ctrl-C."""
    from mine.status import show_live, status_report, status_table

    if not once and not as_json and sys.stdout.isatty():
        from rich.console import Console

        with suppress(KeyboardInterrupt):
            show_live(lambda: status_report(home, network), Console(), seconds=_STATUS_SECONDS)
        return
    rows = status_report(home, network)
    if as_json:
        echo_json(rows)
    else:
        click.echo(status_table(rows))


def _digits(campaign: str | None) -> str:
    """The first digits of a campaign's id, which need not be on chain yet."""
    digits = (campaign or "").lower().removeprefix("0x")
    if campaign is not None and (not digits or len(digits) > 64 or set(digits) - set("0123456789abcdef")):
        from sonar.errors import ConfigError, printable

        raise ConfigError(
            f"{printable(campaign, 80)!r} is not a campaign's id: give 0x and its 64 hexadecimal digits, or the first "
            "of them (`mine campaigns`)"
        )
    return digits
