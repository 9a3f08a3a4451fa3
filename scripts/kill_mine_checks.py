"""What must hold of a mine after any number of kills: chain, ledger, audit log and account of earnings agree."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_mine_market import Mine

from mine.errors import AuditError
from mine.home import Home
from mine.records import JUDGED, State
from sonar.chain.client import SonarClient
from sonar.chain.cursor import campaign_events
from sonar.chain.events import GradientJudged, GradientSubmitted
from sonar.config import Network
from sonar.units import Address, CampaignId

__all__ = ["Findings", "check_mine"]

_ON_CHAIN = (State.SENT, *JUDGED)


@dataclass
class Findings:
    """What was counted over all mines, and everything that does not hold."""

    gradients: int = 0
    judged: int = 0
    entries: int = 0
    released: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Notes a problem unless all is well."""
        if not holds:
            self.problems.append(problem)


def check_mine(mine: Mine, network: Network, ids: list[CampaignId], found: Findings) -> None:
    """Compares all that a stopped mine's home holds with the chain."""
    chain, address = SonarClient.from_network(network), Address(mine.account.address)
    earned: Any = mine.call("earnings")  # which follows the chain to its end first
    events = [event for campaign in ids for event in campaign_events(chain, campaign, network.start_block)]
    posted = {(one.id, one.round): one for one in events if isinstance(one, GradientSubmitted) and one.mine == address}
    judged = {(one.id, one.round): one for one in events if isinstance(one, GradientJudged) and one.mine == address}
    found.gradients += len(posted)
    found.judged += len(judged)

    name = mine.home.name
    sent = chain.web3.eth.get_transaction_count(mine.account.address)
    found.expect(sent == len(posted), f"{name} sent {sent} transactions for {len(posted)} gradients")
    _check_ledger(mine.home, chain, posted, judged, found)
    _check_audit(mine.home, posted, judged, found)
    if mine.private:
        _check_budget(mine.home, found)

    receipts = [chain.receipt(one.transaction) for one in posted.values()]
    gas = sum(receipt.gas_used * receipt.gas_price for receipt in receipts if receipt is not None)
    payout = sum(one.payout for one in judged.values())
    (total,) = earned or [{"payout": 0, "gas": 0}]
    found.expect(total["payout"] == payout, f"{name} counts payouts of {total['payout']}, the chain of {payout}")
    found.expect(total["gas"] == gas, f"{name} counts gas of {total['gas']} wei, the chain of {gas}")
    credit, returned = chain.credit(address), sum(one.bond_returned for one in judged.values())
    found.expect(credit == payout + returned, f"{name} is owed {credit}, and was told of {payout + returned}")


def _check_ledger(
    home: Path,
    chain: SonarClient,
    posted: dict[tuple[CampaignId, int], GradientSubmitted],
    judged: dict[tuple[CampaignId, int], GradientJudged],
    found: Findings,
) -> None:
    with Home(home).ledger() as ledger:
        deployment = ledger.last_deployment(f"{chain.chain_id}:")
        assert deployment is not None
        known = {(one.campaign, one.round): one for one in ledger.submissions(deployment)}
        problems = [
            problem for place in posted for problem in [_differs(known.get(place), posted[place], judged.get(place))]
        ]
        found.problems += [f"{home.name}: {problem}" for problem in problems if problem]
        for place, one in known.items():
            if place not in posted:
                under_way = one.state in {State.TRAINED, State.STORED, State.SIGNED}
                here = chain.round(one.campaign).number == one.round
                found.expect(under_way and here, f"{home.name}: round {one.round} is {one.state} and not on chain")


def _differs(one: Any, event: GradientSubmitted, verdict: GradientJudged | None) -> str | None:
    where = f"round {event.round} of {event.id.hex()[:8]}"
    if one is None:
        return f"{where} was posted, and the ledger does not know it"
    if one.gradient != event.gradient or one.artifact.digest != event.artifact or one.state not in _ON_CHAIN:
        return f"{where} is another gradient on chain than in the ledger, where it is {one.state}"
    if (None if verdict is None else (verdict.payout, verdict.verdict)) != (
        None if one.verdict is None else (one.payout, one.verdict)
    ):
        return f"{where} was judged otherwise than the ledger has it"
    return None


def _check_audit(
    home: Path,
    posted: dict[tuple[CampaignId, int], GradientSubmitted],
    judged: dict[tuple[CampaignId, int], GradientJudged],
    found: Findings,
) -> None:
    with Home(home).ledger() as ledger:
        try:
            found.entries += ledger.verify_audit().length
        except AuditError as error:
            found.problems.append(f"{home.name}: {error}")
            return
        told: Counter[tuple[str, str, int]] = Counter()
        for entry in ledger.audit_entries():
            facts = json.loads(entry.facts)
            if "round" in facts:
                told[entry.kind, facts["campaign"], facts["round"]] += 1
    for kind, places in (("trained", posted), ("posted", posted), ("judged", judged)):
        for campaign, number in places:
            times = told.pop((kind, "0x" + campaign.hex(), number), 0)
            where = f"round {number} of {campaign.hex()[:8]}"
            found.expect(times == 1, f"{home.name}: the audit log tells {times} times that {where} was {kind}")
    rest = [place for place in told if place[0] != "trained"]
    found.expect(not rest, f"{home.name}: the audit log tells of {rest}, and the chain does not")


def _check_budget(home: Path, found: Findings) -> None:
    """Every version of the data that was trained on was paid for once, as the audit log tells.

    Each version has a record more than the last, so their numbers tell them apart.
    """
    with closing(sqlite3.connect(f"file:{home / 'mine.db'}?mode=ro", uri=True)) as db:
        charged = db.execute(
            "SELECT records, contents, statistic, rho FROM privacy_charges JOIN privacy_contents ON contents = digest "
            "ORDER BY id"
        ).fetchall()
    with Home(home).ledger() as ledger:
        entries = [(entry.kind, json.loads(entry.facts)) for entry in ledger.audit_entries()]
    told = [facts for kind, facts in entries if kind == "released"]
    found.released += len(told)
    paid = [("0x" + contents.hex(), "0x" + statistic.hex(), rho) for _, contents, statistic, rho in charged]
    found.expect(
        [(one["contents"], one["statistic"], one["rho"]) for one in told] == paid,
        f"{home.name}: the audit log tells of {len(told)} charges, the ledger of {len(paid)}",
    )
    times = Counter(records for records, *_ in charged)
    found.expect(set(times.values()) <= {1}, f"{home.name}: versions of the data were paid for twice: {times}")
    trained = {facts["data"]["rows"] for kind, facts in entries if kind == "trained"}
    found.expect(
        trained <= set(times), f"{home.name}: trained on {trained - set(times)} records, and never paid for it"
    )
