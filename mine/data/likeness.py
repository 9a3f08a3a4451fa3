"""How well a column suits a feature of another name: by the words of the names, the units, the types and the ranges.

Only suggestions are made of it, for an owner who asks; what is trained on is said by the owner. A campaign's names are
a stranger's, thousands of long ones maybe, so the work is bounded: of few features, few columns and short names.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from mine.data.dataset import Column, Dataset
from sonar.protocol.spec import Feature, Spec, Target

__all__ = ["MOST_COLUMNS", "MOST_FEATURES", "Doubt", "Guess", "Guesser", "far_inside", "misfit"]

MOST_FEATURES = 50
"""Features of a campaign for which columns are suggested."""
MOST_COLUMNS = 500
"""Columns of a data set, its first, that are suggested."""
_MOST_NAME = 80
"""Characters of a name that are compared."""
_FAR = 0.1
"""The part of a feature's range in which all of a column may lie without a word on it."""
_LEAST = 0.5
"""Names that are less alike are not suggested."""
_SHOWN = 3
_WITHIN = 0.75
"""How alike names are of which one has all words of the other."""
_OVERLAP = 0.5
"""The part of a column's span that must lie in the feature's range, or another unit is meant."""
_UNITS = {
    "year": "years", "years": "years", "yr": "years", "yrs": "years", "a": "years", "month": "months",
    "months": "months", "day": "days", "days": "days", "h": "hours", "hour": "hours", "hours": "hours",
    "min": "minutes", "minutes": "minutes", "s": "seconds", "sec": "seconds", "seconds": "seconds", "mm": "mm",
    "cm": "cm", "m": "m", "km": "km", "inch": "inches", "inches": "inches", "in": "inches", "ft": "feet",
    "feet": "feet",
    "mg": "mg", "g": "g", "kg": "kg", "lb": "pounds", "lbs": "pounds", "pounds": "pounds", "celsius": "celsius",
    "fahrenheit": "fahrenheit", "percent": "percent", "pct": "percent", "%": "percent", "mmhg": "mmhg", "bpm": "bpm",
    "usd": "usd", "eur": "eur", "mmol": "mmol", "mmol/l": "mmol/l", "mg/dl": "mg/dl",
}  # fmt: skip
_WORD = re.compile(r"[0-9]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Guess:
    """A column that may be a feature; `sure` from 0 to 1."""

    column: str
    sure: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against a column; a grave one asks for the owner's word even where the names are equal."""

    sentence: str
    grave: bool


def misfit(feature: Feature | Target, column: Column) -> Doubt | None:
    """What speaks against a column as a feature: another unit, another range, another type; None if nothing does."""
    if isinstance(feature, Target):
        return None
    units = _unit(feature.unit), _unit(column.unit)
    if all(units) and units[0] != units[1]:
        return Doubt(f"its unit is {column.unit}, the campaign's {feature.unit}", grave=True)
    least = column.minimum if feature.minimum is None else feature.minimum
    most = column.maximum if feature.maximum is None else feature.maximum
    if column.minimum < least or column.maximum > most:
        span, inside = column.maximum - column.minimum, min(column.maximum, most) - max(column.minimum, least)
        lie = f"its values go from {column.minimum:g} to {column.maximum:g}, the campaign's"
        sentence = f"{lie} from {_bound(feature.minimum)} to {_bound(feature.maximum)}"
        return Doubt(sentence, grave=inside < 0 or inside < _OVERLAP * span)
    if feature.type == "boolean" and column.type != "boolean":
        return Doubt(f"its values are not 0 and 1 only ({column.type}s)", grave=True)
    if feature.type == "integer" and column.type == "number":
        return Doubt("its values are not all whole numbers", grave=False)
    return None


def far_inside(feature: Feature | Target, column: Column) -> bool:
    """Whether all values, not all of them the same, lie in a small part of the range: the unit may be another one."""
    if isinstance(feature, Target) or feature.minimum is None or feature.maximum is None:
        return False
    span = column.maximum - column.minimum
    return feature.type != "boolean" and 0 < span < _FAR * (feature.maximum - feature.minimum)


class Guesser:
    """Suggests columns of a data set for a campaign's features, for the first MOST_FEATURES that it is asked for."""

    def __init__(self, dataset: Dataset, spec: Spec) -> None:
        named = {*(feature.name for feature in spec.features), *(target.name for target in spec.targets)}
        self._aliased = {column: feature for feature, column in dataset.aliases}
        self._targets = frozenset(dataset.targets)
        self._named = named
        self._columns = [(column, _words(column.name)) for column in dataset.columns[:MOST_COLUMNS]]
        self._left = MOST_FEATURES

    def guesses(self, feature: Feature | Target) -> tuple[Guess, ...]:
        """The columns that a feature may be, the likeliest first."""
        if not self._left:
            return ()
        self._left -= 1
        words = _words(feature.name)
        found = [_guess(feature, words, column, others) for column, others in self._columns
                 if not self._taken(feature, column.name)]  # fmt: skip
        likely = [guess for guess in found if guess.sure >= _LEAST]
        return tuple(sorted(likely, key=lambda guess: (-guess.sure, guess.column))[:_SHOWN])

    def _taken(self, feature: Feature | Target, column: str) -> bool:
        """Whether another feature has a column by its exact name or an alias, or it is what is to be predicted."""
        if column != feature.name and (
            column in self._named or self._aliased.get(column, feature.name) != feature.name
        ):
            return True
        return isinstance(feature, Feature) and column in self._targets


def _guess(feature: Feature | Target, words: list[str], column: Column, others: list[str]) -> Guess:
    alike = _alike(words, others)
    reasons = [f"the names are {round(100 * alike)} % alike"]
    unit = _unit(getattr(feature, "unit", ""))
    told = {_UNITS[word] for word in others if word in _UNITS} | ({_unit(column.unit)} if column.unit else set())
    if unit and unit in told:
        alike = min(0.99, alike + 0.1)
        reasons.append(f"the unit is {unit}")
    doubt = misfit(feature, column)
    if doubt is not None:
        alike *= 0.5 if doubt.grave else 0.8
        reasons.append(f"but {doubt.sentence}")
    alike = round(min(0.99, alike), 2)
    return Guess(column.name, alike, f"{column.name!r} ({round(100 * alike)} % sure: {', '.join(reasons)})")


def _alike(one: list[str], other: list[str]) -> float:
    """1 for the same words; words of units count little, because one of two names often leaves them out."""
    bare, bare_other = [w for w in one if w not in _UNITS] or one, [w for w in other if w not in _UNITS] or other
    alike = SequenceMatcher(None, " ".join(sorted(bare)), " ".join(sorted(bare_other))).ratio()
    within = bool(bare) and (set(bare) <= set(bare_other) or set(bare_other) <= set(bare))
    return max(alike, _WITHIN) if within and bare_other else alike


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name[:_MOST_NAME])]


def _unit(text: str) -> str:
    plain = text.strip().lower()
    return _UNITS.get(plain, plain)


def _bound(value: float | None) -> str:
    return "anything" if value is None else f"{value:g}"
