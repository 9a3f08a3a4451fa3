"""The mine's own record for people and machines: its account, data, rounds and gradients, once or as it changes.

A daemon that runs follows the chain for all: to read its events in its place would leave it without a word of them.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mine.follow import deployment_of, follow
from mine.home import Home
from mine.ledger import Ledger
from mine.overview import lost, said
from mine.policy import Policy
from mine.policy.finding import many
from mine.reasons import explain, reasons_of
from mine.records import Prospect, State, Submission, hexed, token_or_none
from mine.vitals import load_vitals
from sonar.chain.client import SonarClient
from sonar.chain.errors import RpcUnavailableError
from sonar.chain.records import NATIVE, show_amount
from sonar.cli_support import printable
from sonar.config import Network
from sonar.units import Address, round_ether

__all__ = ["show_live", "status_report", "status_table"]

_COLUMNS = ("campaign", "round", "state", "data", "pay", "said")
_ON_THE_WAY = {
    State.TRAINED: "trained, and not stored yet",
    State.STORED: "stored, and not posted yet",
    State.SIGNED: "sent to the chain, and not in a block yet",
    State.SENT: "posted, and not judged yet",
}
_DATASETS = 5
"""So many data sets stand on a live screen, above the rounds."""


def status_report(home: Path | None, network: Path | None) -> dict[str, Any]:
    """The mine's own record: from the chain where it answers, else as the ledger has it."""
    place = Home(home)
    mine = place.address()
    net = Network.load(network)
    report: dict[str, Any] = {"home": str(place.path), "address": mine, "balance_wei": None, "credit_wei": None,
                              "problem": None, "daemon": _daemon(place)}  # fmt: skip
    with place.ledger() as ledger:
        client: SonarClient | None = None
        deployment: str | None
        try:
            client = SonarClient.from_network(net)
            deployment = deployment_of(client, net.start_block)
            if report["daemon"] is None:
                _follow(client, ledger, net, deployment, mine, place.policy())
            report["balance_wei"], report["credit_wei"] = client.balance(mine), client.credit(mine)
        except RpcUnavailableError as error:
            report["problem"] = str(error)
            deployment = ledger.last_deployment(f"{net.chain_id}:{to_checksum_address(net.contract)}:")
            client = None
        submissions = ledger.submissions(deployment) if deployment else []
        prospects = ledger.prospects(deployment) if deployment else []
        reasons = None if client is None else reasons_of(net, client)
        with nullcontext() if reasons is None else closing(reasons):
            submissions = [explain(ledger, reasons, one) for one in submissions]
        paid_in = {known.id: known.token for known in ledger.campaigns(deployment or "")}
        report["datasets"] = [
            {"name": one.name, "path": one.location, "target": one.target, "records": one.records}
            for one in ledger.datasets()
        ]
    begun = {(one.campaign, one.round) for one in submissions}
    report["rounds"] = [_prospect_row(one) for one in prospects if (one.campaign, one.round) not in begun]
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


def status_table(report: dict[str, Any]) -> str:
    """The mine's record for people."""
    lines = [*_head(report), *_data(report)]
    lines += [
        f"round     {one['campaign'][:14]} round {one['round']}: {said(one['state'], one['note'])}"
        for one in report["rounds"]
        if one["state"] != State.FOUND
    ]
    for one in report["submissions"]:
        pay = "" if one["payout_wei"] is None else f", {show_amount(one['payout_wei'], one['token'] or NATIVE)}"
        stands = one["verdict"] or _ON_THE_WAY.get(one["state"], one["state"])
        told = said(stands, one["note"]) + pay + lost(one["bond_lost_wei"])
        lines.append(f"gradient  {one['campaign'][:14]} round {one['round']}: {told}")
    return "\n".join(lines)


def show_live(read: Callable[[], dict[str, Any]], console: Console, *, seconds: float) -> None:
    """Shows the record on a terminal as it changes, until Ctrl-C."""
    with Live(_screen(read(), console.height), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(seconds)
            live.update(_screen(read(), console.height), refresh=True)


def _screen(report: dict[str, Any], height: int) -> Group:
    """The record as it fits on a screen: the latest rounds first, as many as there is room for."""
    head = [*_head(report), *_data(report, at_most=_DATASETS)]
    table = Table(*_COLUMNS, expand=True, box=None)
    rows = [
        *((one["campaign"], one["round"], one["state"], one["dataset"], "", one["note"]) for one in report["rounds"]),
        *(
            (one["campaign"], one["round"], one["state"], one["dataset"],
             "" if one["payout_wei"] is None else show_amount(one["payout_wei"], one["token"] or NATIVE),
             (one["note"] or one["verdict"] or "").replace("_", " ") + lost(one["bond_lost_wei"]))
            for one in reversed(report["submissions"])
        ),
    ]  # fmt: skip
    for campaign, *others in rows[: max(height - len(head) - 3, 1)]:
        # What owners and Capsules write is text: neither markup nor anything that steers the terminal.
        cells = [
            Text(printable("" if one is None else str(one)), overflow="ellipsis", no_wrap=True)
            for one in (campaign[:14], *others)
        ]
        table.add_row(*cells)
    return Group(Text("\n".join(map(printable, head))), Text(""), table)


def _head(report: dict[str, Any]) -> list[str]:
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
    if (daemon := report["daemon"]) is not None:
        lines.append(f"daemon    {daemon['state']}")
        lines += [f"waiting   {what[:14]}: {why}" for what, why in daemon["waiting"].items()]
        lines += [f"not kept  what reads and trains, from {what}: {why}" for what, why in daemon["not_kept"].items()]
    return lines


def _data(report: dict[str, Any], at_most: int | None = None) -> list[str]:
    datasets = report["datasets"]
    if not datasets:
        return ["data      none yet: `mine add` adds a data set"]
    lines = [f"data      {one['name']}: {many(one['records'], 'record')}, {one['path']}" for one in datasets[:at_most]]
    left = len(datasets) - len(lines)
    return [*lines, f"          and {left} more: `mine status --once` lists all"] if left else lines


def _daemon(place: Home) -> dict[str, Any] | None:
    """How the daemon stands, as it left it last; None where none runs."""
    if not place.is_running():
        return None
    found = load_vitals(place.vitals_file) or {}
    waiting, kept = found.get("waiting") or {}, found.get("kept") or {}
    late = time.time() - float(found.get("stepped") or 0) > float(found.get("patience") or 0)
    return {
        "state": "running, no step for long" if found and late else "running",
        "stepped": found.get("stepped"),
        "waiting": waiting,
        "not_kept": {what: why for what, why in kept.items() if why is not None},
    }


def _follow(client: SonarClient, ledger: Ledger, net: Network, deployment: str, mine: Address, policy: Policy) -> None:
    follow(client, ledger, deployment, mine, start_block=net.start_block, confirmations=policy.work.confirmations)


def _prospect_row(one: Prospect) -> dict[str, Any]:
    return {
        "campaign": hexed(one.campaign),
        "round": one.round,
        "state": one.state.value,
        "dataset": one.dataset or None,
        "note": one.note or None,
    }


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
