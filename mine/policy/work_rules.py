"""The rules of a policy that look at this mine's work: when, how long, how often, and whether it was for nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mine.policy.facts import Facts
from mine.policy.finding import Finding, many
from mine.policy.hours import next_opening, within
from mine.strategy import rest_of, unpaid_rounds

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["WORK_RULES"]


def _hours(policy: "Policy", facts: Facts) -> Finding:
    hours = policy.work.hours
    if not within(hours, facts.now):
        opens = next_opening(hours, facts.now)
        return Finding.later(
            "hours", f"it is {facts.now:%a %H:%M}, outside `hours` in [work]", f"waiting until {opens:%a %H:%M}"
        )
    return Finding.yes("hours", f"it is {facts.now:%a %H:%M}, within `hours` in [work]" if hours else "at any hour")


def _training(policy: "Policy", facts: Facts) -> Finding:
    said = f"a training is estimated to take {_time(facts.training_seconds)}"
    if facts.training_seconds > policy.work.longest_training_seconds:
        return Finding.no("training", f"{said}, above `longest_training` {policy.work.longest_training} in [work]")
    return Finding.yes("training", f"{said}, and {policy.work.longest_training} are allowed")


def _submissions(policy: "Policy", facts: Facts) -> Finding:
    most = policy.work.max_submissions
    said = f"this mine has made {many(facts.submitted, 'gradient')} for it"
    if most and facts.submitted >= most:
        return Finding.no("submissions", f"{said}, as many as `max_submissions` {most} in [work] allows")
    return Finding.yes("submissions", f"{said}, and {most or 'any number'} may be")


def _submissions_today(policy: "Policy", facts: Facts) -> Finding:
    most = policy.work.max_submissions_per_day
    said = f"this mine has made {many(facts.submitted_today, 'gradient')} today"
    if most and facts.submitted_today >= most:
        return Finding.later(
            "submissions today",
            f"{said}, as many as `max_submissions_per_day` {most} in [work] allows",
            "waiting for midnight",
        )
    return Finding.yes("submissions today", f"{said}, and {most or 'any number'} may be")


def _unpaid(policy: "Policy", facts: Facts) -> Finding:
    unpaid, most = unpaid_rounds(facts.own), policy.work.max_unpaid_rounds
    said = f"its {_last(unpaid)} paid this mine nothing"
    if unpaid >= most:
        return Finding.no("unpaid rounds", f"{said} (`max_unpaid_rounds` {most} in [work])")
    if not unpaid:
        said = "it left no work of this mine's unpaid lately"
    return Finding.yes("unpaid rounds", f"{said}, and {most} in a row are too many")


def _rest(policy: "Policy", facts: Facts) -> Finding:
    rest, now = rest_of(facts.own, facts.record.terms.round_seconds), facts.now.timestamp()
    if rest is None or not rest.holds(facts.round, now):
        return Finding.yes("rest", "it need not rest")
    said = f"its {_last(unpaid_rounds(facts.own))} paid this mine nothing"
    if not policy.work.back_off:
        return Finding.yes("rest", f"{said}, for which the policy leaves out no round")
    wait = f"it is left alone until round {rest.until_round}, or for {round(rest.until - now)} s"
    return Finding.later("rest", said, f"{wait} (`back_off` in [work])")


def _last(rounds: int) -> str:
    return "last round" if rounds == 1 else f"last {rounds} rounds"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


WORK_RULES: tuple[Callable[["Policy", Facts], Finding], ...] = (
    _hours, _training, _submissions, _submissions_today, _unpaid, _rest,
)  # fmt: skip
