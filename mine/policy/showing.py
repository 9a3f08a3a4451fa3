"""How the policy, and its rules' word on a campaign, are shown."""

import json
from typing import TYPE_CHECKING, Any

from mine.errors import PolicyError
from mine.policy.file import Policy
from mine.policy.finding import Finding
from mine.records import KnownCampaign, hexed
from sonar.chain.records import Status
from sonar.protocol.errors import ProtocolError

if TYPE_CHECKING:
    from mine.worker import Worker

__all__ = ["check_report", "check_text", "policy_text"]


def policy_text(policy: Policy, *, changed: bool = False) -> str:
    """The settings as TOML, a table after the other; those that are not at their default end in a comment.

    `changed`: only these.
    """
    tables: list[str] = []
    differs = policy.changed()
    for table, settings in policy.model_dump(mode="json").items():
        if table in {"datasets", "committees"}:
            named = {f"{table}.{json.dumps(name)}": terms for name, terms in differs.get(table, {}).items()}
            tables += [_table(header, terms, set()) for header, terms in named.items()]
            continue
        others = set(differs.get(table, {}))
        shown = {name: value for name, value in settings.items() if name in others or not changed}
        if shown:
            tables.append(_table(table, shown, set() if changed else others))
    return "\n\n".join(tables) or "every setting is at its default"


def _table(header: str, settings: dict[str, Any], marked: set[str]) -> str:
    lines = [
        f"{name} = {json.dumps(value)}{'  # changed' if name in marked else ''}" for name, value in settings.items()
    ]
    return "\n".join([f"[{header}]", *lines])


def check_report(worker: "Worker", campaign: KnownCampaign, policy: Policy) -> dict[str, Any]:
    """Every rule's word on a campaign, and what this mine would do."""
    findings: tuple[Finding, ...]
    report: dict[str, Any] = {"campaign": hexed(campaign.id), "name": None, "dataset": None, "trains": False}
    try:
        decision = worker.decide(campaign, policy)
    except PolicyError as error:
        findings = (Finding.no("capsule", str(error)),)
    except ProtocolError as error:
        findings = (Finding.no("offer", f"it does not hold: {error}"),)
    else:
        findings = (_round(worker, campaign), *decision.findings)
        report |= {"name": decision.offer.spec.name, "dataset": decision.dataset and decision.dataset.name}
    if campaign.status is not Status.RUNNING:
        findings = (
            Finding.no("status", f"it is {campaign.status.name.lower()}: nothing can be posted any more"),
            *findings,
        )
    report["trains"] = all(finding.ok for finding in findings)
    report["rules"] = [
        {"rule": finding.rule, "ok": finding.ok, "passing": finding.passing, "sentence": finding.sentence}
        for finding in findings
    ]
    return report


def _round(worker: "Worker", campaign: KnownCampaign) -> Finding:
    """Whether the present round takes a gradient of this mine's, which is no matter of the policy."""
    present = worker.client.round(campaign.id)
    if worker.ledger.submission(campaign.id, present.number) is not None:
        return Finding.later("round", f"this mine has made its gradient of round {present.number}")
    if not present.open:
        return Finding.later("round", f"round {present.number} is full or over: waiting for the next one")
    return Finding.yes("round", f"round {present.number} takes a gradient of this mine's")


def check_text(report: dict[str, Any]) -> str:
    """The same for people: a line each rule, and what follows."""
    rules = report["rules"]
    width = max(len(rule["rule"]) for rule in rules)
    lines = [f"{_WORDS[rule['ok'], rule['passing']]:<4} {rule['rule']:<{width}}  {rule['sentence']}" for rule in rules]
    refused = [rule for rule in rules if not rule["ok"]]
    if not refused:
        lines.append(f"this mine would train {report['name']!r} on the data set {report['dataset']!r} now")
    elif all(rule["passing"] for rule in refused):
        lines.append(f"this mine would wait: {len(refused)} of {len(rules)} rules do not agree yet")
    else:
        lines.append(
            f"this mine would not train it: {sum(not rule['passing'] for rule in refused)} of {len(rules)} rules refuse"
        )
    return "\n".join(lines)


_WORDS = {(True, False): "yes", (False, False): "no", (False, True): "wait"}
