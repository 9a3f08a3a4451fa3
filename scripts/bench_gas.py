#!/usr/bin/env python3
"""Measures what the contracts' transactions cost, on Anvil, and holds them to their goals and to recorded figures.

usage: scripts/bench_gas.py [--json] [--record] [--figures FILE]

It ends with code 1 if a figure misses its goal or is more than 2% above the recorded one. --record keeps what was
measured, in scripts/gas.json and in the table of docs/gas.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench_gas_market import MOST_GRADIENTS, ROOT, BenchError, Market, Oracle, address, anvil, digest
from eth_account import Account

from sonar.chain import bytecode, calls
from sonar.chain.records import NATIVE
from sonar.errors import SonarError

FIGURES = ROOT / "scripts" / "gas.json"
DOCUMENT = ROOT / "docs" / "gas.md"
TABLE = ("<!-- the table, by scripts/bench_gas.py --record -->\n", "<!-- the end of the table -->\n")
TOLERATED = 0.02
SIZES = (1, 2, 4, 8, 16, 32, MOST_GRADIENTS)
LARGEST_RUNTIME = 24_576
"""The most bytes that a contract may have (EIP-170)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: how it is measured, from the market's first state, and the most that it should be."""

    name: str
    measure: Callable[[Market], int]
    goal: int | None = None
    unit: str = "gas"


# ---- deployments


def deploy_sonar(market: Market) -> int:
    return market.deployment_gas


def sonar_size(market: Market) -> int:
    return market.runtime_size(market.sonar)


def form_committee(market: Market) -> tuple[Oracle, int]:
    """Two of three Capsules."""
    accounts = [Account.from_key(digest(f"key of Capsule {index}")) for index in range(3)]
    members = sorted(accounts, key=lambda account: int(account.address, 16))
    code = bytecode.committee([member.address for member in members], 2).creation_code()
    place, gas = market.deploy(code)
    return Oracle(place, tuple(members[:2])), gas


def deploy_committee(market: Market) -> int:
    return form_committee(market)[1]


def committee_size(market: Market) -> int:
    return market.runtime_size(form_committee(market)[0].address)


# ---- a campaign's beginning


def create(market: Market, *, in_token: bool = False, by_committee: bool = False) -> int:
    oracle = form_committee(market)[0] if by_committee else None
    return market.create(token=market.token if in_token else NATIVE, oracle=oracle)[1]


def submit(market: Market, *, again: bool, joins: bool) -> int:
    """The gas of a gradient, of a mine that was in an earlier round or not, as the round's second one or its first."""
    campaign, _ = market.create()
    mine, other = market.mines[:2]
    market.submit(campaign, mine if again else other)
    market.expire(campaign)
    if joins:
        market.submit(campaign, other)
    return market.submit(campaign, mine)


# ---- a round's end


def settle(
    market: Market,
    count: int,
    *,
    in_token: bool = False,
    by_newcomers: bool = False,
    by_committee: bool = False,
    topped_up: bool = False,
    kept: int | None = None,
) -> int:
    """The gas of a round of `count` gradients, all kept, or the first `kept`."""
    token = market.token if in_token else NATIVE
    oracle = form_committee(market)[0] if by_committee else None
    campaign, _ = market.create(token=token, round_size=count, oracle=oracle)
    if topped_up:
        market.gas(market.owner, calls.top_up(campaign.id, campaign.terms.bounty))
    market.fill(campaign, (market.newcomers if by_newcomers else market.mines)[:count])
    return market.settle(campaign, kept)


def expire(market: Market, count: int) -> int:
    campaign, _ = market.create()
    market.fill(campaign, market.mines[:count])
    return market.expire(campaign)


# ---- what owners do


def top_up(market: Market, *, in_token: bool = False, again: bool = False) -> int:
    token = market.token if in_token else NATIVE
    campaign, _ = market.create(token=token)
    call = calls.top_up(campaign.id, campaign.terms.bounty, token)
    if again:
        market.gas(market.owner, call)
    return market.gas(market.owner, call)


def transfer(market: Market) -> int:
    campaign, _ = market.create()
    return market.gas(market.owner, calls.transfer_campaign(campaign.id, market.mines[0]))


def accept(market: Market) -> int:
    campaign, _ = market.create()
    market.gas(market.owner, calls.transfer_campaign(campaign.id, market.mines[0]))
    return market.gas(market.mines[0], calls.accept_campaign(campaign.id))


def close(market: Market, *, in_token: bool = False) -> int:
    campaign, _ = market.create(token=market.token if in_token else NATIVE)
    return market.gas(market.owner, calls.close_campaign(campaign.id))


# ---- pay


def withdraw(market: Market, *, in_token: bool = False, to_stranger: bool = False) -> int:
    mine = market.mines[0]
    to = address("stranger") if to_stranger else mine
    return market.gas(mine, calls.withdraw(to, market.token if in_token else NATIVE))


SETTLEMENTS: Mapping[str, Callable[..., int]] = {
    "coin": settle,
    "coin, new mines": partial(settle, by_newcomers=True),
    "token": partial(settle, in_token=True),
    "token, new mines": partial(settle, in_token=True, by_newcomers=True),
}


def settlements(label: str) -> Iterable[Row]:
    """Rounds of all sizes; only mines that are paid again, in coin, have a goal."""
    for count in SIZES:
        goal = 65_000 + 14_000 * count if label == "coin" else None
        yield Row(f"settleRound, {label}: {count}", partial(SETTLEMENTS[label], count=count), goal)


ROWS = (
    Row("Sonar's runtime code", sonar_size, LARGEST_RUNTIME, "bytes"),
    Row("Sonar's deployment", deploy_sonar),
    Row("CapsuleCommittee's runtime code", committee_size, LARGEST_RUNTIME, "bytes"),
    Row("CapsuleCommittee's deployment, 3 members", deploy_committee),
    Row("createCampaign, coin", create, 270_000),
    Row("createCampaign, token", partial(create, in_token=True)),
    Row("createCampaign, coin, committee 2 of 3", partial(create, by_committee=True)),
    Row("submitGradient, later of a mine, joins a round", partial(submit, again=True, joins=True), 53_000),
    Row("submitGradient, later of a mine, opens a round", partial(submit, again=True, joins=False), 53_000),
    Row("submitGradient, first of a mine, joins a round", partial(submit, again=False, joins=True), 72_000),
    Row("submitGradient, first of a mine, opens a round", partial(submit, again=False, joins=False), 72_000),
    *(row for label in SETTLEMENTS for row in settlements(label)),
    Row("settleRound, coin: 8, topped up", partial(settle, count=8, topped_up=True)),
    Row("settleRound, coin: 8, half left out", partial(settle, count=8, kept=4)),
    Row("settleRound, coin: 8, no advance", partial(settle, count=8, kept=0)),
    Row("settleRound, coin: 8, committee 2 of 3", partial(settle, count=8, by_committee=True)),
    Row("expireRound: 8", partial(expire, count=8)),
    Row("topUp, coin", top_up),
    Row("topUp, coin, again", partial(top_up, again=True)),
    Row("topUp, token", partial(top_up, in_token=True)),
    Row("transferCampaign", transfer),
    Row("acceptCampaign", accept),
    Row("close, coin", close),
    Row("close, token", partial(close, in_token=True)),
    Row("withdraw, coin, to oneself", withdraw, 40_000),
    Row("withdraw, coin, to a fresh address", partial(withdraw, to_stranger=True)),
    Row("withdraw, token, to oneself", partial(withdraw, in_token=True)),
    Row("withdraw, token, to another", partial(withdraw, in_token=True, to_stranger=True)),
)


def measure() -> dict[str, int]:
    """Every row's figure; each is measured on the same chain, and leaves nothing behind."""
    measured = {}
    with anvil() as web3:
        market = Market(web3)
        for row in ROWS:
            with market.rehearsal():
                measured[row.name] = row.measure(market)
    return measured


def line_of(measured: Mapping[str, int], label: str) -> tuple[int, int]:
    """What a settlement costs by itself and for each gradient: the line through the smallest and the largest round."""
    least, most = (measured[f"settleRound, {label}: {count}"] for count in (SIZES[0], SIZES[-1]))
    slope = (most - least) / (SIZES[-1] - SIZES[0])
    return round(least - SIZES[0] * slope), round(slope)


def lines(measured: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """`line_of` each kind of settlement."""
    return {label: line_of(measured, label) for label in SETTLEMENTS}


def table(measured: Mapping[str, int], recorded: Mapping[str, int] | None = None) -> str:
    """The rows in Markdown; without recorded figures, no columns for them."""
    heads = ["", "measured", "goal"] + ([] if recorded is None else ["recorded", "change"])
    text = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for row in ROWS:
        found, goal = measured[row.name], "" if row.goal is None else f"{row.goal:,}"
        cells = [row.name, f"{found:,}" + (" bytes" if row.unit == "bytes" else ""), goal]
        if recorded is not None:
            before = recorded.get(row.name)
            cells += ["", ""] if before is None else [f"{before:,}", f"{found / before - 1:+.1%}"]
        text.append(f"| {' | '.join(cells)} |")
    for label, (base, slope) in lines(measured).items():
        cells = [f"settleRound, {label}: line from 1 to {SIZES[-1]}", f"{base:,} + {slope:,} per gradient"]
        text.append(f"| {' | '.join(cells + [''] * (len(heads) - 2))} |")
    return "\n".join(text) + "\n"


def missed_goals(measured: Mapping[str, int]) -> list[str]:
    """A sentence for every figure above its goal."""
    return [
        f"{row.name} takes {measured[row.name]:,} {row.unit}, {measured[row.name] - row.goal:,} more than its goal of "
        f"{row.goal:,}."
        for row in ROWS
        if row.goal is not None and measured[row.name] > row.goal
    ]


def regressions(measured: Mapping[str, int], recorded: Mapping[str, int]) -> list[str]:
    """A sentence for every figure that is worse than recorded, and for every row that only one side has."""
    if not recorded:
        return ["There are no recorded figures to compare with: record them with --record."]
    said = []
    for row in ROWS:
        found, before = measured[row.name], recorded.get(row.name)
        if before is None:
            said.append(f"{row.name} has no recorded figure: record it with --record.")
        elif found > before * (1 + TOLERATED):
            said.append(
                f"{row.name} takes {found:,} {row.unit}, {found / before - 1:.1%} more than the recorded {before:,}: "
                "make it cheaper, or record what the new promise costs with --record."
            )
    gone = sorted(recorded.keys() - measured.keys())
    return said + [f"{name} is recorded but no longer measured: drop it with --record." for name in gone]


def improvements(measured: Mapping[str, int], recorded: Mapping[str, int]) -> list[str]:
    """A sentence for every figure so much better than recorded that a loss could pass unseen."""
    return [
        f"{name} takes {measured[name]:,}, the record says {before:,}: keep the gain with --record."
        for name, before in recorded.items()
        if name in measured and measured[name] < before * (1 - TOLERATED)
    ]


def document_with(text: str, measured: Mapping[str, int]) -> str:
    """A document with its table of figures replaced."""
    start, end = TABLE
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BenchError(f"{DOCUMENT.name} has no place for the table: it lies between {start!r} and {end!r}")
    return before + start + "\n" + table(measured) + "\n" + end + after


def record(figures: Path, measured: Mapping[str, int]) -> None:
    """Keeps what was measured; the repository's own figures stand in its document too."""
    figures.write_text(json.dumps(measured, indent=1) + "\n")
    if figures.resolve() == FIGURES:
        DOCUMENT.write_text(document_with(DOCUMENT.read_text(), measured))


def read_figures(figures: Path) -> dict[str, int]:
    """The recorded figures; none where there is no record yet."""
    if not figures.is_file():
        return {}
    try:
        return dict(json.loads(figures.read_text()))
    except (ValueError, TypeError) as error:
        raise BenchError(f"{figures} is not a record of figures: make a new one with --record") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print figures, goals and lines for machines")
    parser.add_argument("--record", action="store_true", help="keep what is measured")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FILE", help="the recorded figures")
    options = parser.parse_args()
    try:
        recorded = read_figures(options.figures)
        measured = measure()
        if options.record:
            record(options.figures, measured)
    except (BenchError, SonarError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if options.json:
        goals = {row.name: row.goal for row in ROWS if row.goal is not None}
        said = {"measured": measured, "recorded": recorded, "goals": goals, "lines": lines(measured)}
        print(json.dumps(said, indent=1))
    else:
        print(table(measured, recorded), end="")
    problems = missed_goals(measured)
    if not options.record:
        problems += regressions(measured, recorded)
        for sentence in improvements(measured, recorded):
            print(f"Note: {sentence}", file=sys.stderr)
    for sentence in problems:
        print(f"Error: {sentence}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
