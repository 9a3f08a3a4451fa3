"""`mine privacy`: what was told of the data, and what may still be."""

from pathlib import Path

import click

from mine.commands import options
from sonar.cli_support import echo_json

__all__ = ["privacy"]


@click.command()
@options.home
@options.as_json
def privacy(home: Path | None, as_json: bool) -> None:
    """Show the privacy budgets: what noised statistics of each data set cost so far, and what is left."""
    from mine.home import Home
    from mine.privacy.budgets import budget_table, budgets

    place = Home(home)
    rule = place.policy().privacy
    with place.ledger() as ledger:
        found = budgets(ledger, rule)
    if as_json:
        echo_json({"rule": rule.model_dump(mode="json"), "budgets": [one.to_dict() for one in found]})
    else:
        click.echo(budget_table(found, rule))
