"""What the owner sees of budgets: for all data that share one, what was spent, on what, and what is left."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.rule import PrivacyRule

if TYPE_CHECKING:
    from mine.ledger import Ledger

__all__ = ["Budget", "budget_table", "budgets"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one pool: `datasets` share it, `statistics` were noised, `unknown` charged for gradients of another copy.

    `statistics_left` is how many more of the rule's epsilon it buys.
    """

    datasets: tuple[str, ...]
    statistics: int
    unknown: int
    spent: float
    budget: float
    statistics_left: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "datasets": list(self.datasets), "statistics": self.statistics, "unknown_gradients": self.unknown,
            "epsilon_spent": self.spent, "budget": self.budget, "statistics_left": self.statistics_left,
        }  # fmt: skip


def budgets(ledger: "Ledger", rule: PrivacyRule) -> list[Budget]:
    """All pools, and data sets that were never looked at, which share with nothing as far as is known."""
    found, named = [], set()
    for pool in ledger.pools():
        members, charges = tuple(ledger.members(pool)), ledger.charges(pool)
        named |= set(members)
        unknown = sum(charge.campaign is not None for charge in charges)
        spent = ledger.spent(pool)
        found.append(Budget(members, len(charges) - unknown, unknown, epsilon_of(spent, rule.delta), rule.budget,
                            _left(rule, len(charges), float(spent))))  # fmt: skip
    for dataset in ledger.datasets():
        if dataset.name not in named:
            found.append(Budget((dataset.name,), 0, 0, 0.0, rule.budget, _left(rule, 0, 0.0)))  # noqa: PERF401
    return found


def budget_table(found: list[Budget], rule: PrivacyRule) -> str:
    """For people."""
    head = f"privacy is {rule.mode}: epsilon {rule.epsilon:g} a statistic, budget {rule.budget:g}, delta {rule.delta:g}"
    rows = [("DATA SETS", "SPENT", "LEFT", "STATISTICS", "UNKNOWN GRADIENTS")]
    rows += [
        (", ".join(one.datasets), f"{one.spent:.3f}", f"{one.statistics_left} more", str(one.statistics),
         str(one.unknown)) for one in found
    ]  # fmt: skip
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([head, *lines])


def _left(rule: PrivacyRule, charges: int, spent: float) -> int:
    """How many statistics of the rule's epsilon a budget still buys; `check_budget` has the last word."""
    room = float(rho_of(rule.budget, rule.delta)) - spent
    # The costs of so many are a hair below what was asked for: rounding must not lose the last one.
    return max(0, int(room / float(rho_of(rule.epsilon, rule.delta)) + 1e-6 * (charges + 1)))
