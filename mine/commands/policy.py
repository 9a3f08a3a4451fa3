"""`mine policy`, `mine approve` and `mine deny`: what the owner decided, and what follows for a campaign."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mine.commands import options
from mine.commands.session import onlooking, rules_of
from sonar.cli_support import SonarGroup, echo_json, talk

if TYPE_CHECKING:
    from mine.ledger import Ledger
    from mine.policy import Policy
    from mine.policy.approval import Approval

__all__ = ["approve", "deny", "policy"]


@click.group(cls=SonarGroup)
def policy() -> None:
    """The rules in policy.toml: what holds, and what it means for a campaign."""


@policy.command()
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@options.home
@options.as_json
def show(changed: bool, home: Path | None, as_json: bool) -> None:
    """Show every setting as it holds now; those that differ from their default are marked."""
    from mine.home import Home
    from mine.policy.showing import policy_text

    place = Home(home)
    place.require()
    with place.ledger() as ledger:
        rules = rules_of(place, ledger)
        _warn(rules, ledger)
    if as_json:
        echo_json(rules.changed() if changed else rules.model_dump(mode="json"))
    else:
        talk(f"{place.policy_file}, digest {rules.digest[:16]}")
        click.echo(policy_text(rules, changed=changed))


@policy.command()
@click.argument("campaign")
@click.option("--brief", is_flag=True, help="Leave out the rules that agree.")
@options.home
@options.network
@options.as_json
@click.pass_context
def check(
    context: click.Context, campaign: str, brief: bool, home: Path | None, network: Path | None, as_json: bool
) -> None:
    """Explain every rule's verdict on CAMPAIGN; exit code 0 only if the mine would train it now.

    Refusals come first, each with what would change it, then what is waited for, then what agrees.
    """
    from mine.follow import find_campaign
    from mine.policy.showing import check_report, check_text

    with onlooking(home, network) as (place, worker):
        rules = rules_of(place, worker.ledger)
        _warn(rules, worker.ledger)
        worker.follow(rules)
        report = check_report(worker, find_campaign(worker.ledger, worker.deployment, campaign), rules)
    if as_json:
        echo_json(report)
    else:
        click.echo(check_text(report, brief=brief))
    if not report["trains"]:
        context.exit(_REFUSED)


@click.command()
@click.argument("campaign")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit log.")
@options.home
@options.network
@options.as_json
def approve(campaign: str, reason: str, home: Path | None, network: Path | None, as_json: bool) -> None:
    """Allow CAMPAIGN, as far as the other rules do; takes back `mine deny`."""
    _say(campaign, reason, home, network, approved=True, as_json=as_json)


@click.command()
@click.argument("campaign")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit log.")
@options.home
@options.network
@options.as_json
def deny(campaign: str, reason: str, home: Path | None, network: Path | None, as_json: bool) -> None:
    """Never train CAMPAIGN again, whatever the policy says."""
    _say(campaign, reason, home, network, approved=False, as_json=as_json)


def _warn(rules: "Policy", ledger: "Ledger") -> None:
    """Before a data set is there nobody can tell whether its table is for the right name."""
    if not ledger.datasets():
        for name in rules.datasets:
            talk(f"warning: [datasets.{name}] is for a data set that is not there yet: `mine add {name} ...` adds it")


_REFUSED = 9
"""As a PolicyError ends a command."""


def _say(campaign: str, reason: str, home: Path | None, network: Path | None, *, approved: bool, as_json: bool) -> None:
    import time

    from mine.errors import PolicyError
    from mine.follow import find_campaign
    from mine.policy.approval import Approval

    if len(reason) > _LONGEST or not all(character.isprintable() for character in reason):
        raise PolicyError(f"the reason must be one line of at most {_LONGEST} printable characters")
    with onlooking(home, network) as (place, worker):
        worker.follow(place.policy())
        known = find_campaign(worker.ledger, worker.deployment, campaign)
        word = Approval(known.id, approved, reason.strip(), known.owner, time.time())
        worker.ledger.approve(word)
    if as_json:
        echo_json(_facts(word))
    else:
        click.echo(f"{'approved' if approved else 'denied'} 0x{known.id.hex()} of {known.owner}")


_LONGEST = 1000


def _facts(word: "Approval") -> dict[str, object]:
    return {
        "campaign": "0x" + word.campaign.hex(), "approved": word.approved, "reason": word.reason or None,
        "owner": word.owner, "time": word.time,
    }  # fmt: skip
