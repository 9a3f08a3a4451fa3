"""The rules of a policy that look at whose campaign it is, and what for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mine.policy.facts import Facts
from mine.policy.finding import Finding, many

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["CAMPAIGN_RULES", "capsule_finding", "listed"]


def listed(address: str, addresses: list[str]) -> bool:
    """Whether an address is among those of a setting, however they are written."""
    return address.lower() in {one.lower() for one in addresses}


def capsule_finding(policy: "Policy", capsule: str, network_capsule: str | None) -> Finding:
    """Whether the owner trusts a campaign's Capsule, which sees this mine's X'X and X'Y."""
    rule, said = "capsule", f"its Capsule {capsule} is"
    if listed(capsule, policy.accept.refuse_capsules):
        return Finding.no(rule, f"{said} in `refuse_capsules` in [accept]")
    committee = policy.committee(capsule)
    if committee is not None:
        return Finding.yes(rule, f"{said} a trusted committee: {committee.threshold} of {len(committee.members)} sign")
    if listed(capsule, policy.accept.capsules):
        return Finding.yes(rule, f"{said} in `capsules` in [accept]")
    if not policy.accept.capsules and network_capsule is not None and capsule.lower() == network_capsule.lower():
        return Finding.yes(rule, f"{said} the one that the network file names")
    return Finding.no(
        rule,
        f"{said} not trusted",
        "add it to `capsules` in [accept] if you do trust it, or as a table [committees.0x...] if it is one",
    )


def _capsule(policy: "Policy", facts: Facts) -> Finding:
    return capsule_finding(policy, facts.record.oracle, facts.network_capsule)


def _owner(policy: "Policy", facts: Facts) -> Finding:
    owner, accept = facts.record.owner, policy.accept
    for one in {owner, facts.creator}:
        if listed(one, accept.refuse_owners):
            return Finding.no("owner", f"{one}, who began or owns it, is in `refuse_owners` in [accept]")
    if accept.owners and not listed(owner, accept.owners):
        return Finding.no("owner", f"it belongs to {owner}", "add that to `owners` in [accept] to take it")
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
            "mines",
            f"its rounds may keep {many(kept, 'mine')}, and the policy wants {least} at least",
            "lower `min_mines` in [accept] to take it",
        )
    return Finding.yes("mines", f"its rounds keep {kept} mines or more, and {least} are wanted")


def _realised_pay(policy: "Policy", facts: Facts) -> Finding:
    promised, paid = sum(one.promised for one in facts.past), sum(one.paid for one in facts.past)
    if not promised:
        return Finding.yes("realised pay", "its owner has no earlier campaign in this coin that was judged")
    part, least = 100 * paid // promised, policy.accept.min_realised_pay
    said = f"its owner's {many(len(facts.past), 'earlier campaign')} paid {part}% of what they promised"
    if part < least:
        return Finding.no("realised pay", f"{said}, less than `min_realised_pay` {least} in [accept]")
    return Finding.yes("realised pay", f"{said}, and {f'{least}% is asked' if least else 'any is enough'}")


def _approval(policy: "Policy", facts: Facts) -> Finding:
    said, campaign = facts.approval, "0x" + facts.record.id.hex()[:12]
    if said is not None and not said.approved:
        return Finding.no("approval", f"you denied it ({said.reason})", f"`mine approve {campaign}` takes that back")
    if not policy.accept.approval:
        return Finding.yes("approval", "you approved it" if said else "the policy asks for no approval")
    if said is None:
        return Finding.later(
            "approval", "it waits for your word", f"`mine approve {campaign}` or `mine deny {campaign}`"
        )
    if said.owner.lower() != facts.record.owner.lower():
        return Finding.later(
            "approval",
            f"you approved it when {said.owner} owned it, and now {facts.record.owner} does",
            f"`mine approve {campaign}`",
        )
    return Finding.yes("approval", f"you approved it: {said.reason}" if said.reason else "you approved it")


CAMPAIGN_RULES: tuple[Callable[["Policy", Facts], Finding], ...] = (
    _capsule, _owner, _purpose, _licence, _mines, _realised_pay, _approval,
)  # fmt: skip
