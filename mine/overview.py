"""What the `mine` command shows: campaigns, and happenings as sentences."""

from typing import Any

from mine.collecting import withdrawn_by
from mine.errors import PolicyError
from mine.policy import Policy
from mine.records import Aim, KnownCampaign, Purpose, hexed, token_or_none
from mine.worker import Worker
from sonar.chain.calls import withdraw
from sonar.chain.errors import UnfundedAccountError
from sonar.chain.records import NATIVE, Status, show_amount
from sonar.protocol.errors import ProtocolError
from sonar.storage import StorageError
from sonar.units import Address, address_of, format_ppm, round_ether

__all__ = [
    "campaign_rows", "campaign_table", "lost", "said", "sentence", "withdraw_all",
]  # fmt: skip


def campaign_rows(worker: Worker, policy: Policy) -> list[dict[str, Any]]:
    """Every campaign with its state, and the data set that fits it or the reason why this mine leaves it."""
    return [_campaign_row(worker, policy, campaign) for campaign in worker.ledger.campaigns(worker.deployment)]


def _campaign_row(worker: Worker, policy: Policy, campaign: KnownCampaign) -> dict[str, Any]:
    record, present = worker.client.campaign(campaign.id), worker.client.round(campaign.id)
    row: dict[str, Any] = {
        "id": hexed(campaign.id),
        "name": None,
        "owner": record.owner,
        "status": record.status.name.lower(),
        "score_ppm": record.score,
        "target_ppm": record.terms.target,
        "token": token_or_none(record.terms.token),
        "bounty_wei": record.terms.bounty,
        "paid_wei": record.paid,
        "bond_wei": record.terms.bond,
        "deadline": record.terms.deadline,
        "round": present.number,
        "open": present.open,
        "dataset": None,
        "reason": None,
    }
    if campaign.status is not Status.RUNNING:
        return row
    try:
        row["name"] = worker.offer(campaign, policy).spec.name
        row["dataset"] = worker.decide(campaign, policy).require().name
    except (PolicyError, UnfundedAccountError, ProtocolError, StorageError) as error:
        row["reason"] = str(error)
    return row


def campaign_table(rows: list[dict[str, Any]]) -> str:
    """Campaigns for people: a line each, and below it what fits or why nothing does."""
    if not rows:
        return "no campaigns yet"
    lines = []
    for row in rows:
        left = show_amount(row["bounty_wei"] - row["paid_wei"], row["token"] or NATIVE)
        lines.append(
            f"{row['id'][:14]}  {row['name'] or '(not read)'}  {row['status']}  round {row['round']}  "
            f"{format_ppm(row['score_ppm'])} of {format_ppm(row['target_ppm'])}  {left} left"
        )
        if row["dataset"]:
            lines.append(f"    fits data set {row['dataset']}")
        elif row["reason"]:
            lines.append(f"    left alone: {row['reason']}")
    return "\n".join(lines)


def withdraw_all(worker: Worker, to: str | None, token: str | None) -> dict[str, Any]:
    """Withdraws all that is owed in one token; raises ConfigError for a bad address, ChainError if nothing is owed."""
    receiver, asset = _checked(to, worker.address), _checked(token, NATIVE)
    receipt = worker.sender.deliver(Aim(Purpose.WITHDRAW, token=asset), withdraw(receiver, asset))
    done = withdrawn_by(receipt)
    return {"amount": done.amount, "token": asset, "to": done.to, "transaction": hexed(receipt.hash)}


def _checked(text: str | None, default: Address) -> Address:
    return default if text is None else address_of(text)


def said(state: str, why: str | None) -> str:
    """A verdict or state and its reason, which mostly begins with it."""
    word = state.replace("_", " ")
    if not why:
        return word
    return why if why.startswith(word) else f"{word} ({why})"


def lost(bond: int | None) -> str:
    """What a verdict cost of the bond, as the end of a sentence."""
    return f", {round_ether(bond)} ether of the bond lost" if bond else ""


def sentence(what: str, facts: dict[str, Any]) -> str:
    """A happening for people."""
    campaign = facts.get("campaign")
    place = f"campaign {campaign[:14]}" if campaign else str(facts.get("what", ""))
    if "round" in facts:
        place += f" round {facts['round']}"
    match what:
        case "started":
            return (
                f"mining as {facts['address']} with {', '.join(facts['datasets']) or 'no data set yet'}; audit log of "
                f"{facts['audit_entries']} entries, head {facts['audit_head']}"
            )
        case "reading":
            return f"data set {place}: reading, {facts['done']:.0%} done"
        case "released":
            return f"data set {place}: noised a statistic, epsilon {facts['epsilon']} of {facts['budget']} is spent"
        case "warning":
            return f"warning: {facts['reason']}"
        case "training":
            return f"{place}: training, {facts['done']:.0%} done"
        case "trained":
            return f"{place}: trained on {facts['dataset']} ({facts['records']} records, {facts['seconds']} s)"
        case "posted":
            return f"{place}: posted as gradient {facts['index']}"
        case "judged":
            return (
                f"{place}: {said(facts['verdict'], facts.get('reason'))}, share {format_ppm(facts['share_ppm'])}, "
                f"{show_amount(facts['payout_wei'], facts['token'] or NATIVE)}{lost(facts.get('bond_lost_wei'))}"
            )
        case "raised":
            return f"{place}: the bounty is {show_amount(facts['bounty_wei'], facts['token'] or NATIVE)} now"
        case "waiting" | "declined" | "missed":
            return f"{place}: {what}: {facts['reason']}"
        case "campaign":
            return f"{place}: new"
        case "withdrawn":
            return f"withdrawn {round_ether(facts['amount_wei'])} ether to {facts['to']}"
        case "metrics":
            return f"metrics and health at {facts['url']}"
    return f"{place}: {what}" if place else what
