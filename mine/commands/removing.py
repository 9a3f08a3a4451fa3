"""`mine remove`: takes a data set from the mine, which never had its records and forgets nothing that was told."""

from pathlib import Path

import click

from mine.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["remove"]


@click.command()
@click.argument("name")
@options.home
@options.as_json
def remove(name: str, home: Path | None, as_json: bool) -> None:
    """Take the data set NAME from the mine; its records stay where they are.

    It is not trained on any more, what `mine match` confirmed of it is forgotten, and a gradient of it that is not
    signed yet is not posted. What is signed or posted is judged and paid as ever. What its privacy cost is not
    forgotten: the same records, added again under any name, have spent it.
    """
    from mine.home import Home
    from mine.policy.finding import many

    place = Home(home)
    listed = place.policy().dataset(name) is not None
    with place.ledger() as ledger:
        removed = ledger.remove_dataset(name)
        waiting = ledger.unsigned_of(name)
        left = bool(ledger.datasets())
        pool = ledger.pool_of(name)
        charged = pool is not None and bool(ledger.charges(pool))
    if as_json:
        echo_json({"name": name, **removed.source.to_dict(), "given_up": waiting, "charged": charged})
        return
    click.echo(f"{name}: removed; its {many(removed.records, 'record')} in {removed.location} are untouched")
    if waiting:
        talk(f"{many(waiting, 'gradient')} of it, not signed yet, will not be posted")
    if listed and left:
        talk(
            f"take the table [datasets.{name}] out of the policy: it restricts nothing now, and the mine waits for that"
        )
    if charged:
        talk("what was told of it stays in its privacy budget, also when it is added again (`mine privacy`)")
