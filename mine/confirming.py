"""Has the owner say which columns a campaign's features are, where the data set alone does not."""

from collections.abc import Callable, Mapping, Sequence

from mine.data import Dataset, How, Link, Match, consider, listed
from mine.errors import DataError
from sonar.protocol.spec import Spec

__all__ = ["Ask", "closest", "confirm", "match_table"]

Ask = Callable[[Link], str | None]
"""Gives the column that the owner names for a feature, or None where they leave it open."""


def closest(datasets: Sequence[Dataset], spec: Spec, saved: Mapping[str, Mapping[str, str]]) -> Dataset:
    """The data set that fits a campaign best: the least problems, then the fewest open features, then most records.

    `saved` are the confirmed columns by data set. Raises DataError if there is no data set.
    """
    if not datasets:
        raise DataError("there is no data set: add one with `mine add`")

    def rank(dataset: Dataset) -> tuple[int, int, int]:
        found = consider(dataset, spec, saved.get(dataset.name))
        return len(found.problems), len(found.unsure), -dataset.records

    return min(datasets, key=rank)


def confirm(
    dataset: Dataset, spec: Spec, saved: Mapping[str, str], given: Mapping[str, str], ask: Ask | None = None
) -> tuple[Match, dict[str, str]]:
    """The match after what was given and answered, and all that is confirmed now, by feature.

    `given` overrules what was saved. Raises DataError for a feature that the campaign and a column that the data set
    does not have.
    """
    confirmed = {**saved, **given}
    known = {link.feature for link in consider(dataset, spec).links}
    for feature, column in given.items():
        if feature not in known:
            raise DataError(f"campaign {spec.name!r} has no feature {feature!r:.80}: it has {listed(sorted(known))}")
        _check_column(dataset, column)
    found = consider(dataset, spec, confirmed)
    for link in found.unsure:
        answer = None if ask is None else ask(link)
        if answer is not None:
            _check_column(dataset, answer)
            confirmed[link.feature] = answer
    return consider(dataset, spec, confirmed), confirmed


def match_table(match: Match) -> str:
    """The match for people: a line for each feature and target, then what else there is to know."""
    rows = [("FEATURE", "COLUMN", "HOW", "WHY"), *(_row(link) for link in match.links)]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
             for row in rows]  # fmt: skip
    lines += [f"in the way: {problem}" for problem in match.problems]
    lines += [f"bad records: {fault}" for fault in match.faults]
    return "\n".join(lines)


def _row(link: Link) -> tuple[str, str, str, str]:
    sure = "" if link.how is not How.UNSURE or not link.guesses else f" {round(100 * link.guesses[0].sure)} %"
    return link.feature, link.column or "-", str(link.how) + sure, link.sentence


def _check_column(dataset: Dataset, column: str) -> None:
    if dataset.column(column) is None and column not in dataset.targets:
        names = [one.name for one in dataset.columns]
        raise DataError(f"data set {dataset.name!r} has no numeric column {column!r:.80}: it has {listed(names)}")
