"""All rules together: what each says of a campaign, and the errors that their refusals are."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mine.errors import NotNowError, PolicyError
from mine.policy.campaign_rules import CAMPAIGN_RULES
from mine.policy.data_rules import judge_data
from mine.policy.facts import Facts
from mine.policy.finding import Finding
from mine.policy.mode_rules import MODE_RULES
from mine.policy.money_rules import MONEY_RULES
from mine.policy.work_rules import WORK_RULES

if TYPE_CHECKING:
    from mine.policy.file import Policy

__all__ = ["judge", "require"]

_RULES: tuple[Callable[["Policy", Facts], Finding], ...] = (*CAMPAIGN_RULES, *MODE_RULES, *MONEY_RULES, *WORK_RULES)


def judge(policy: "Policy", facts: Facts) -> list[Finding]:
    """Every rule's word on a campaign; where no data set fits, that is the only word on data."""
    return [rule(policy, facts) for rule in _RULES] + judge_data(policy, facts)


def require(findings: Sequence[Finding]) -> None:
    """Raises PolicyError with the sentence of every rule that refuses; NotNowError if all refusals may pass."""
    refused = [finding for finding in findings if not finding.ok]
    lasting = [finding for finding in refused if not finding.passing]
    if lasting:
        raise PolicyError("; ".join(finding.text for finding in lasting))
    if refused:
        raise NotNowError("; ".join(finding.text for finding in refused), tuple(finding.rule for finding in refused))
