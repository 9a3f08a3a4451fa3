"""The rules of a policy that look at the data: which set a campaign may use, and how few records would show.

Sums over few records give them away: one record is its own gradient, fewer records than features can be solved for,
and the sums of a polynomial or Fourier map are moments, which tell few records one by one. With privacy on it is the
noise that hides a record, and these rules would only let a campaign count records by what it asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mine.errors import PolicyError
from mine.policy.facts import Facts, Offered
from mine.policy.finding import Finding, many
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.charging import check_budget, check_round
from mine.privacy.estimate import estimate
from mine.privacy.release import check_schedule
from mine.privacy.rounds import check_noise, rounds_left
from sonar.syft.statistics import Statistics

if TYPE_CHECKING:
    from mine.policy.file import Policy
    from mine.privacy.rule import PrivacyRule
    from sonar.protocol.spec import Spec
    from sonar.syft.schedule import Gathered

__all__ = ["DATA_RULES", "best_offer", "check_count", "check_records", "judge_data"]

DataRule = Callable[["Policy", Facts, Offered], Finding]

_LEAST_FOR_MAPS = 2


def judge_data(policy: "Policy", facts: Facts) -> list[Finding]:
    """Every rule's word on the data set that is offered; why none is, where none is."""
    if facts.offered is None:
        return [Finding.no("data set", facts.unfit)]
    return [rule(policy, facts, facts.offered) for rule in DATA_RULES]


def best_offer(policy: "Policy", facts: Facts, offers: Sequence[Offered]) -> Facts:
    """The facts with the largest data set to which all rules agree; if there is none, with the largest at all."""
    ranked = sorted(offers, key=lambda offered: offered.records, reverse=True)
    for offered in ranked:
        having = replace(facts, offered=offered)
        if all(finding.ok for finding in judge_data(policy, having)):
            return having
    return replace(facts, offered=ranked[0]) if ranked else facts


def check_records(policy: "Policy", gathered: "Gathered", spec: "Spec") -> None:
    """Raises PolicyError unless what was gathered is enough records, also as class weights leave them in a batch."""
    findings = [_records(policy, gathered.records), _features(policy, gathered.records, spec)]
    if spec.classes and isinstance(gathered, Statistics):
        findings.append(_smallest_class(policy, spec, _counted(gathered, spec)))
    for finding in findings:
        if not finding.ok:
            raise PolicyError(finding.sentence)
    if gathered.effective_batch < policy.data.min_records:
        raise PolicyError(
            f"its class weights make the records of a batch count as {gathered.effective_batch:.1f}, fewer than "
            f"`min_records` {policy.data.min_records} in [data]: some would show in the gradient"
        )


def check_count(policy: "Policy", records: int, spec: "Spec") -> None:
    """Raises PolicyError unless so many records, which a network was trained on, are enough."""
    for finding in (_records(policy, records), _features(policy, records, spec)):
        if not finding.ok:
            raise PolicyError(finding.sentence)


def _counted(gathered: Statistics, spec: "Spec") -> list[tuple[str, int]]:
    """The classes that records were gathered of, with their numbers: the constant's sums with the one-hot targets."""
    counts = gathered.moment[-1] / np.array(gathered.class_weights or [1.0] * len(spec.classes))
    return [(name, count) for name, count in zip(spec.classes, map(round, counts), strict=True) if count]


def _dataset(policy: "Policy", facts: Facts, offered: Offered) -> Finding:
    terms, rule, name = policy.dataset(offered.name), "data set", f"the data set {offered.name!r}"
    record = facts.record
    if terms is None:
        if policy.data.only_listed:
            return Finding.no(
                rule, f"{name} has no table [datasets.{offered.name}], which `only_listed` in [data] asks for"
            )
        return Finding.yes(rule, f"{name} fits, and is free for every campaign")
    place, campaign = f"[datasets.{offered.name}]", "0x" + record.id.hex()
    owners, refused = ({one.lower() for one in several} for several in (terms.owners, terms.refuse_owners))
    for one in (record.owner, facts.creator):
        if one.lower() in refused:
            return Finding.no(rule, f"{name} is not for {one}, who is in `refuse_owners` in {place}")
    if owners and record.owner.lower() not in owners:
        return Finding.no(rule, f"{name} is not for {record.owner}: add that to `owners` in {place} to allow it")
    if campaign in {one.lower() for one in terms.refuse_campaigns}:
        return Finding.no(rule, f"{name} is not for this campaign, which is in `refuse_campaigns` in {place}")
    if terms.campaigns and campaign not in {one.lower() for one in terms.campaigns}:
        return Finding.no(
            rule, f"{name} is not for this campaign: add {campaign} to `campaigns` in {place} to allow it"
        )
    purpose = facts.spec.purpose
    if terms.purposes and purpose.casefold() not in {one.casefold() for one in terms.purposes}:
        return Finding.no(
            rule, f"{name} is not for the purpose {purpose!r}: `purposes` in {place} lists what it is for"
        )
    return Finding.yes(rule, f"{name} fits, and {place} allows this campaign")


def _records(policy: "Policy", records: int) -> Finding:
    least = policy.data.min_records
    if records < least:
        return Finding.no(
            "records",
            f"{records} records are fewer than `min_records` {least} in [data]: each would show in the gradient",
        )
    return Finding.yes("records", f"{records} records, at least {least} are wanted")


def _records_rule(policy: "Policy", _facts: Facts, offered: Offered) -> Finding:
    return _records(policy, offered.records)


def _features_rule(policy: "Policy", facts: Facts, offered: Offered) -> Finding:
    if policy.privacy.mode == "on":
        return Finding.yes("features", f"noise hides each record, whatever {facts.spec.mapping.outputs} features tell")
    return _features(policy, offered.records, facts.spec)


def _features(policy: "Policy", records: int, spec: "Spec") -> Finding:
    kind, outputs, each = spec.feature_map.kind, spec.mapping.outputs, policy.data.records_per_feature
    mapped = f" of its {kind} map"
    if kind == "identity":
        mapped = ""
    else:
        each = max(each, _LEAST_FOR_MAPS)
    if records < each * outputs:
        setting = "" if mapped and each == _LEAST_FOR_MAPS else f" (`records_per_feature` {each} in [data])"
        return Finding.no(
            "features",
            f"{records} records are fewer than {each * outputs}, {_times(each)} the {outputs} features{mapped}"
            f"{setting}: each would show in the gradient",
        )
    return Finding.yes("features", f"{records} records are at least {_times(each)} the {outputs} features{mapped}")


def _batch(policy: "Policy", facts: Facts, _offered: Offered) -> Finding:
    size, least = facts.spec.training.batch_size, policy.data.min_records
    if facts.spec.network is not None:
        size = facts.spec.network.training.batch_size
        told = "noise hides each" if policy.privacy.mode == "on" else "single ones can be made out of it"
        return Finding.yes(
            "batch", f"it trains on batches of {size} records, and posts the change by all of them: {told}"
        )
    if size is None:
        return Finding.yes("batch", "every step is on all records")
    if size < least:
        return Finding.no(
            "batch",
            f"it trains on batches of {size} records, fewer than `min_records` {least} in [data]: each would show in "
            "the gradient",
        )
    return Finding.yes("batch", f"it trains on batches of {size} records, at least {least} are wanted")


def _classes(policy: "Policy", facts: Facts, offered: Offered) -> Finding:
    if not offered.classes:
        return Finding.yes("classes", "it predicts numbers, so no class is small")
    if policy.privacy.mode == "on":
        return Finding.yes("classes", "noise hides each record, however few of a class there are")
    return _smallest_class(policy, facts.spec, offered.classes)


def _smallest_class(policy: "Policy", spec: "Spec", classes: Sequence[tuple[str, int]]) -> Finding:
    """Of a map's sums over one class, too, there must be fewer than half of the values in the records of that class."""
    name, count = min(classes, key=lambda item: item[1])
    least = policy.data.min_class_records
    inputs, outputs = len(spec.features), spec.mapping.outputs
    mapped = -(-_LEAST_FOR_MAPS * outputs // inputs) if spec.feature_map.kind != "identity" else 0
    if count < mapped and mapped > least:
        return Finding.no(
            "classes",
            f"the class {name!r} has {count} record(s), fewer than {mapped}: the gradient holds {outputs} sums of a "
            f"{spec.feature_map.kind} map over them, which would tell {inputs} inputs of each",
        )
    if count < least:
        return Finding.no(
            "classes",
            f"the class {name!r} has {count} record(s), fewer than `min_class_records` {least} in [data]: the gradient "
            "holds their sum",
        )
    return Finding.yes(
        "classes", f"the smallest class {name!r} has {count} records, at least {max(least, mapped)} are wanted"
    )


def _privacy(policy: "Policy", facts: Facts, offered: Offered) -> Finding:
    rule, spec = policy.privacy, facts.spec
    if rule.mode == "off":
        told = "sums" if spec.network is None else "changes of its network"
        return Finding.yes("privacy", f"{told} without noise are sealed to the Capsule (`mode` in [privacy])")
    if spec.network is not None:
        return _privacy_of_network(rule, spec, offered)
    try:
        check_schedule(spec)
        if offered.served:
            return Finding.yes("privacy", "a statistic that was released before serves it, at no further cost")
        check_budget([offered.name], offered.spent + rho_of(rule.epsilon, rule.delta), rule)
    except PolicyError as error:
        return Finding.no("privacy", str(error))
    expected = estimate(offered.records, spec.mapping.outputs, rule, targets=len(spec.targets))
    if expected.loss > rule.max_loss:
        return Finding.no("privacy", f"{expected.sentence}: more than `max_loss` {rule.max_loss:g} in [privacy]")
    return Finding.yes(
        "privacy",
        f"{expected.sentence}; epsilon {epsilon_of(offered.spent, rule.delta):.3g} of a budget of {rule.budget:g} is "
        "spent before",
    )


def _privacy_of_network(rule: "PrivacyRule", spec: "Spec", offered: Offered) -> Finding:
    try:
        said = check_noise(spec, offered.records, rule)
        if offered.served:
            return Finding.yes("privacy", "this round is paid for: its gradient costs no more")
        check_round([offered.name], offered.spent + rho_of(rule.epsilon_of_round, rule.delta), rule)
    except PolicyError as error:
        return Finding.no("privacy", str(error))
    left = rounds_left(rule, offered.spent)
    return Finding.yes(
        "privacy",
        f"{said}; epsilon {epsilon_of(offered.spent, rule.delta):.3g} of a budget of {rule.budget:g} is spent before, "
        f"which leaves {many(left, 'round')}",
    )


def _times(count: int) -> str:
    return {1: "as many as", 2: "twice"}.get(count, f"{count} times")


DATA_RULES: tuple[DataRule, ...] = (_dataset, _records_rule, _features_rule, _batch, _classes, _privacy)
