"""The rules of a policy that look at money: what a campaign pays, what a gradient costs, and what is put at stake."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from mine.policy.campaign_rules import listed
from mine.policy.facts import Facts
from mine.policy.finding import Finding, many
from mine.strategy import (
    FUNDED_GAS,
    Estimate,
    alone_until,
    at_risk_alone,
    estimate,
    payable,
    sharers,
    short_rounds,
)
from mine.wallet import DEVELOPMENT_CHAINS
from sonar.chain.records import NATIVE, Verdict
from sonar.units import ether, format_ether, round_ether

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["MONEY_RULES"]

_GWEI = 10**9


def _token(policy: "Policy", facts: Facts) -> Finding:
    token = facts.record.terms.token
    if token == NATIVE:
        return Finding.yes("token", "it pays in native coin")
    if not listed(token, policy.money.tokens):
        return Finding.no("token", f"it pays in the token {token}", "add it to `tokens` in [money] to take it")
    return Finding.yes("token", f"it pays in the token {token}, which `tokens` in [money] lists")


def _bounty_left(policy: "Policy", facts: Facts) -> Finding:
    terms = facts.record.terms
    left = terms.bounty - facts.record.paid
    if terms.token != NATIVE:
        return Finding.yes("bounty left", f"{left} of the token are left, for which the policy has no least amount")
    said, least = f"{format_ether(left)} ether of its bounty is left", policy.money.min_bounty_left
    if left < ether(least):
        return Finding.no("bounty left", f"{said}, less than `min_bounty_left` {least} in [money]")
    return Finding.yes("bounty left", f"{said}, and {_asked(least)}")


def _payout(policy: "Policy", facts: Facts) -> Finding:
    expected, least = _estimate(facts).payout, policy.money.min_payout
    if facts.record.terms.token != NATIVE:
        return Finding.yes("payout", f"about {expected} of the token are expected, for which the policy has no least")
    said = f"one gradient is expected to be paid about {round_ether(expected)} ether"
    if expected < ether(least):
        return Finding.no("payout", f"{said}, less than `min_payout` {least} in [money]; {_reckoned(facts)}")
    return Finding.yes("payout", f"{said}, and {_asked(least)}; {_reckoned(facts)}")


def _gain(policy: "Policy", facts: Facts) -> Finding:
    expected = _estimate(facts)
    cost = f"about {round_ether(expected.gas)} ether for gas and {round_ether(expected.bond_loss)} of the bond"
    if payable(facts.record) == 0:
        if facts.record.score >= facts.record.terms.target:
            return Finding.no("gain", "it pays nothing any more, since its score has reached the target")
        unit = "wei" if facts.record.terms.token == NATIVE else "of the token"
        return Finding.no(
            "gain", f"its bounty, {facts.record.terms.bounty} {unit}, is too small to pay for a higher score"
        )
    if facts.record.terms.token != NATIVE:
        return Finding.yes("gain", f"posting costs {cost}, which cannot be compared with pay in a token")
    if expected.gain >= 0:
        return Finding.yes("gain", f"posting costs {cost}, no more than the expected pay")
    said = f"posting costs {cost}, more than the {round_ether(expected.payout)} ether of pay expected"
    if policy.money.work_at_a_loss:
        return Finding.yes("gain", f"{said}, which `work_at_a_loss` in [money] allows")
    return Finding.later("gain", said, "allow it by `work_at_a_loss` in [money]")


def _bond(policy: "Policy", facts: Facts) -> Finding:
    bond, most = facts.record.terms.bond, policy.money.max_bond
    said = f"its bond is {format_ether(bond)} ether"
    if bond > ether(most):
        return Finding.no("bond", f"{said}, above `max_bond` {most} in [money]")
    return Finding.yes("bond", f"{said}, and at most {most} are allowed")


def _stake(policy: "Policy", facts: Facts) -> Finding:
    most, at_stake = policy.money.bond_budget, facts.at_stake
    together = at_stake + facts.record.terms.bond
    said = f"{format_ether(at_stake)} ether are at stake now, {format_ether(together)} with it"
    if together > ether(most):
        return Finding.later("stake", f"{said}, above `bond_budget` {most} in [money]", "waiting for verdicts")
    return Finding.yes("stake", f"{said}, and at most {most} are allowed")


def _others(policy: "Policy", facts: Facts) -> Finding:
    """Whether somebody else is there: in a round with too few gradients everybody loses a part of the bond."""
    rule, least, here = "others", facts.record.terms.min_mines, facts.present
    if here + 1 >= least:
        return Finding.yes(rule, f"with this one its round has {here + 1} of the {many(least, 'gradient')} it needs")
    risk = at_risk_alone(facts.record.terms, here)
    said = f"its round has {here} of the {many(least, 'gradient')} it needs"
    told = Finding.yes(rule, f"{said}; {round_ether(risk)} ether of the bond is lost if no other comes")
    if not risk or here or policy.money.post_first == "always":
        return told
    if policy.money.post_first == "never":
        return Finding.later(rule, f'{said}, and `post_first` in [money] is "never"', "another mine must go first")
    alone = short_rounds(facts.own)
    if not alone:
        return told
    before = f"too few came to {'its last round' if alone == 1 else f'its last {alone} rounds'} with this mine's"
    if alone >= policy.work.max_unpaid_rounds:
        return Finding.later(rule, before, "another mine must go first (`post_first` in [money])")
    until = alone_until(facts.own, facts.record.terms.round_seconds)
    if until <= facts.now.timestamp():
        return told
    clock = datetime.fromtimestamp(until, facts.now.tzinfo)
    return Finding.later(rule, before, f"another mine may go first, until {clock:%a %H:%M} (`post_first` in [money])")


def _lost_bond(policy: "Policy", facts: Facts) -> Finding:
    last = next((one.verdict for one in facts.own if one.verdict is not None), None)
    if last not in {Verdict.INVALID, Verdict.COPY}:
        return Finding.yes("lost bond", "its judge has not taken the whole bond of this mine's last gradient")
    said = f"its judge found this mine's last gradient {last.name.lower()} and took the bond"
    if policy.money.leave_when_bond_is_lost:
        return Finding.no("lost bond", f"{said} (`leave_when_bond_is_lost` in [money])", "look into it first")
    return Finding.yes("lost bond", f"{said}, for which the policy does not leave")


def _gas(policy: "Policy", facts: Facts) -> Finding:
    price, most = facts.gas_price, policy.money.max_gas_gwei
    said = f"gas costs {price / _GWEI:.4g} gwei now"
    if price > policy.money.highest_gas_price:
        return Finding.later("gas", f"{said}, above `max_gas_gwei` {most:g} in [money]", "waiting until it is cheaper")
    return Finding.yes("gas", f"{said}, and at most {most:g} are allowed")


def _funds(_policy: "Policy", facts: Facts) -> Finding:
    needed = facts.record.terms.bond + FUNDED_GAS * facts.highest_fee
    said = f"the account {facts.mine} holds {round_ether(facts.balance)} ether"
    costs = f"bond and gas of a gradient take {round_ether(needed)}"
    if facts.balance < needed:
        hint = "fund it, and it trains"
        if facts.chain_id in DEVELOPMENT_CHAINS:
            hint += "; the accounts that `sonar devnet` made have some: `mine init --key-file FILE` adopts one"
        return Finding.later("funds", f"{said}, and {costs}", hint)
    return Finding.yes("funds", f"{said}, and {costs}")


def _asked(least: str) -> str:
    return f"{least} is asked" if ether(least) else "any is enough"


def _estimate(facts: Facts) -> Estimate:
    return estimate(facts.record, facts.settled, facts.own, facts.gas_price, shared_by=_shared_by(facts))


def _shared_by(facts: Facts) -> int:
    return sharers(facts.record.terms, facts.present, facts.before)


def _reckoned(facts: Facts) -> str:
    """What the expected pay goes by, so that an owner can tell how much to make of it."""
    if not facts.settled:
        return f"no round has been judged yet: with {_shared_by(facts)} in it the first may pay many times that"
    before = many(facts.settled, "round")
    return f"reckoned from {before} before, with {_shared_by(facts)} in this one"


MONEY_RULES: tuple[Callable[["Policy", Facts], Finding], ...] = (
    _token, _bounty_left, _payout, _gain, _bond, _stake, _others, _lost_bond, _gas, _funds,
)  # fmt: skip
