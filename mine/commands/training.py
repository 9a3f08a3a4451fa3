"""`mine campaigns` and `mine train`: what there is to do, and one gradient by hand."""

from pathlib import Path
from typing import Any

import click

from mine.commands import options
from mine.commands.session import onlooking, rules_of, session, teller
from sonar.cli_support import echo_json

__all__ = ["campaigns", "train"]


@click.command()
@options.home
@options.network
@options.as_json
def campaigns(home: Path | None, network: Path | None, as_json: bool) -> None:
    """List campaigns, and which data set fits each or why none does."""
    from mine.overview import campaign_rows, campaign_table

    with onlooking(home, network) as (place, worker):
        policy = rules_of(place, worker.ledger)
        worker.follow(policy)
        rows = campaign_rows(worker, policy)
    if as_json:
        echo_json(rows)
    else:
        click.echo(campaign_table(rows))


@click.command()
@click.argument("campaign")
@click.option(
    "--dry-run", is_flag=True, help="Train and throw the gradient away: nothing is stored, posted or charged."
)
@options.home
@options.network
@options.patience
@options.small_key
@options.as_json
def train(
    campaign: str, dry_run: bool, home: Path | None, network: Path | None, patience: float, small_key: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Train CAMPAIGN's present round once and post the gradient."""
    from mine.errors import MineError
    from mine.follow import find_campaign
    from mine.records import UNSENT

    with session(home, network, teller(as_json=False), patience, small_key) as (place, worker), place.running():
        policy = rules_of(place, worker.ledger)
        worker.follow(policy)
        known = find_campaign(worker.ledger, worker.deployment, campaign)
        submission = worker.ledger.submission(known.id, known.round)
        result: dict[str, Any] = {"campaign": "0x" + known.id.hex(), "round": known.round}
        if submission is None or dry_run:
            trained = worker.train(known, policy, rehearse=dry_run)
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
            if submission.state in UNSENT:
                submission = worker.post(submission, policy)
            result |= {"artifact": submission.artifact.cid, "index": submission.index}
        result["state"] = "dry-run" if dry_run or submission is None else submission.state.value
    if as_json:
        echo_json(result)
    else:
        click.echo(_told(result))


def _told(result: dict[str, Any]) -> str:
    """The gradient for people; of one that was trained before, what is known now."""
    from mine.policy.finding import many
    from sonar.units import format_ether

    rows = {"campaign": result["campaign"], "round": str(result["round"])}
    if "version" in result:
        rows["round"] += f", trained from model version {result['version']}"
        rows["data"] = f"{result['dataset']}, {many(result['records'], 'record')}"
        rows["took"] = f"{result['seconds']} s"
        rows["gradient"] = result["gradient"]
        rows["sealed"] = many(result["bytes"], "byte")
        rows["bond"] = f"{format_ether(result['bond_wei'])} ether"
    if "artifact" in result:
        rows["artifact"] = result["artifact"]
    state = {
        "dry-run": "dry run: nothing was stored, posted or charged",
        "sent": f"sent as gradient {result.get('index')}",
    }
    rows["state"] = state.get(result["state"], result["state"])
    return "\n".join(f"{name:<9} {value}" for name, value in rows.items())
