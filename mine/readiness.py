"""What is known of a data set before it is read again: whether its files are there, and which records are bad.

What was counted when it was added holds while its files are as they were then; where they changed, or are a server's,
the reading itself will tell.
"""

from collections.abc import Iterator

from mine.data import Column, Dataset, Match, source_state
from mine.errors import DataError
from mine.policy import Finding, Policy
from sonar.protocol.spec import Feature, Spec

__all__ = ["require_ready", "source_finding"]

_MENDED = "with privacy on values out of a feature's range are cut to it and gaps are filled, and no record is refused"


def require_ready(dataset: Dataset, found: Match, spec: Spec, policy: Policy) -> None:
    """Raises DataError where reading is known to end in vain: a file that is missing, or a bad record to be refused.

    With privacy on, what gradients come must not tell of single records, so bad ones do not decide here.
    """
    try:
        state = source_state(dataset.source)
    except DataError as error:
        raise DataError(f"data set {dataset.name!r} cannot be read: {error}") from error
    if policy.data.on_bad_records == "refuse" and policy.privacy.mode == "off" and _known(dataset, state):
        faults = list(_faults(dataset, found, spec))
        if faults:
            raise DataError(
                f"data set {dataset.name!r} has records that cannot be trained on: {'; '.join(faults)} "
                '(`on_bad_records = "drop"` in [data] leaves them out)'
            )


def source_finding(dataset: Dataset, found: Match, spec: Spec, policy: Policy) -> Finding:
    """What is known, and what not yet, of the records of a data set that is ready; raises as `source_state`."""
    rule, where, mends = "source", dataset.source.shown, policy.privacy.mode == "on"
    if not _known(dataset, source_state(dataset.source)):
        why = "is a server" if dataset.source.remote else "has changed since it was added"
        what = _MENDED if mends else "which records are bad now shows when it is read"
        return Finding.yes(rule, f"{where} {why}: {what}")
    faults = list(_faults(dataset, found, spec))
    if not faults:
        what = f": {_MENDED}" if mends else ", and no record was found bad then"
        return Finding.yes(rule, f"{where} is as it was added{what}")
    what = _MENDED if mends else "such records are dropped (`on_bad_records` in [data])"
    return Finding.yes(rule, f"{where} is as it was added: {'; '.join(faults)}; {what}")


def _known(dataset: Dataset, state: str | None) -> bool:
    return state is not None and state == dataset.state


def _faults(dataset: Dataset, found: Match, spec: Spec) -> Iterator[str]:
    yield from found.faults
    wanted = {feature.name: feature for feature in spec.features}
    for link in found.features:
        column = None if link.column is None or found.images else dataset.column(link.column)
        if column is not None and (fault := _outside(column, wanted[link.feature])) is not None:
            yield fault


def _outside(column: Column, feature: Feature) -> str | None:
    """How a column's values go beyond what a campaign declares of its feature, so that records are refused for it."""
    least = 0.0 if feature.type == "boolean" else feature.minimum
    most = 1.0 if feature.type == "boolean" else feature.maximum
    if (least is not None and column.minimum < least) or (most is not None and column.maximum > most):
        goes = f"column {column.name!r} goes from {column.minimum:g} to {column.maximum:g}"
        ends = [f"{side} {end:g}" for side, end in (("below", least), ("above", most)) if end is not None]
        return f"{goes}, and the campaign takes nothing {' or '.join(ends)} as {feature.name!r}"
    if feature.type != "number" and column.type == "number":
        return f"column {column.name!r} has numbers that are not whole, the campaign's {feature.name!r} has none"
    return None
