"""Names, public constants, feature maps and metrics as a notebook may give them, turned into exact values."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pysonar._inputs import plain_array
from pysonar.errors import ModelError
from sonar.protocol.spec import MAX_FEATURES, AnyMap, IdentityMap
from sonar.wording import wording

__all__ = ["SOLVED", "MapOptions", "array", "constants", "feature_map_of", "frozen", "l2_of", "names_of", "scales"]

Floats = npt.NDArray[np.float64]
MapOptions = AnyMap | Mapping[str, Any] | None
"""A feature map as an object of `sonar.protocol.spec`, or by its fields; None is the identity."""

SOLVED = 100_000
"""Epochs after which a ridge regression is solved, as far as its l2 lets it be; they cost a mine no more than one."""

_MAPS: TypeAdapter[AnyMap] = TypeAdapter(AnyMap)


def names_of(given: int | Iterable[Any], prefix: str, what: str, least: int, most: int) -> tuple[str, ...]:
    """The names, or of a number n the names prefix0 to prefix(n - 1); raises ModelError for too few or twice one."""
    if isinstance(given, str | bytes | bool) or not isinstance(given, int | np.integer | Iterable):
        raise ModelError(f"{what} {given!r} must be a number or a list of names")
    listed = None if isinstance(given, int | np.integer) else tuple(str(name) for name in given)
    count = int(given) if listed is None else len(listed)  # type: ignore[arg-type]
    if not least <= count <= most:
        raise ModelError(f"a model of {count} {what} cannot be trained: give {least} to {most}")
    names = tuple(f"{prefix}{at}" for at in range(count)) if listed is None else listed
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"{twice!r} appears twice in {what}: every name must be its own")
    return names


def constants(given: Any, default: float, names: tuple[str, ...], what: str, of: str = "features") -> Floats:
    """One number for each name: `given`, one for all, or the default; raises ModelError for another shape."""
    values = array(default if given is None else given, what)
    if values.shape not in ((), (len(names),)):
        raise ModelError(f"the {what} has shape {values.shape}: give one number, or one for each of {len(names)} {of}")
    return frozen(np.broadcast_to(values, (len(names),)).copy())


def scales(given: Any, names: tuple[str, ...], what: str = "scale", of: str = "feature") -> Floats:
    """The same for what is divided by: above 0, and 1 unless given."""
    values = constants(given, 1.0, names, what, of + "s")
    if (values <= 0).any():
        at = int(np.argmax(values <= 0))
        raise ModelError(f"the scale of {of} {names[at]!r} is {values[at]}: give a number above 0")
    return values


def feature_map_of(given: Any, features: int) -> AnyMap:
    """A feature map for so many features; raises ModelError for one that does not work or gives too many outputs."""
    if given is None:
        return IdentityMap()
    try:
        feature_map = _MAPS.validate_python(dict(given) if isinstance(given, Mapping) else given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = "".join(f" {part}:" for part in problem["loc"])
        raise ModelError(
            f"the feature_map {given!r:.200} does not work:{place} {wording(problem)}; write it like "
            '{"kind": "polynomial", "degree": 2} or {"kind": "fourier", "count": 512, "gamma": 0.2}'
        ) from error
    try:
        outputs = feature_map.of(features).outputs
    except ValueError as error:
        raise ModelError(str(error)) from error
    if outputs > MAX_FEATURES:
        raise ModelError(
            f"the {feature_map.kind} map of {features} features gives {outputs}, above the limit of {MAX_FEATURES}: "
            "take fewer features, a lower degree, or a Fourier map"
        )
    return feature_map


def array(given: Any, what: str) -> Floats:
    """Finite floats in anything like an array; raises ModelError."""
    try:
        values = plain_array(given).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the {what} cannot be read as numbers: {error}") from error
    if not np.isfinite(values).all():
        raise ModelError(f"there are numbers in the {what} that are not finite: give finite ones")
    return values


def l2_of(given: Any) -> float:
    """A ridge, 0 to 1000; raises ModelError."""
    number = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not number or not 0 <= given <= 1000:
        raise ModelError(f"l2 is {given!r}: give a number from 0 to 1000")
    return float(given)


def frozen(values: Floats) -> Floats:
    """The same array, which nobody can change any more."""
    values.setflags(write=False)
    return values
