"""How the policy, and its rules' word on a campaign, are shown."""

import json
from typing import TYPE_CHECKING, Any

from mine.errors import PolicyError
from mine.policy.file import Policy
from mine.policy.finding import Finding, many
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
    report: dict[str, Any] = {
        "campaign": hexed(campaign.id),
        "name": None,
        "dataset": None,
        "fitting": 0,
        "trains": False,
    }
    if campaign.status is not Status.RUNNING:
        over = Finding.no("status", f"it is {campaign.status.name.lower()}: nothing can be posted any more")
        return report | {"rules": _rows((over,))}
    try:
        decision = worker.decide(campaign, policy)
    except PolicyError as error:
        findings = (Finding.no("capsule", str(error)),)
    except ProtocolError as error:
        findings = (Finding.no("offer", f"it does not hold: {error}"),)
    else:
        findings = (_round(worker, campaign), *decision.findings)
        report |= {
            "name": decision.offer.spec.name,
            "dataset": decision.dataset and decision.dataset.name,
            "fitting": decision.fitting,
        }
    report["trains"] = all(finding.ok for finding in findings)
    return report | {"rules": _rows(findings)}


def _rows(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    return [
        {"rule": one.rule, "ok": one.ok, "passing": one.passing, "sentence": one.sentence, "hint": one.hint or None}
        for one in findings
    ]


def _round(worker: "Worker", campaign: KnownCampaign) -> Finding:
    """Whether the present round takes a gradient of this mine's, which is no matter of the policy."""
    present = worker.client.round(campaign.id)
    if worker.ledger.submission(campaign.id, present.number) is not None:
        return Finding.later("round", f"this mine has made its gradient of round {present.number}")
    if not present.open:
        return Finding.later("round", f"round {present.number} is full or over: waiting for the next one")
    return Finding.yes("round", f"round {present.number} takes a gradient of this mine's")


def check_text(report: dict[str, Any], *, brief: bool = False) -> str:
    """The same for people: refusals first, then what is waited for, then (unless `brief`) what agrees; what follows."""
    rules = sorted(report["rules"], key=lambda rule: (rule["ok"], rule["passing"]))
    refused = [rule for rule in rules if not rule["ok"]]
    shown = refused if brief else rules
    width = max((len(rule["rule"]) for rule in shown), default=0)
    lines = []
    for rule in shown:
        lines.append(f"{_WORDS[rule['ok'], rule['passing']]:<4}  {rule['rule']:<{width}}  {rule['sentence']}")
        if rule["hint"]:
            lines.append(f"{'':<{4 + 2 + width + 2}}{rule['hint']}")
    return "\n".join([*lines, _verdict(report, refused)])


def _verdict(report: dict[str, Any], refused: list[dict[str, Any]]) -> str:
    if not refused:
        which = f", the largest allowed of {report['fitting']} that fit" if report["fitting"] > 1 else ""
        return f"this mine would train {report['name']!r} on the data set {report['dataset']!r} now{which}"
    lasting = [rule for rule in refused if not rule["passing"]]
    if not lasting:
        return f"this mine would wait: {len(refused)} of {many(len(report['rules']), 'rule')} do not agree yet"
    refuse = "refuses" if len(lasting) == 1 else "refuse"
    return f"this mine would not train it: {len(lasting)} of {many(len(report['rules']), 'rule')} {refuse}"


_WORDS = {(True, False): "yes", (False, False): "no", (False, True): "wait"}
