"""What the demo's campaign came to: read from the chain alone, printed as a table, checked, written as JSON."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignClosed, GradientJudged, RoundSettled
from sonar.chain.records import CampaignRecord, Verdict
from sonar.units import PPM, CampaignId, format_ether, format_ppm


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished campaign as its events tell it."""

    record: CampaignRecord
    rounds: list[RoundSettled]
    gradients: list[GradientJudged]
    refund: int

    @classmethod
    def read(cls, client: SonarClient, campaign: CampaignId, start_block: int) -> "Outcome":
        """Reads every event of the campaign."""
        events = EventCursor(client, start_block, campaign=campaign).read()
        return cls(
            record=client.campaign(campaign),
            rounds=[event for event in events if isinstance(event, RoundSettled)],
            gradients=[event for event in events if isinstance(event, GradientJudged)],
            refund=sum(event.refund for event in events if isinstance(event, CampaignClosed)),
        )

    def paid_to(self, mine: str) -> int:
        """What one mine was paid, in wei."""
        return sum(event.payout for event in self.gradients if event.mine == mine)

    @property
    def paid(self) -> int:
        """What all mines were paid, in wei."""
        return sum(event.payout for event in self.gradients)


def print_outcome(outcome: Outcome, names: dict[str, str], console: Console) -> None:
    """The rounds, the mines and the line that proves the bounty's conservation."""
    rounds = Table("round", "score", "payout (ether)", title="rounds")
    rounds.add_row("start", format_ppm(outcome.record.start_score), "")
    for event in outcome.rounds:
        note = "" if event.advances else "  (model stays)"
        rounds.add_row(str(event.round), format_ppm(event.score) + note, format_ether(event.payout))
    console.print(rounds)

    mines = Table("mine", "gradients", "kept", "share of pay", "payout (ether)", title="mines")
    for address, name in names.items():
        own = [event for event in outcome.gradients if event.mine == address]
        kept = sum(event.verdict is Verdict.KEPT for event in own)
        share = outcome.paid_to(address) * PPM // outcome.paid if outcome.paid else 0
        mines.add_row(name, str(len(own)), str(kept), format_ppm(share), format_ether(outcome.paid_to(address)))
    console.print(mines)
    bounty = outcome.record.terms.bounty
    sign = "=" if outcome.paid + outcome.refund == bounty else "!="
    console.print(f"payouts {outcome.paid} + refund {outcome.refund} {sign} bounty {bounty} wei", highlight=False)


def first_paid_round(outcome: Outcome) -> int:
    """How many rounds it took until the model first improved; all of them if it never did."""
    advanced = [number for number, event in enumerate(outcome.rounds, start=1) if event.advances]
    return advanced[0] if advanced else len(outcome.rounds)


def failures(outcome: Outcome, honest: list[str], poisoner: str, thief: str) -> list[str]:
    """What a fair campaign promises and this one did not keep; empty when all is well."""
    problems = []
    bounty = outcome.record.terms.bounty
    if outcome.paid + outcome.refund != bounty:
        problems.append(f"payouts {outcome.paid} + refund {outcome.refund} are not the bounty {bounty}")
    if not any(event.advances for event in outcome.rounds):
        problems.append("no round advanced the model")
    together = outcome.record.terms.round_size > 1  # one at a time, the fastest mines may leave no round to the others
    for number, mine in enumerate(honest, start=1):
        own = [event for event in outcome.gradients if event.mine == mine]
        if together and not own:
            problems.append(f"honest mine {number} never had a gradient judged")
        if any(event.share for event in own) and outcome.paid_to(mine) == 0:
            problems.append(f"honest mine {number} has a share but was not paid")
    if together and len(outcome.rounds) > first_paid_round(outcome):
        for name, adversary in (("thief", thief), ("poisoner", poisoner)):
            if not any(event.mine == adversary for event in outcome.gradients):
                problems.append(f"the {name} never had a gradient judged, so the demo shows nothing about it")
    if outcome.paid_to(thief) != 0:
        problems.append(f"the thief was paid {outcome.paid_to(thief)} wei")
    if outcome.paid_to(poisoner) * 100 > outcome.paid:
        problems.append(f"the poisoner was paid {outcome.paid_to(poisoner)} of {outcome.paid} wei")
    return problems


def report(
    outcome: Outcome,
    names: dict[str, str],
    chain: dict[str, Any],
    model: dict[str, Any],
    audit: dict[str, int],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The machine-readable report; amounts in wei, scores and shares in ppm, the audit's checks by verdict.

    `names` are what the demo calls its accounts.
    """
    record = outcome.record
    return {
        "chain": chain,
        "campaign": {
            "id": "0x" + record.id.hex(),
            "bounty_wei": record.terms.bounty,
            "start_score_ppm": record.start_score,
            "target_score_ppm": record.terms.target,
            "final_score_ppm": record.score,
            "base_ppm": record.base,
            "status": record.status.name.lower(),
        },
        "rounds": [
            {"round": event.round, "score_ppm": event.score, "payout_wei": event.payout} for event in outcome.rounds
        ],
        "gradients": [
            {
                "index": event.index,
                "round": event.round,
                "mine": event.mine,
                "verdict": event.verdict.name.lower(),
                "share_ppm": event.share,
                "payout_wei": event.payout,
            }
            for event in outcome.gradients
        ],
        "payouts": [
            {"mine": mine, "name": names[mine], "wei": outcome.paid_to(mine)}
            for mine in dict.fromkeys(event.mine for event in outcome.gradients)
        ],
        "refund_wei": outcome.refund,
        "model": model,
        "audit": audit,
        "seconds": seconds,
    }
