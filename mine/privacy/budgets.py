"""What the owner sees of budgets: for all data that share one, what was spent, on what, what is left; and what was
told without any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mine.data import Dataset
from mine.data.footprint import places_of
from mine.errors import DataError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.rounds import rounds_left
from mine.privacy.rule import PrivacyRule
from mine.records import hexed

if TYPE_CHECKING:
    from mine.ledger import Ledger

__all__ = [
    "Budget", "Plain", "budget_table", "budgets", "plain_gradients", "said_of_place", "said_of_places",
    "said_of_unread",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one pool: `datasets` share it, `statistics` and `rounds` of networks were noised, `unknown` charged for
    gradients of another copy.

    `statistics_left` is how many more of the rule's epsilon it buys, `rounds_left` how many rounds in their place.
    """

    datasets: tuple[str, ...]
    statistics: int
    rounds: int
    unknown: int
    spent: float
    budget: float
    statistics_left: int
    rounds_left: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "datasets": list(self.datasets), "statistics": self.statistics, "rounds": self.rounds,
            "unknown_gradients": self.unknown, "epsilon_spent": self.spent, "budget": self.budget,
            "statistics_left": self.statistics_left, "rounds_left": self.rounds_left,
        }  # fmt: skip


def budgets(ledger: "Ledger", rule: PrivacyRule) -> list[Budget]:
    """All pools, and data sets that were never looked at, which share with nothing as far as is known."""
    found, named = [], set()
    for pool in ledger.pools():
        members, charges = tuple(ledger.members(pool)), ledger.charges(pool)
        named |= set(members)
        unknown = sum(not charge.own for charge in charges)
        rounds = sum(charge.own and charge.campaign is not None for charge in charges)
        spent = ledger.spent(pool)
        left = _left(rule, len(charges), float(spent)), rounds_left(rule, spent)
        found.append(Budget(members, len(charges) - unknown - rounds, rounds, unknown, epsilon_of(spent, rule.delta),
                            rule.budget, *left))  # fmt: skip
    for dataset in ledger.datasets():
        if dataset.name not in named:
            left = _left(rule, 0, 0.0), rounds_left(rule, Fraction(0))
            found.append(Budget((dataset.name,), 0, 0, 0, 0.0, rule.budget, *left))
    return found


@dataclass(frozen=True, slots=True)
class Plain:
    """Gradients of a data set in a campaign (0x and 64 digits) that were sent without noise: no budget holds them."""

    dataset: str
    campaign: str
    gradients: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"dataset": self.dataset, "campaign": self.campaign, "gradients": self.gradients}


def plain_gradients(ledger: "Ledger") -> list[Plain]:
    """All of them, by data set."""
    return [Plain(dataset, hexed(campaign), count) for dataset, campaign, count in ledger.plain_gradients()]


def budget_table(found: list[Budget], plain: list[Plain], rule: PrivacyRule) -> str:
    """For people."""
    head = f"privacy is {rule.mode}: epsilon {rule.epsilon:g} a statistic, budget {rule.budget:g}, delta {rule.delta:g}"
    if rule.round_epsilon:
        head += f"; epsilon {rule.round_epsilon:g} a round of a network"
    networks = any(one.rounds for one in found)
    rows = [("DATA SETS", "SPENT", "LEFT", "STATISTICS", *(["ROUNDS"] if networks else []), "UNKNOWN GRADIENTS")]
    rows += [
        (", ".join(one.datasets), f"{one.spent:.3f}", f"{one.statistics_left} more", str(one.statistics),
         *([str(one.rounds)] if networks else []), str(one.unknown)) for one in found
    ]  # fmt: skip
    lines = [head, *_aligned(rows)]
    if plain:
        lines += ["", "sent without noise, of which no budget tells (the Capsule can read the sums in them):"]
        lines += _aligned([
            ("DATA SET", "CAMPAIGN", "GRADIENTS"), *((one.dataset, one.campaign, str(one.gradients)) for one in plain)
        ])  # fmt: skip
    return "\n".join(lines)


def said_of_place(ledger: "Ledger", dataset: Dataset, rule: PrivacyRule) -> str | None:
    """What the owner should know of a data set: whose budget it shares for where it lies; None if nobody's."""
    places = _known_places(dataset)
    kept = {dataset.name, *rule.separate}
    others = [one.name for one in ledger.datasets() if one.name not in kept and places & _known_places(one)]
    if rule.mode == "off" or dataset.name in rule.separate or not others:
        return None
    return (
        f"{dataset.name} shares its privacy budget with {', '.join(others)}, which is read from the same place: if "
        f'nobody\'s record is in both, write `separate = ["{dataset.name}"]` in [privacy] of the policy before either '
        "is trained on"
    )


def said_of_places(ledger: "Ledger", rule: PrivacyRule) -> list[str]:
    """What the owner should know of all data sets that were not looked at yet, and so share nothing so far."""
    return [
        said
        for dataset in ledger.datasets()
        if ledger.pool_of(dataset.name) is None and (said := said_of_place(ledger, dataset, rule)) is not None
    ]


def said_of_unread(ledger: "Ledger", rule: PrivacyRule) -> str | None:
    """That data sets which were never read with noise may share a budget all the same; None where nobody has to know.

    Whether two hold the same records shows when they are read, wherever they lie.
    """
    datasets = [one.name for one in ledger.datasets()]
    unread = [name for name in datasets if ledger.pool_of(name) is None]
    if rule.mode == "off" or not unread or len(datasets) < 2:
        return None
    return (
        f"not read with noise yet: {', '.join(unread)}. What has records of another data set, say a copy of it, "
        "shares its budget from when it is first trained on, and shows nothing of that before"
    )


def _known_places(dataset: Dataset) -> set[str]:
    try:
        return set(places_of(dataset.source))
    except DataError:
        return {dataset.location}  # its files are away; what they share shows when they are read


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _left(rule: PrivacyRule, charges: int, spent: float) -> int:
    """How many statistics of the rule's epsilon a budget still buys; `check_budget` has the last word."""
    room = float(rho_of(rule.budget, rule.delta)) - spent
    # The costs of so many are a hair below what was asked for: rounding must not lose the last one.
    return max(0, int(room / float(rho_of(rule.epsilon, rule.delta)) + 1e-6 * (charges + 1)))
