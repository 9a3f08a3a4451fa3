"""`mine privacy`: what was told of the data, and what may still be."""

from pathlib import Path

import click

from mine.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["privacy"]


@click.command()
@options.home
@options.as_json
def privacy(home: Path | None, as_json: bool) -> None:
    """Show the privacy budgets: what noised statistics of each data set cost so far, and what is left.

    Gradients that were sent without noise are listed, too: no budget covers them. Data sets that will share a budget
    because they lie in one place are named while there is still time to say that they are separate, and so are those
    that were not read yet, of which nobody knows whether they have records of others.
    """
    from mine.home import Home
    from mine.privacy.budgets import budget_table, budgets, plain_gradients, said_of_places, said_of_unread

    place = Home(home)
    rule = place.policy().privacy
    with place.ledger() as ledger:
        ledger.check_audit()  # what the log tells of beyond a ledger that was put back counts
        found, plain = budgets(ledger, rule), plain_gradients(ledger)
        shared, unread = said_of_places(ledger, rule), said_of_unread(ledger, rule)
    if as_json:
        echo_json({
            "rule": rule.model_dump(mode="json"), "budgets": [one.to_dict() for one in found],
            "plain_gradients": [one.to_dict() for one in plain],
        })  # fmt: skip
    else:
        click.echo(budget_table(found, plain, rule))
    for said in [*shared, *([unread] if unread else [])]:
        talk(said)
