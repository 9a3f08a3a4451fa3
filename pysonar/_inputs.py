"""Tables, labels and targets as a notebook may hand them in, turned into exact values; what too few of them mean."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pysonar._noise import standard_error
from pysonar.errors import ColdStartWarning, FewRecordsWarning, ValidationSetError
from sonar.protocol.spec import MetricName

__all__ = [
    "class_indices", "class_name", "feature_table", "plain_array", "sample_weights", "target_table",
    "warn_of_cold_start", "warn_of_few",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COARSEST = 0.05
"""A rise of the score by so much should be above the noise."""


def plain_array(values: Any) -> npt.NDArray[Any]:
    """The array in a list, array, data frame or tensor (also one that is being trained); no sparse one."""
    if hasattr(values, "tocsr"):
        raise ValidationSetError(f"a {type(values).__name__} is sparse, which is not taken: give it dense, .toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValidationSetError(
            f"{int(np.ma.getmaskarray(values).sum())} of the values are masked: remove or fill them, .filled()"
        )
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except ValueError as error:  # lists of several lengths
        raise ValidationSetError(f"the values make no table ({error!s:.200}): give as many in each row") from error


def feature_table(table: Any, names: Sequence[str]) -> Floats:
    """Features (records, features) as floats; columns of a data frame that bears the names are taken by name.

    Raises ValidationSetError for a wrong shape, values that are no numbers, NaN and infinities.
    """
    return _table(table, names, "feature")


def _table(table: Any, names: Sequence[str], what: str) -> Floats:
    columns = getattr(table, "columns", None)
    if columns is not None:
        given = {str(column): column for column in columns}
        missing = [name for name in names if name not in given]
        if len(given) < len(columns):
            counts = Counter(str(column) for column in columns)
            if twice := [name for name in names if counts[name] > 1]:
                raise ValidationSetError(f"the table has {counts[twice[0]]} columns {twice[0]!r}: give it one such")
        if not missing:
            table = _side_by_side({name: np.asarray(table[given[name]]) for name in names}, what)
        elif len(missing) < len(names) or len(given) != len(names):
            raise ValidationSetError(
                f"the table has no column {missing[0]!r} ({len(missing)} of {len(names)} {what}s are missing): "
                f"name the model's {what}s like its columns"
            )
        elif all(isinstance(column, str) for column in columns):
            raise ValidationSetError(
                f"the table has columns {_some(given)}, and the model the {what}s {_some(names)}: name them alike, "
                f"{what}s=list(table.columns), or give table.to_numpy() to have them taken in their order"
            )
    raw = plain_array(table)
    try:
        values = raw.real.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationSetError(f"the {what}s are not all numbers ({error}): encode them as numbers first") from error
    if raw.dtype.kind == "c":
        raise ValidationSetError(
            f"Complex data not supported: the {what}s are {raw.dtype}, not numbers: give real ones"
        )
    if raw.dtype.kind not in "biufO":
        raise ValidationSetError(f"the {what}s are {raw.dtype}, not numbers: encode them as numbers first")
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValidationSetError(
            f"the {what}s have shape {values.shape}, but the model takes (records, {len(names)}): "
            f"give one row a record and one column a {what}"
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(at) for at in bad[0])
        raise ValidationSetError(
            f"{what} {names[column]!r} of record {row} is {_told(values[row, column])} "
            f"({len(bad)} such values in all): remove or fill them"
        )
    return values


def _side_by_side(columns: dict[str, npt.NDArray[Any]], what: str) -> npt.NDArray[Any]:
    for name, values in columns.items():
        if values.dtype.kind in "mM":  # which numpy would not put beside numbers
            raise ValidationSetError(
                f"{what} {name!r} holds times ({values.dtype}): make numbers of them, such as days since a date"
            )
    return np.column_stack(list(columns.values()))


def class_indices(labels: Any, classes: Sequence[str], records: int) -> Ints:
    """Labels (records,) as class indices.

    Text names a class. A number is a class's index, unless all classes are named by whole numbers: then it is the name.
    Raises ValidationSetError for a wrong count and for labels outside the classes.
    """
    given = plain_array(labels)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1 or len(given) != records:
        raise ValidationSetError(
            f"the labels have shape {given.shape}, but there are {records} records: give one label a record"
        )
    if given.dtype.kind in "OUS":
        return _by_name([class_name(label) for label in given.tolist()], classes)
    if given.dtype.kind not in "biuf":
        raise ValidationSetError(f"labels of type {given.dtype} name no class: give class names or indices")
    if given.dtype.kind == "f" and not (np.isfinite(given).all() and (given == np.round(given)).all()):
        wrong = given[~np.isfinite(given) | (given != np.round(given))][0]
        raise ValidationSetError(f"label {wrong} is not a whole number: give class names or indices")
    numbers = given.astype(np.int64)
    if all(name.removeprefix("-").isdecimal() for name in classes):
        return _by_name([str(number) for number in numbers.tolist()], classes)
    outside = numbers[(numbers < 0) | (numbers >= len(classes))]
    if len(outside):
        raise ValidationSetError(
            f"label {int(outside[0])} is outside the model's {len(classes)} classes "
            f"({len(outside)} such labels in all): indices go from 0 to {len(classes) - 1}"
        )
    return numbers


def target_table(targets: Any, names: Sequence[str], records: int) -> Floats:
    """Numbers to predict (records, targets); one target may come as (records,), columns of a data frame by name.

    Raises ValidationSetError for another shape, values that are no numbers, NaN and infinities.
    """
    if getattr(targets, "columns", None) is None:
        given = plain_array(targets)
        if given.ndim == 1 and len(names) == 1:
            targets = given[:, None]
        elif given.ndim != 2 or given.shape[1] != len(names):
            wanted = "(records,)" if len(names) == 1 else f"(records, {len(names)})"
            raise ValidationSetError(
                f"the targets have shape {given.shape}, but the model predicts {wanted}: give one row a record and one "
                "column a target"
            )
    values = _table(targets, names, "target")
    if len(values) != records:
        raise ValidationSetError(
            f"the targets have shape {values.shape}, but there are {records} records: give targets for each"
        )
    return values


def sample_weights(given: Any, records: int) -> Floats:
    """How much each record (records,) counts, all alike unless given; raises ValidationSetError."""
    try:
        weights = np.ones(records) if given is None else plain_array(given).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationSetError(f"sample_weight is not all numbers ({error!s:.200}): give one a record") from error
    if weights.shape != (records,) or not (np.isfinite(weights) & (weights >= 0)).all() or weights.sum() == 0:
        raise ValidationSetError(
            f"sample_weight has shape {weights.shape} for {records} records, or is negative, or all zero: give one "
            "number from 0 on for each record"
        )
    return weights


def warn_of_few(counts: Ints, metric: MetricName, target: float, noise: float) -> None:
    """Warns where the validation set cannot tell five points of score near the target: less than that is unpaid there.

    `counts` are the validation records of each class, or of a regression all of them; `target` is a score in (0, 1],
    `noise` the standard errors above which credit starts. A target above 0.9 is taken as 0.9, through which the score
    must go.
    """
    near, records = min(target, 0.9), int(counts.sum())
    seen = noise * standard_error(metric, near, counts)
    if seen > _COARSEST:
        # Errors fall with the root of the records; what floats add must not ask for one more.
        needed = math.ceil(records * (seen / _COARSEST) ** 2 - 1e-6)
        warnings.warn(
            f"{records} validation records tell the {metric.replace('_', ' ')} near {near:.0%} to about {seen:.1%} "
            f"only, and mines that raise it by less may be left out or kept without pay: give {needed} records or more",
            FewRecordsWarning,
            stacklevel=4,
        )


def warn_of_cold_start(score: float) -> None:
    """Warns that a model which knows nothing makes the first round take nearly all of the pay."""
    warnings.warn(
        f"the start model is all zero and scores {score:.2%}, so the first round takes nearly all of the pay, for what "
        "anybody's records would teach: start from a model of your own, by weights=, from_fitted or fitted_on",
        ColdStartWarning,
        stacklevel=4,
    )


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")


def _told(value: float) -> str:
    return "NaN" if math.isnan(value) else str(value)


def _by_name(labels: list[str], classes: Sequence[str]) -> Ints:
    index = {name: at for at, name in enumerate(classes)}
    unknown = [label for label in labels if label not in index]
    if unknown:
        raise ValidationSetError(
            f"label {unknown[0]!r} is not among the model's classes {_some(classes)} ({len(unknown)} such labels in "
            "all): name the model's classes as the labels do, in `classes`"
        )
    return np.array([index[label] for label in labels], dtype=np.int64)


def class_name(label: Any) -> str:
    """A class's name as tables have it: 1.0, which numpy makes of whole numbers in a column with gaps, is 1."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
