"""`mine match`: which columns a campaign's features are."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mine.commands import options
from mine.commands.session import onlooking
from sonar.cli_support import echo_json, talk

if TYPE_CHECKING:
    from mine.data import Link

__all__ = ["match"]


@click.command()
@click.argument("campaign")
@click.option("--dataset", "name", metavar="NAME", help="The data set (default: the one that fits best).")
@click.option("--set", "given", multiple=True, metavar="FEATURE=COLUMN", callback=options.pairs,
              help="Confirm that a feature is this column; may be given several times.")  # fmt: skip
@click.option("--forget", is_flag=True, help="Forget first what was confirmed before.")
@options.home
@options.network
@options.as_json
def match(
    campaign: str, name: str | None, given: tuple[tuple[str, str], ...], forget: bool, home: Path | None,
    network: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show which column each feature of CAMPAIGN is, and confirm what is unsure.

    On a terminal it asks; elsewhere --set answers. What is confirmed is kept for this campaign and data set; without it
    the mine does not train. It ends with an error while anything is open.
    """
    from mine.confirming import closest, confirm, match_table
    from mine.errors import DataError
    from mine.follow import find_campaign

    with onlooking(home, network) as (place, worker):
        policy = place.policy()
        worker.follow(policy)
        ledger, known = worker.ledger, find_campaign(worker.ledger, worker.deployment, campaign)
        spec = worker.offer(known, policy).spec
        datasets = [one for one in ledger.datasets() if name in {None, one.name}]
        if name is not None and not datasets:
            raise DataError(f"there is no data set {name!r}: `mine status` lists them")
        saved = {} if forget else {one.name: ledger.saved_match(known.id, one.name) for one in datasets}
        dataset, why = closest(datasets, spec, saved)
        if why:
            talk(why)
        before = saved.get(dataset.name, {})
        asks = sys.stdin.isatty() and not as_json and not given
        found, confirmed = confirm(dataset, spec, before, dict(given), _ask if asks else None)
        if forget or confirmed != before:
            ledger.save_match(known.id, dataset.name, confirmed)
    if as_json:
        echo_json(found.to_dict())
    else:
        click.echo(f"campaign 0x{known.id.hex()[:12]} {spec.name!r}, data set {dataset.name!r}")
        click.echo(match_table(found))
    found.require()


def _ask(link: "Link", problem: str | None) -> str | None:
    talk(problem or link.sentence)
    for number, guess in enumerate(link.guesses, start=1):
        talk(f"  {number}  {guess.sentence}")
    answer = str(click.prompt(f"Column of {link.feature!r} (number or name, nothing to leave it open)",
                              default="", show_default=False, err=True)).strip()  # fmt: skip
    if answer.isdecimal() and 1 <= int(answer) <= len(link.guesses):
        return link.guesses[int(answer) - 1].column
    return answer or None
