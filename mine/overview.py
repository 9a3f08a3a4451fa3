"""What the `mine` command shows: campaigns, and happenings as sentences."""

from typing import Any

from mine.collecting import withdrawn_by
from mine.errors import PolicyError
from mine.policy import Policy
from mine.policy.finding import many
from mine.records import Aim, KnownCampaign, Purpose, hexed, token_or_none
from mine.worker import Worker
from sonar.chain.calls import withdraw
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
        "waits": False,
        "reasons": [],
    }
    if campaign.status is not Status.RUNNING:
        return row
    try:
        row["name"] = worker.offer(campaign, policy).spec.name
        decision = worker.decide(campaign, policy)
    except (PolicyError, ProtocolError, StorageError) as error:
        row["reasons"] = [str(error)]
        return row
    refused = [finding for finding in decision.findings if not finding.ok]
    lasting = [finding for finding in refused if not finding.passing]
    if not refused and decision.dataset is not None:
        row["dataset"] = decision.dataset.name
    return row | {"waits": bool(refused) and not lasting, "reasons": [finding.text for finding in lasting or refused]}


def campaign_table(rows: list[dict[str, Any]]) -> str:
    """Campaigns for people: a line each, and below it the data set that fits, or each reason why none is used."""
    if not rows:
        return "no campaigns yet"
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(_HEAD))]
    head, *lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                    for line in cells]  # fmt: skip
    shown = [head]
    for row, line in zip(rows, lines, strict=True):
        shown.append(line)
        if row["dataset"]:
            shown.append(f"    fits data set {row['dataset']}")
        for number, reason in enumerate(row["reasons"]):
            word = "waits" if row["waits"] else "left alone"
            shown.append(f"    {word if not number else '':<{len(word)}}  {reason}")
    return "\n".join(shown)


_HEAD = ("CAMPAIGN", "NAME", "STATUS", "ROUND", "SCORE", "BOUNTY LEFT")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    left = show_amount(row["bounty_wei"] - row["paid_wei"], row["token"] or NATIVE)
    score = f"{format_ppm(row['score_ppm'])} of {format_ppm(row['target_ppm'])}"
    return row["id"][:14], row["name"] or "-", row["status"], str(row["round"]), score, left


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
            datasets = ", ".join(facts["datasets"]) or "no data set yet"
            log = f"{many(facts['audit_entries'], 'entry', 'entries')}, the last {facts['audit_head']}"
            return f"mining as {facts['address']} with {datasets}; its audit log has {log}"
        case "reading":
            return f"data set {place}: reading, {facts['done']:.0%} done"
        case "released" if "round" in facts:
            return (
                f"{place}: paid for from {facts['dataset']}, epsilon {facts['epsilon']} of {facts['budget']} is spent"
            )
        case "rehearsed" if "round" in facts:
            spent = f"bring what is spent of {facts['dataset']} to epsilon {facts['epsilon']} of {facts['budget']}"
            return f"{place}: trained with noise for this trial alone, at no charge; a gradient would {spent}"
        case "released":
            return f"data set {place}: noised a statistic, epsilon {facts['epsilon']} of {facts['budget']} is spent"
        case "rehearsed":
            spent = f"it would bring what is spent to epsilon {facts['epsilon']} of {facts['budget']}"
            return f"data set {place}: noised a statistic for this trial alone, at no charge; for a gradient {spent}"
        case "warning":
            return f"warning: {facts['reason']}"
        case "training":
            return f"{place}: training, {facts['done']:.0%} done"
        case "at risk":
            return (
                f"{place}: holds {facts['gradients']} of the {facts['needed']} gradients that it needs; if no other "
                f"comes, {round_ether(facts['bond_wei'])} ether of the bond is lost"
            )
        case "trained":
            count = ("about " if facts.get("noised") else "") + many(facts["records"], "record")
            return f"{place}: trained on {facts['dataset']} ({count}, {facts['seconds']} s)"
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
            return f"withdrawn {show_amount(facts['amount_wei'], facts.get('token') or NATIVE)} to {facts['to']}"
        case "metrics":
            return f"metrics and health at {facts['url']}"
    return f"{place}: {what}" if place else what
