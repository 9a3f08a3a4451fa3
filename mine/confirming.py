"""Has the owner say which columns a campaign's features are, where the data set alone does not."""

from collections.abc import Callable, Mapping, Sequence

from mine.data import Dataset, How, Link, Match, consider, listed, nearness
from mine.errors import DataError
from sonar.protocol.spec import Spec

__all__ = ["ASKED", "Ask", "closest", "confirm", "match_table"]

Ask = Callable[[Link, str | None], str | None]
"""Gives the column that the owner names for a feature, or None where they leave it open; told what was wrong before."""
ASKED = 3
"""How often a feature is asked for."""


def closest(datasets: Sequence[Dataset], spec: Spec, saved: Mapping[str, Mapping[str, str]]) -> tuple[Dataset, str]:
    """The data set that fits a campaign best, and why: the least problems, the fewest open features, most records.

    `saved` are the confirmed columns by data set. Raises DataError if there is no data set.
    """
    if not datasets:
        raise DataError("there is no data set: add one with `mine add`")
    found = [(consider(dataset, spec, saved.get(dataset.name)), dataset) for dataset in datasets]
    found.sort(key=lambda one: (*nearness(one[0]), -one[1].records))
    (best, dataset), others = found[0], found[1:]
    if not others:
        return dataset, ""
    fits = sum(nearness(match) == (0, 0) for match, _ in found)
    if nearness(best) == (0, 0):
        which = f"has the most records of the {fits} that fit" if fits > 1 else "is the only one that fits"
    else:
        second, runner_up = others[0]
        which = f"comes nearest, with {_short_of(best)}; then {runner_up.name!r}, with {_short_of(second)}"
    return dataset, f"of {len(datasets)} data sets {dataset.name!r} {which}: --dataset names another"


def confirm(
    dataset: Dataset, spec: Spec, saved: Mapping[str, str], given: Mapping[str, str], ask: Ask | None = None
) -> tuple[Match, dict[str, str]]:
    """The match after what was given and answered, and all that is confirmed now, by feature.

    `given` overrules what was saved. An answer that cannot be is told and asked for again, ASKED times at most. Raises
    DataError for what is given of a feature that the campaign and a column that the data set does not have, or of a
    column that another feature is.
    """
    confirmed = {**saved, **given}
    known = {link.feature for link in consider(dataset, spec).links}
    for feature, column in given.items():
        if feature not in known:
            raise DataError(f"campaign {spec.name!r} has no feature {feature!r:.80}: it has {listed(sorted(known))}")
        others = {other: name for other, name in confirmed.items() if other != feature}
        _check_column(dataset, column, feature, consider(dataset, spec, others))
    found = consider(dataset, spec, confirmed, guessing=True)
    if ask is not None:
        for link in found.unsure:
            answer = _answer(dataset, link, consider(dataset, spec, confirmed), ask)
            if answer is not None:
                confirmed[link.feature] = answer
        found = consider(dataset, spec, confirmed, guessing=True)
    return found, confirmed


def _answer(dataset: Dataset, link: Link, present: Match, ask: Ask) -> str | None:
    """The column that the owner names; None where it is left open, or no answer could be."""
    problem = None
    for _ in range(ASKED):
        answer = ask(link, problem)
        if answer is None:
            return None
        try:
            _check_column(dataset, answer, link.feature, present)
        except DataError as error:
            problem = str(error)
        else:
            return answer
    return None


def _short_of(match: Match) -> str:
    """How far a data set is from fitting."""
    problems, unsure = nearness(match)
    parts = [f"{problems} in the way" if problems else "", f"{unsure} of {len(match.links)} open" if unsure else ""]
    return " and ".join(filter(None, parts)) or "nothing open"


def match_table(match: Match) -> str:
    """The match for people: a line for each feature and target, then what else there is to know."""
    rows = [("FEATURE", "COLUMN", "HOW", "WHY"), *(_row(link) for link in match.links)]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
             for row in rows]  # fmt: skip
    lines += [f"in the way: {problem}" for problem in match.problems]
    lines += [f"bad records: {fault}" for fault in match.faults]
    lines += [f"look at this: {warning}" for warning in match.warnings]
    return "\n".join(lines)


def _row(link: Link) -> tuple[str, str, str, str]:
    sure = "" if link.how is not How.UNSURE or not link.guesses else f" {round(100 * link.guesses[0].sure)} %"
    return link.feature, link.column or "-", str(link.how) + sure, link.sentence


def _check_column(dataset: Dataset, column: str, feature: str, present: Match) -> None:
    """Raises DataError for a column that is none, and for one that another feature is already."""
    if dataset.column(column) is None and column not in dataset.targets:
        names = [one.name for one in dataset.columns]
        raise DataError(f"data set {dataset.name!r} has no numeric column {column!r:.80}: it has {listed(names)}")
    for link in present.links:
        if link.sure and link.column == column and link.feature != feature:
            raise DataError(
                f"the column {column!r} is {link.feature!r} already ({link.sentence}): name another for {feature!r:.80}"
            )
