"""`mine earnings`: what mining has brought and cost."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mine.commands import options
from sonar.cli_support import echo_json, talk

if TYPE_CHECKING:
    from mine.earnings import By

__all__ = ["earnings"]


@click.command()
@click.option("--by", type=click.Choice(["campaign", "month"]), help="A line each. [everything in one]")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: amounts are whole numbers of the smallest unit.")
@options.home
@options.network
@options.as_json
def earnings(by: "By | None", as_csv: bool, home: Path | None, network: Path | None, as_json: bool) -> None:
    """Sum up payouts, bonds lost, gas spent and what is left, each token apart; months are those of the blocks."""
    from mine.earnings import earnings_report, earnings_table

    rows, problem = earnings_report(home, network, by)
    if problem is not None:
        talk(f"as the ledger has it: {problem}")
    found = [row.to_dict() for row in rows]
    if as_json:
        echo_json(found)
    elif as_csv:
        names = ["group", "token", "gradients", "paid", "too_few", "payout", "bonds_lost", "gas", "net"]
        click.echo(",".join([by or "all", *names[1:]]))
        for row in found:
            click.echo(",".join("" if row[name] is None else str(row[name]) for name in names))
    else:
        click.echo(earnings_table(rows, by))
