"""`capsule campaigns`: what this Capsule judges, and what keeps it from that."""

from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import echo_json, printable, talk

__all__ = ["campaigns"]


@click.command()
@options.home
@options.database
@options.as_json
def campaigns(home: Path | None, database: str | None, as_json: bool) -> None:
    """List the Capsule's campaigns on chain: state, round, score, what is not settled, what went wrong.

    Reads the database, also beside a running Capsule; it needs no passphrase.
    """
    from capsule.home import default_home, open_state
    from capsule.overview import campaign_rows
    from sonar.units import Ppm, format_ppm

    directory = home or default_home()
    state = open_state(directory, options.database_of(directory, database), migrate=False)
    try:
        rows = campaign_rows(state)
    finally:
        state.close()
    if as_json:
        echo_json(rows)
        return
    if not rows:
        talk("no campaigns on chain yet")
    for row in rows:
        score = "?" if row["score_ppm"] is None else format_ppm(Ppm(row["score_ppm"]))
        signed = "no round signed" if row["round"] is None else f"round {row['round']} signed"
        waits = f"  {row['unsettled']} not settled" if row["unsettled"] else ""
        problem = f"  problem: {printable(row['problem'])}" if row["problem"] else ""
        click.echo(f"{row['campaign']}  {row['state']:<9}  {score}  {signed}{waits}{problem}")
