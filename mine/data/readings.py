"""How a column's texts stand for numbers: as they are, with a decimal comma, or by the two words of one pair.

Which it is, all values of the column say together. Were each word read by itself, a column of F and M would lose every
M, and keep every F as if it said "false".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from mine.errors import DataError

__all__ = ["CLEAR_COMMA", "COMMA_NUMBER", "PAIRS", "Reading", "TextCounts", "check_reading"]

Reading = Literal["plain", "comma", "true/false", "yes/no", "t/f", "y/n"]
"""`plain` are numbers as programs write them; a pair's words are 1 and 0, whatever their capitals."""

PAIRS: Final[Mapping[Reading, tuple[str, str]]] = {
    "true/false": ("true", "false"), "yes/no": ("yes", "no"), "t/f": ("t", "f"), "y/n": ("y", "n"),
}  # fmt: skip
COMMA_NUMBER: Final = "[+-]?[0-9]+(,[0-9]+)?([eE][+-]?[0-9]+)?"
"""A number that may have a decimal comma, as DuckDB and Python both read the expression."""
CLEAR_COMMA: Final = "[+-]?((0|[0-9]{4,}),[0-9]+|[0-9]+,([0-9]{1,2}|[0-9]{4,}))([eE][+-]?[0-9]+)?"
"""One whose comma cannot be meant to part thousands."""
_COMMA_NUMBER, _CLEAR_COMMA = re.compile(COMMA_NUMBER), re.compile(CLEAR_COMMA)
_KNOWN: Final = frozenset(get_args(Reading))


@dataclass(slots=True)
class TextCounts:
    """How many of a column's values are what: `there` of all, `words` of each pair's words, numbers with commas."""

    there: int
    words: dict[str, int]
    comma_numbers: int = 0
    clear_commas: int = 0

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextCounts":
        """Counts what stands there: no empty text, and no space at its ends."""
        counts = cls(0, {word: 0 for pair in PAIRS.values() for word in pair})
        for text in texts:
            counts.there += 1
            if (word := text.lower()) in counts.words:
                counts.words[word] += 1
            elif _COMMA_NUMBER.fullmatch(text):
                counts.comma_numbers += 1
                counts.clear_commas += _CLEAR_COMMA.fullmatch(text) is not None
        return counts

    def __add__(self, other: "TextCounts") -> "TextCounts":
        return TextCounts(
            self.there + other.there,
            {word: count + other.words[word] for word, count in self.words.items()},
            self.comma_numbers + other.comma_numbers,
            self.clear_commas + other.clear_commas,
        )

    @property
    def reading(self) -> Reading:
        """What all values allow; letters alone mean a truth value only where both of them stand."""
        for reading, (yes, no) in PAIRS.items():
            several = len(yes) > 1 or (self.words[yes] and self.words[no])
            if self.there and self.words[yes] + self.words[no] == self.there and several:
                return reading
        if self.clear_commas and self.comma_numbers == self.there:
            return "comma"
        return "plain"

    def remark(self, column: str) -> str:
        """Why the texts are not read, as a sentence without any of them; empty where there is nothing to say."""
        if self.reading != "plain" or not self.there:
            return ""
        if self.clear_commas:
            return (
                f"column {column!r} has {self.clear_commas} numbers with decimal commas, and others that are written "
                "in another way: write all of them alike"
            )
        if self.comma_numbers == self.there:
            return (
                f"column {column!r} has commas that may part decimals or thousands: write its numbers without commas, "
                "with a point before decimals"
            )
        words = sum(self.words.values())
        if words:
            others = self.there - words
            mixed = f"{others} other values" if others else "not those of one pair"
            return (
                f"column {column!r} has words for true and false, but {mixed}: none is read as 1 or 0 (yes/no, "
                "true/false, y/n or t/f throughout would be)"
            )
        return ""


def check_reading(text: object) -> Reading:
    """A reading as it was written down; raises DataError for another."""
    for known in _KNOWN:
        if known == text:
            return known  # type: ignore[no-any-return]
    raise DataError(f"{text!r:.40} is no way to read a column: add the data set again")
