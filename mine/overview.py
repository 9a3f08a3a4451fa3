"""What the `mine` command shows: campaigns, the mine's own record, and happenings as sentences."""

from collections import Counter
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from mine.collecting import withdrawn_by
from mine.errors import PolicyError
from mine.follow import deployment_of, follow
from mine.home import Home
from mine.ledger import Ledger
from mine.policy import Policy
from mine.reasons import explain, reasons_of
from mine.records import Aim, KnownCampaign, Purpose, State, Submission, hexed, token_or_none
from mine.worker import Worker
from sonar.chain.calls import withdraw
from sonar.chain.client import SonarClient
from sonar.chain.errors import RpcUnavailableError, UnfundedAccountError
from sonar.chain.records import NATIVE, Status, show_amount
from sonar.config import Network
from sonar.protocol.errors import ProtocolError
from sonar.storage import StorageError
from sonar.units import Address, address_of, format_ppm, round_ether

__all__ = [
    "campaign_rows", "campaign_table", "sentence", "status_report", "status_table", "withdraw_all",
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


def status_report(home: Path | None, network: Path | None) -> dict[str, Any]:
    """The mine's own record: from the chain where it answers, else as the ledger has it."""
    place = Home(home)
    mine = place.address()
    net = Network.load(network)
    report: dict[str, Any] = {"home": str(place.path), "address": mine, "balance_wei": None, "credit_wei": None,
                              "problem": None}  # fmt: skip
    with place.ledger() as ledger:
        client: SonarClient | None = None
        deployment: str | None
        try:
            client = SonarClient.from_network(net)
            deployment = _follow(client, ledger, net, mine, place.policy())
            report["balance_wei"], report["credit_wei"] = client.balance(mine), client.credit(mine)
        except RpcUnavailableError as error:
            report["problem"] = str(error)
            deployment = ledger.last_deployment(f"{net.chain_id}:{to_checksum_address(net.contract)}:")
            client = None
        submissions = ledger.submissions(deployment) if deployment else []
        if client is not None:
            reasons = reasons_of(net, client)
            submissions = [explain(ledger, reasons, one) for one in submissions]
        paid_in = {known.id: known.token for known in ledger.campaigns(deployment or "")}
        report["datasets"] = [
            {"name": one.name, "path": one.location, "target": one.target, "records": one.records}
            for one in ledger.datasets()
        ]
    report["submissions"] = [_submission_row(one, paid_in[one.campaign]) for one in submissions]
    earned: Counter[Address] = Counter()
    for one in submissions:
        earned[paid_in[one.campaign]] += one.payout or 0
    report["earned_wei"] = earned.pop(NATIVE, 0)
    report["tokens"] = [
        {"token": token, "earned": amount, "credit": None if client is None else client.credit(mine, token)}
        for token, amount in earned.items()
    ]
    report["bond_at_stake_wei"] = sum(one.bond for one in submissions if one.state is State.SENT)
    return report


def _follow(client: SonarClient, ledger: Ledger, net: Network, mine: Address, policy: Policy) -> str:
    deployment = deployment_of(client, net.start_block)
    follow(client, ledger, deployment, mine, start_block=net.start_block, confirmations=policy.work.confirmations)
    return deployment


def _submission_row(one: Submission, token: Address) -> dict[str, Any]:
    return {
        "campaign": hexed(one.campaign),
        "round": one.round,
        "state": one.state.value,
        "version": one.version,
        "dataset": one.dataset,
        "verdict": None if one.verdict is None else one.verdict.name.lower(),
        "share_ppm": one.share,
        "payout_wei": one.payout,
        "token": token_or_none(token),
        "bond_wei": one.bond,
        "bond_returned_wei": one.bond_returned,
        "bond_lost_wei": one.bond_lost,
        "artifact": one.artifact.cid,
        "gradient": hexed(one.gradient),
        "transaction": None if one.hash is None else hexed(one.hash),
        "note": one.note or None,
    }


def status_table(report: dict[str, Any]) -> str:
    """The mine's record for people."""
    lines = [f"address   {report['address']}", f"home      {report['home']}"]
    if report["problem"]:
        lines.append(f"chain     {report['problem']}")
    else:
        lines.append(f"balance   {round_ether(report['balance_wei'])} ether")
        lines.append(f"credit    {round_ether(report['credit_wei'])} ether to withdraw")
    lines.append(f"earned    {round_ether(report['earned_wei'])} ether")
    for row in report["tokens"]:
        owed = "" if row["credit"] is None else f", {row['credit']} to withdraw"
        lines.append(f"token     {row['earned']} of {row['token']} earned{owed}")
    lines.append(f"at stake  {round_ether(report['bond_at_stake_wei'])} ether in bonds")
    lines += [f"data      {one['name']}: {one['records']} records, {one['path']}" for one in report["datasets"]]
    for one in report["submissions"]:
        pay = "" if one["payout_wei"] is None else f", {show_amount(one['payout_wei'], one['token'] or NATIVE)}"
        said = _said(one["verdict"] or one["state"], one["note"]) + pay + _lost(one["bond_lost_wei"])
        lines.append(f"gradient  {one['campaign'][:14]} round {one['round']}: {said}")
    return "\n".join(lines)


def withdraw_all(worker: Worker, to: str | None, token: str | None) -> dict[str, Any]:
    """Withdraws all that is owed in one token; raises ConfigError for a bad address, ChainError if nothing is owed."""
    receiver, asset = _checked(to, worker.address), _checked(token, NATIVE)
    receipt = worker.sender.deliver(Aim(Purpose.WITHDRAW, token=asset), withdraw(receiver, asset))
    done = withdrawn_by(receipt)
    return {"amount": done.amount, "token": asset, "to": done.to, "transaction": hexed(receipt.hash)}


def _checked(text: str | None, default: Address) -> Address:
    return default if text is None else address_of(text)


def _said(state: str, why: str | None) -> str:
    """A verdict or state and its reason, which mostly begins with it."""
    word = state.replace("_", " ")
    if not why:
        return word
    return why if why.startswith(word) else f"{word} ({why})"


def _lost(bond: int | None) -> str:
    return f", {round_ether(bond)} ether of the bond lost" if bond else ""


def sentence(what: str, facts: dict[str, Any]) -> str:
    """A happening for people."""
    campaign = facts.get("campaign")
    place = f"campaign {campaign[:14]}" if campaign else str(facts.get("what", ""))
    if "round" in facts:
        place += f" round {facts['round']}"
    match what:
        case "started":
            return f"mining as {facts['address']} with {', '.join(facts['datasets']) or 'no data set yet'}"
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
                f"{place}: {_said(facts['verdict'], facts.get('reason'))}, share {format_ppm(facts['share_ppm'])}, "
                f"{show_amount(facts['payout_wei'], facts['token'] or NATIVE)}{_lost(facts.get('bond_lost_wei'))}"
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
