"""The rules of a policy, one by one: each looks at the facts and says in a sentence whether it agrees and why.

A rule that refuses names the setting. Some refusals pass by themselves, with the hour or the price of gas.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mine.errors import NotNowError, PolicyError
from mine.policy.data_rules import judge_data
from mine.policy.facts import Facts
from mine.policy.finding import Finding
from mine.policy.hours import next_opening, within
from mine.strategy import FUNDED_GAS, Estimate, estimate, payable, rest_of, unpaid_rounds
from sonar.chain.records import NATIVE, Verdict
from sonar.units import ether, format_ether, round_ether

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["RULES", "capsule_finding", "judge", "require"]

_GWEI = 10**9
Rule = Callable[["Policy", Facts], Finding]


def judge(policy: "Policy", facts: Facts) -> list[Finding]:
    """Every rule's word on a campaign; where no data set fits, that is the only word on data."""
    return [rule(policy, facts) for rule in RULES] + judge_data(policy, facts)


def require(findings: Sequence[Finding]) -> None:
    """Raises PolicyError with the sentence of every rule that refuses; NotNowError if all refusals may pass."""
    refused = [finding for finding in findings if not finding.ok]
    lasting = [finding for finding in refused if not finding.passing]
    if lasting:
        raise PolicyError("; ".join(finding.sentence for finding in lasting))
    if refused:
        raise NotNowError(
            "; ".join(finding.sentence for finding in refused), tuple(finding.rule for finding in refused)
        )


def capsule_finding(policy: "Policy", capsule: str, network_capsule: str | None) -> Finding:
    """Whether the owner trusts a campaign's Capsule, which sees this mine's X'X and X'Y."""
    rule = "capsule"
    if _listed(capsule, policy.accept.refuse_capsules):
        return Finding.no(rule, f"its Capsule {capsule} is in `refuse_capsules` in [accept]")
    committee = policy.committee(capsule)
    if committee is not None:
        return Finding.yes(
            rule,
            f"its Capsule {capsule} is a trusted committee: {committee.threshold} of {len(committee.members)} sign",
        )
    if _listed(capsule, policy.accept.capsules):
        return Finding.yes(rule, f"its Capsule {capsule} is in `capsules` in [accept]")
    if not policy.accept.capsules and network_capsule is not None and capsule.lower() == network_capsule.lower():
        return Finding.yes(rule, f"its Capsule {capsule} is the one that the network file names")
    return Finding.no(
        rule,
        f"its Capsule {capsule} is not trusted: add it to `capsules` in [accept] if you do trust it, or as a table "
        "[committees.0x...] if it is one",
    )


def _capsule(policy: "Policy", facts: Facts) -> Finding:
    return capsule_finding(policy, facts.record.oracle, facts.network_capsule)


def _owner(policy: "Policy", facts: Facts) -> Finding:
    owner, accept = facts.record.owner, policy.accept
    for one in {owner, facts.creator}:
        if _listed(one, accept.refuse_owners):
            return Finding.no("owner", f"{one}, who began or owns it, is in `refuse_owners` in [accept]")
    if accept.owners and not _listed(owner, accept.owners):
        return Finding.no("owner", f"it belongs to {owner}: add that to `owners` in [accept] to take it")
    return Finding.yes("owner", f"it belongs to {owner}, whom the policy {'lists' if accept.owners else 'allows'}")


def _purpose(policy: "Policy", facts: Facts) -> Finding:
    accept = policy.accept
    return _stated("purpose", facts.spec.purpose, accept.purposes, accept.refuse_purposes)


def _licence(policy: "Policy", facts: Facts) -> Finding:
    accept = policy.accept
    return _stated("licence", facts.spec.licence, accept.licences, accept.refuse_licences)


def _stated(what: str, value: str, wanted: list[str], refused: list[str]) -> Finding:
    """What a spec states against lists of what is wanted and refused; capital letters make no difference."""
    if value.casefold() in {one.casefold() for one in refused}:
        return Finding.no(what, f"its {what} {value!r} is in `refuse_{what}s` in [accept]")
    if wanted and value.casefold() not in {one.casefold() for one in wanted}:
        said = f"its {what} is {value!r}" if value else f"it states no {what}"
        return Finding.no(what, f"{said}, but `{what}s` in [accept] lists only {', '.join(map(repr, wanted))}")
    return Finding.yes(what, f"its {what} {value!r} is allowed" if value else f"it states no {what}, and none is asked")


def _mines(policy: "Policy", facts: Facts) -> Finding:
    kept, least = facts.record.terms.min_mines, policy.accept.min_mines
    if kept < least:
        return Finding.no(
            "mines", f"it advances with {kept} kept mine(s), the policy wants {least}: lower `min_mines` in [accept] "
            "to take it",
        )  # fmt: skip
    return Finding.yes("mines", f"it advances with {kept} or more kept mines, at least {least} are wanted")


def _realised_pay(policy: "Policy", facts: Facts) -> Finding:
    promised, paid = sum(one.promised for one in facts.past), sum(one.paid for one in facts.past)
    if not promised:
        return Finding.yes("realised pay", "its owner has no earlier campaign in this coin that was judged")
    part, least = 100 * paid // promised, policy.accept.min_realised_pay
    said = f"its owner's {len(facts.past)} earlier campaign(s) paid {part}% of what they promised"
    if part < least:
        return Finding.no("realised pay", f"{said}, less than `min_realised_pay` {least} in [accept]")
    return Finding.yes("realised pay", f"{said}, and {least}% are asked")


def _approval(policy: "Policy", facts: Facts) -> Finding:
    said, campaign = facts.approval, "0x" + facts.record.id.hex()
    if said is not None and not said.approved:
        return Finding.no("approval", f"you denied it: {said.reason}; `mine approve {campaign}` takes that back")
    if not policy.accept.approval:
        return Finding.yes("approval", "you approved it" if said else "the policy asks for no approval")
    if said is None:
        return Finding.later("approval", f"it waits for your word: `mine approve {campaign}` or `mine deny {campaign}`")
    if said.owner.lower() != facts.record.owner.lower():
        return Finding.later(
            "approval",
            f"you approved it when {said.owner} owned it, and now {facts.record.owner} does: `mine approve {campaign}`",
        )
    return Finding.yes("approval", f"you approved it: {said.reason}" if said.reason else "you approved it")


def _token(policy: "Policy", facts: Facts) -> Finding:
    token = facts.record.terms.token
    if token == NATIVE:
        return Finding.yes("token", "it pays in native coin")
    if not _listed(token, policy.money.tokens):
        return Finding.no("token", f"it pays in the token {token}: add it to `tokens` in [money] to take it")
    return Finding.yes("token", f"it pays in the token {token}, which `tokens` in [money] lists")


def _bounty_left(policy: "Policy", facts: Facts) -> Finding:
    terms = facts.record.terms
    left = terms.bounty - facts.record.paid
    if terms.token != NATIVE:
        return Finding.yes("bounty left", f"{left} of the token are left, for which the policy has no least amount")
    said, least = f"{format_ether(left)} ether of its bounty are left", policy.money.min_bounty_left
    if left < ether(least):
        return Finding.no("bounty left", f"{said}, less than `min_bounty_left` {least} in [money]")
    return Finding.yes("bounty left", f"{said}, at least {least} are asked")


def _payout(policy: "Policy", facts: Facts) -> Finding:
    expected, least = _estimate(facts).payout, policy.money.min_payout
    if facts.record.terms.token != NATIVE:
        return Finding.yes("payout", f"about {expected} of the token are expected, for which the policy has no least")
    said = f"one gradient is expected to be paid about {round_ether(expected)} ether"
    if expected < ether(least):
        return Finding.no("payout", f"{said}, less than `min_payout` {least} in [money]")
    return Finding.yes("payout", f"{said}, at least {least} are asked")


def _gain(policy: "Policy", facts: Facts) -> Finding:
    expected = _estimate(facts)
    cost = f"about {round_ether(expected.gas)} ether for gas and {round_ether(expected.bond_loss)} of the bond"
    if payable(facts.record) == 0:
        return Finding.no("gain", "it pays nothing any more: its score has reached the target")
    if facts.record.terms.token != NATIVE:
        return Finding.yes("gain", f"posting costs {cost}, which cannot be compared with pay in a token")
    if expected.gain >= 0:
        return Finding.yes("gain", f"posting costs {cost}, no more than the expected pay")
    said = f"posting costs {cost}, more than the {round_ether(expected.payout)} ether of pay expected"
    if policy.money.work_at_a_loss:
        return Finding.yes("gain", f"{said}, which `work_at_a_loss` in [money] allows")
    return Finding.later("gain", f"{said}: allow it by `work_at_a_loss` in [money]")


def _bond(policy: "Policy", facts: Facts) -> Finding:
    bond, most = facts.record.terms.bond, policy.money.max_bond
    if bond > ether(most):
        return Finding.no("bond", f"its bond is {format_ether(bond)} ether, above `max_bond` {most} in [money]")
    return Finding.yes("bond", f"its bond is {format_ether(bond)} ether, at most {most} are allowed")


def _stake(policy: "Policy", facts: Facts) -> Finding:
    most, at_stake = policy.money.bond_budget, facts.at_stake
    said = (
        f"{format_ether(at_stake)} ether are at stake now, {format_ether(at_stake + facts.record.terms.bond)} with it"
    )
    if at_stake + facts.record.terms.bond > ether(most):
        return Finding.later("stake", f"{said}, above `bond_budget` {most} in [money]: waiting for verdicts")
    return Finding.yes("stake", f"{said}, at most {most} are allowed")


def _lost_bond(policy: "Policy", facts: Facts) -> Finding:
    last = next((one.verdict for one in facts.own if one.verdict is not None), None)
    if last not in {Verdict.INVALID, Verdict.COPY}:
        return Finding.yes("lost bond", "its judge has not taken the whole bond of this mine's last gradient")
    said = f"its judge found this mine's last gradient {last.name.lower()} and took the bond"
    if policy.money.leave_when_bond_is_lost:
        return Finding.no("lost bond", f"{said} (`leave_when_bond_is_lost` in [money]): look into it first")
    return Finding.yes("lost bond", f"{said}, for which the policy does not leave")


def _gas(policy: "Policy", facts: Facts) -> Finding:
    price, most = facts.gas_price, policy.money.max_gas_gwei
    said = f"gas costs {price / _GWEI:.4g} gwei now"
    if price > policy.money.highest_gas_price:
        return Finding.later("gas", f"{said}, above `max_gas_gwei` {most:g} in [money]: waiting until it is cheaper")
    return Finding.yes("gas", f"{said}, at most {most:g} are allowed")


def _funds(_policy: "Policy", facts: Facts) -> Finding:
    needed = facts.record.terms.bond + FUNDED_GAS * facts.highest_fee
    said = f"account {facts.mine} holds {round_ether(facts.balance)} ether"
    if facts.balance < needed:
        return Finding.later(
            "funds", f"{said}, and bond and gas of a gradient take {round_ether(needed)}: fund it before it trains"
        )
    return Finding.yes("funds", f"{said}, bond and gas of a gradient take {round_ether(needed)}")


def _unpaid(policy: "Policy", facts: Facts) -> Finding:
    unpaid, most = unpaid_rounds(facts.own), policy.work.max_unpaid_rounds
    if unpaid >= most:
        return Finding.no(
            "unpaid rounds", f"its last {unpaid} rounds paid this mine nothing (`max_unpaid_rounds` {most} in [work])"
        )
    said = (
        f"its last {unpaid} rounds paid this mine nothing" if unpaid else "it left no work of this mine's unpaid lately"
    )
    return Finding.yes("unpaid rounds", f"{said}, {most} rounds in a row are too many")


def _rest(policy: "Policy", facts: Facts) -> Finding:
    rest, now = rest_of(facts.own, facts.record.terms.round_seconds), facts.now.timestamp()
    if rest is None or not rest.holds(facts.round, now):
        return Finding.yes("rest", "it need not rest")
    said = f"its last {unpaid_rounds(facts.own)} rounds paid this mine nothing"
    if not policy.work.back_off:
        return Finding.yes("rest", f"{said}, for which the policy leaves out no round")
    return Finding.later(
        "rest", f"{said}: it is left alone until round {rest.until_round}, or for {round(rest.until - now)} s "
        "(`back_off` in [work])",
    )  # fmt: skip


def _submissions(policy: "Policy", facts: Facts) -> Finding:
    most = policy.work.max_submissions
    said = f"{facts.submitted} gradient(s) were posted in it"
    if most and facts.submitted >= most:
        return Finding.no("submissions", f"{said}, as many as `max_submissions` {most} in [work] allows")
    return Finding.yes("submissions", f"{said}, {most or 'any number'} may be")


def _submissions_today(policy: "Policy", facts: Facts) -> Finding:
    most = policy.work.max_submissions_per_day
    said = f"{facts.submitted_today} gradient(s) were posted today"
    if most and facts.submitted_today >= most:
        return Finding.later(
            "submissions today",
            f"{said}, as many as `max_submissions_per_day` {most} in [work] allows: waiting for midnight",
        )
    return Finding.yes("submissions today", f"{said}, {most or 'any number'} may be")


def _hours(policy: "Policy", facts: Facts) -> Finding:
    hours = policy.work.hours
    if not within(hours, facts.now):
        opens = next_opening(hours, facts.now)
        return Finding.later(
            "hours", f"it is {facts.now:%a %H:%M}, outside `hours` in [work]: waiting until {opens:%a %H:%M}"
        )
    return Finding.yes("hours", f"it is {facts.now:%a %H:%M}, within `hours` in [work]" if hours else "at any hour")


def _training(policy: "Policy", facts: Facts) -> Finding:
    said = f"a training is estimated to take {_time(facts.training_seconds)}"
    if facts.training_seconds > policy.work.longest_training_seconds:
        return Finding.no("training", f"{said}, above `longest_training` {policy.work.longest_training} in [work]")
    return Finding.yes("training", f"{said}, at most {policy.work.longest_training} are allowed")


def _estimate(facts: Facts) -> Estimate:
    return estimate(facts.record, facts.settled, facts.own, facts.gas_price)


def _listed(address: str, addresses: list[str]) -> bool:
    return address.lower() in {one.lower() for one in addresses}


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


RULES: tuple[Rule, ...] = (
    _capsule, _owner, _purpose, _licence, _mines, _realised_pay, _approval, _token, _bounty_left, _payout, _gain,
    _bond, _stake, _lost_bond, _gas, _funds, _hours, _training, _submissions, _submissions_today, _unpaid, _rest,
)  # fmt: skip
"""The rules that need no data set."""
