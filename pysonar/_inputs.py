"""What a notebook may hand in, turned into exact values: arrays, labels, amounts, targets, deadlines."""

import math
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from pysonar._noise import standard_error
from pysonar.errors import FewRecordsWarning, TermsError, UnknownCampaignError, ValidationSetError
from sonar.chain.records import LARGEST_AMOUNT
from sonar.errors import ConfigError
from sonar.protocol.spec import MetricName
from sonar.units import PPM, Address, CampaignId, Ppm, Wei, address_of, campaign_id_of, duration

__all__ = [
    "address", "campaign_id", "class_indices", "deadline_at", "feature_table", "parts_per_million", "plain_array",
    "warn_of_few", "wei",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COARSEST = 0.05
"""A rise of the score by so much should be above the noise."""


def plain_array(values: Any) -> npt.NDArray[Any]:
    """The array in a list, array, data frame or tensor (also one that is being trained)."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def feature_table(table: Any, names: Sequence[str]) -> Floats:
    """Features (records, features) as floats; columns of a data frame that bears the names are taken by name.

    Raises ValidationSetError for a wrong shape, values that are no numbers, NaN and infinities.
    """
    columns = getattr(table, "columns", None)
    if columns is not None:
        given = {str(column): column for column in columns}
        missing = [name for name in names if name not in given]
        if not missing:
            table = np.column_stack([np.asarray(table[given[name]]) for name in names])
        elif len(missing) < len(names) or len(given) != len(names):
            raise ValidationSetError(
                f"the table has no column {missing[0]!r} ({len(missing)} of {len(names)} features are missing): "
                "name the model's features like its columns"
            )
    try:
        raw = plain_array(table)
        values = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationSetError(f"the features are not all numbers ({error}): encode them as numbers first") from error
    if raw.dtype.kind not in "biufO":
        raise ValidationSetError(f"the features are {raw.dtype}, not numbers: encode them as numbers first")
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValidationSetError(
            f"the features have shape {values.shape}, but the model takes (records, {len(names)}): "
            "give one row a record and one column a feature"
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(at) for at in bad[0])
        raise ValidationSetError(
            f"feature {names[column]!r} of record {row} is {values[row, column]} "
            f"({len(bad)} such values in all): remove or fill them"
        )
    return values


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
        return _by_name([_text(label) for label in given.tolist()], classes)
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


def wei(amount: Any, what: str) -> Wei:
    """An amount in wei; raises TermsError for a fraction, a negative or too large amount or another type."""
    if isinstance(amount, bool) or not isinstance(amount, int | np.integer) or amount < 0:
        raise TermsError(f"{what} {amount!r} is not an amount in wei: write pysonar.ether(1.5) for 1.5 ether")
    if amount > LARGEST_AMOUNT:
        raise TermsError(f"{what} {amount!r} is above 2^128 - 1, the most that the contract takes: offer less")
    return Wei(int(amount))


def address(text: Any, what: str) -> Address:
    """An account's or contract's address, checksummed; raises TermsError."""
    try:
        return address_of(text)
    except ConfigError as error:
        raise TermsError(f"{what} {error}") from error


def campaign_id(given: Any) -> CampaignId:
    """A campaign's id of 32 bytes, or of its hex text; raises UnknownCampaignError."""
    if isinstance(given, bytes | bytearray) and len(given) == 32:
        return CampaignId(bytes(given))
    try:
        return campaign_id_of(given)
    except ConfigError as error:
        raise UnknownCampaignError(str(error)) from error


def parts_per_million(fraction: Any, what: str) -> Ppm:
    """A score in (0, 1] as parts per million; raises TermsError."""
    number = isinstance(fraction, int | float | np.integer | np.floating) and not isinstance(fraction, bool)
    if not number or not 0 < fraction <= 1 or round(float(fraction) * PPM) == 0:
        raise TermsError(f"{what} {fraction!r} is not a score above 0 and up to 1: write 0.92 for 92%")
    return Ppm(round(float(fraction) * PPM))


def warn_of_few(labels: Ints, classes: int, metric: MetricName, target: float, noise: float) -> None:
    """Warns where the validation set cannot tell five points of score near the target: less than that is unpaid there.

    `labels` (records,) are class indices, `target` is a score in (0, 1], `noise` the standard errors above which credit
    starts. A target above 0.9 is taken as 0.9, through which the score must go.
    """
    near = min(target, 0.9)
    seen = noise * standard_error(metric, near, np.bincount(labels, minlength=classes))
    if seen > _COARSEST:
        # Errors fall with the root of the records; what floats add must not ask for one more.
        needed = math.ceil(len(labels) * (seen / _COARSEST) ** 2 - 1e-6)
        warnings.warn(
            f"{len(labels)} validation records tell the {metric.replace('_', ' ')} near {near:.0%} to about {seen:.1%} "
            f"only, and mines that raise it by less may be left out or kept without pay: give {needed} records or more",
            FewRecordsWarning,
            stacklevel=4,
        )


def deadline_at(deadline: Any, now: int) -> int:
    """Unix seconds of a deadline: '2h' or whole seconds from now, or a datetime (without a zone: local time).

    Raises TermsError when it is not one of them or has passed.
    """
    if isinstance(deadline, datetime):
        at = int(deadline.timestamp())
    elif isinstance(deadline, int | np.integer) and not isinstance(deadline, bool) and deadline <= 0:
        raise TermsError(f"the deadline {deadline} is not ahead: give '2h', seconds from now above 0, or a datetime")
    elif isinstance(deadline, str | int | np.integer) and not isinstance(deadline, bool):
        try:
            at = now + duration(deadline if isinstance(deadline, str) else int(deadline))
        except ConfigError as error:
            raise TermsError(f"the deadline {deadline!r} is not a time ahead: {error}") from error
    else:
        raise TermsError(f"the deadline {deadline!r} is not a time: give '2h', seconds from now, or a datetime")
    if at <= now:
        raise TermsError(f"the deadline {deadline} is in the past (or now): mines could post nothing")
    return at


def _by_name(labels: list[str], classes: Sequence[str]) -> Ints:
    index = {name: at for at, name in enumerate(classes)}
    unknown = [label for label in labels if label not in index]
    if unknown:
        known = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
        raise ValidationSetError(
            f"label {unknown[0]!r} is not among the model's classes {known} ({len(unknown)} such labels in all)"
        )
    return np.array([index[label] for label in labels], dtype=np.int64)


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
