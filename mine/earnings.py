"""What mining has brought and cost: payouts, bonds lost and gas, by campaign or month, each token apart.

Only what the ledger has seen on chain counts, at the time of its block. A bond that is at stake or came back is
neither earned nor lost; withdrawing moves what was earned and costs gas.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from eth_utils.address import to_checksum_address

from mine.follow import deployment_of, follow
from mine.home import Home
from mine.ledger import Ledger
from mine.reasons import shortage
from mine.records import JUDGED, Fate, hexed, token_or_none
from sonar.chain.client import SonarClient
from sonar.chain.errors import RpcUnavailableError
from sonar.chain.lookups import find_block
from sonar.chain.records import NATIVE, Verdict, show_amount
from sonar.config import Network
from sonar.units import Address, Wei

__all__ = ["By", "Row", "earnings", "earnings_report", "earnings_table"]

By = Literal["campaign", "month"]
UNDATED = "undated"
"""The month of what is in a block whose time was not asked yet."""
WITHDRAWALS = "withdrawals"
"""In the place of a campaign: what is for none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the account: amounts in wei, or in the smallest unit of `token` (None: native coin).

    `group` is a campaign's id or a month such as 2026-03, empty for everything. Of its gradients `paid` brought pay,
    and `too_few` were left out because too few mines took part in their rounds. `net` is what is left.
    """

    group: str
    token: Address | None
    gradients: int = 0
    paid: int = 0
    too_few: int = 0
    payout: int = 0
    bonds_lost: int = 0
    gas: int = 0

    @property
    def net(self) -> int:
        """Payouts less what was lost and spent; below zero where mining cost more than it brought."""
        return self.payout - self.bonds_lost - self.gas

    def plus(self, other: "Row") -> "Row":
        """Both together, under this one's group and token."""
        return Row(
            self.group, self.token, self.gradients + other.gradients, self.paid + other.paid,
            self.too_few + other.too_few, self.payout + other.payout, self.bonds_lost + other.bonds_lost,
            self.gas + other.gas,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The row for machines."""
        return {
            "group": self.group or None, "token": self.token, "gradients": self.gradients, "paid": self.paid,
            "too_few": self.too_few, "payout": self.payout, "bonds_lost": self.bonds_lost, "gas": self.gas,
            "net": self.net,
        }  # fmt: skip


def earnings_report(
    home: Path | None, network: Path | None, by: By | None = None
) -> tuple[list[Row], RpcUnavailableError | None]:
    """The account as the chain has it now; where that does not answer, as the ledger has it, and the reason."""
    place, net = Home(home), Network.load(network)
    address = place.address()
    with place.ledger() as ledger:
        try:
            client = SonarClient.from_network(net)
            deployment = deployment_of(client, net.start_block)
            follow(
                client, ledger, deployment, address,
                start_block=net.start_block, confirmations=place.policy().work.confirmations,
            )  # fmt: skip
            _complete(ledger, deployment, client)
        except RpcUnavailableError as error:
            known = ledger.last_deployment(f"{net.chain_id}:{to_checksum_address(net.contract)}:")
            return earnings(ledger, known or "", by), error
        return earnings(ledger, deployment, by), None


def _complete(ledger: Ledger, deployment: str, client: SonarClient) -> None:
    """Asks the chain for the times of blocks, and for the gas of transactions, that the ledger does not know."""
    found = ((number, find_block(client, number)) for number in ledger.undated_blocks(deployment))
    ledger.date_blocks(deployment, {number: block.time for number, block in found if block is not None})
    for other in ledger.other_transactions(deployment):
        if other.gas is None and (receipt := client.receipt(other.hash)) is not None:
            ledger.price_transaction(deployment, other.hash, Wei(receipt.gas_used * receipt.gas_price))


def earnings(ledger: Ledger, deployment: str, by: By | None = None) -> list[Row]:
    """The account of one deployment: a row a group and token, months in order, campaigns by age."""
    rows: dict[tuple[str, Address | None], Row] = {}
    for month, row in _movements(ledger, deployment):
        group = {None: "", "campaign": row.group, "month": month}[by]
        before = rows.get((group, row.token), Row(group, row.token))
        rows[group, row.token] = before.plus(row)
    if by == "month":
        return sorted(rows.values(), key=lambda row: (row.group, row.token or ""))
    return list(rows.values())


def _movements(ledger: Ledger, deployment: str) -> Iterator[tuple[str, Row]]:
    """Every verdict and every mined transaction, with its month, grouped by campaign."""
    times, judged_in = ledger.block_times(deployment), ledger.verdict_blocks()
    paid_in = {known.id: token_or_none(known.token) for known in ledger.campaigns(deployment)}
    for one in ledger.submissions(deployment, *JUDGED):
        month = _month(times.get(judged_in.get((one.campaign, one.round), -1)))
        group, token, kept = hexed(one.campaign), paid_in[one.campaign], one.verdict is Verdict.KEPT
        few = int(shortage(ledger, one) is not None)
        yield (
            month,
            Row(group, token, gradients=1, paid=int(kept and bool(one.payout)), too_few=few, payout=one.payout or 0),
        )
        if one.bond_lost:  # bonds are native coin, whatever the campaign pays in
            yield month, Row(group, None, bonds_lost=one.bond_lost)
    spent = [
        (sent.aim.campaign, sent.block, (sent.gas_used or 0) * (sent.gas_price or 0))
        for sent in ledger.transactions(deployment, Fate.MINED, Fate.REVERTED)
    ] + [(other.campaign, other.block, other.gas or 0) for other in ledger.other_transactions(deployment)]
    for campaign, block, gas in spent:
        month = _month(None if block is None else times.get(block))
        yield month, Row(hexed(campaign) if campaign else WITHDRAWALS, None, gas=gas)


def _month(time: int | None) -> str:
    return UNDATED if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m}"


def earnings_table(rows: list[Row], by: By | None) -> str:
    """The account for people."""
    if not rows:
        return "nothing was earned or spent yet"
    head = [by or "", "gradients", "paid", "too few mines", "payout", "bonds lost", "gas", "net"]
    lines = [head, *(_cells(row, by) for row in rows)]
    if by is None:
        lines = [line[1:] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def _cells(row: Row, by: By | None) -> list[str]:
    def amount(value: int) -> str:
        return show_amount(value, row.token or NATIVE)

    group = row.group[:14] if by == "campaign" and row.group.startswith("0x") else row.group
    costs = [amount(row.bonds_lost), amount(row.gas)] if row.token is None else ["", ""]
    return [group, str(row.gradients), str(row.paid), str(row.too_few), amount(row.payout), *costs, amount(row.net)]
