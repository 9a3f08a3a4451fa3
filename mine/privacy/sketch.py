"""Recognises records that were seen before: under another name, in another file or order, with columns left out.

Of every record there is a number of 64 bits, made of its values under a key, whatever their order and names. The sum of
all numbers, mixed with the labels, names the contents; the least of them are a sample (a bottom-k sketch) in which
equal records are found again, also among others, however their labels are written. Another sample is of the records'
numbers with each column in turn left out, so that a copy with a column less, more or exchanged is found. A column in
which hardly any value occurs twice has a sketch of its own, by which records are found without their other columns.

Records of few and coarse values are often equal by chance. How often shows in how many of a data set's own are, so what
two of them have in common counts only where it is far more than that, or a large part of one of them.

    E. Cohen, H. Kaplan, Summarizing data using bottom-k sketches, PODC 2007

The key keeps a sketch that got out of the ledger from answering who is in it; it is no protection from an owner who
wants to fool her own books, and the numbers are mixed by multiplications, not by a cryptographic hash.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from mine.privacy.clipping import Floats

__all__ = ["Contents", "Sketcher", "share_records"]

KEPT_ROWS = 1 << 16
"""Of more records than this a sample is kept: what few of them another data set shares then goes unseen."""
KEPT_VALUES = 1 << 12
_MOST_COLUMNS = 1 << 20
KEPT_COLUMNS = 128
"""The most columns with a sketch: those whose least number is least, which are the same ones among others."""
KEPT_PARTS = 32
"""The most sketches, of KEPT_VALUES each, of records with a column left out; of more columns some share one."""
_LEAST_ROWS = 0.01
"""The part of the smaller data set's records that is enough in any case."""
_LEAST_COMMON = 16
"""So many equal records are enough as well, where they are more than _BEYOND_CHANCE times what chance explains."""
_BEYOND_CHANCE = 3
_LEAST_PARTS = 0.1
"""The part of the smaller data set's records with a column left out, besides both of these."""
_LEAST_VALUES = 0.5
"""The part of the values of the smaller of two telling columns."""
_LEAST_DISTINCT = 64
_MANTISSA_BITS = 18
"""Values that differ in float32 against float64, or in how many digits were written, are the same."""

Words = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What is kept of a data set's records: a digest of all, a sample of their numbers, and of telling columns.

    `rows`, each of `columns` and each of `parts`, samples of the records with a column left out, are sorted. `wide` is
    the number of columns that were looked at.
    """

    digest: bytes
    records: int
    rows: Words = field(repr=False)
    columns: tuple[Words, ...] = field(repr=False)
    parts: tuple[Words, ...] = field(default=(), repr=False)
    wide: int = 0

    def to_bytes(self) -> bytes:
        """Little-endian words: the width, how many columns and parts, the size of each and of the rows; all of them."""
        every = (*self.columns, *self.parts, self.rows)
        sizes = [self.wide, len(self.columns), len(self.parts), *map(len, every)]
        return b"".join(part.astype("<u8").tobytes() for part in (np.array(sizes, np.uint64), *every))

    @classmethod
    def parse(cls, digest: bytes, records: int, data: bytes) -> Self:
        """What `to_bytes` wrote; raises ValueError for anything else."""
        words = np.frombuffer(data[: len(data) // 8 * 8], "<u8").astype(np.uint64)
        wide, columns, parts = (
            map(int, words[:3]) if len(words) > 3 and len(data) % 8 == 0 else (_MOST_COLUMNS + 1,) * 3
        )
        many = columns + parts + 1
        if wide > _MOST_COLUMNS or columns > KEPT_COLUMNS or parts > KEPT_PARTS or len(words) < 3 + many:
            raise ValueError(f"{len(data)} bytes are no sketch")
        sizes = [*map(int, words[3 : 3 + many])]
        limits = [*[KEPT_VALUES] * (many - 1), KEPT_ROWS]
        if any(size > limit for size, limit in zip(sizes, limits, strict=True)) or sum(sizes) != len(words) - 3 - many:
            raise ValueError(f"{len(data)} bytes are no sketch of parts {sizes}")
        found = np.split(words[3 + many :], np.cumsum(sizes)[:-1])
        if not all((part[1:] > part[:-1]).all() for part in found):
            raise ValueError("the numbers of a sketch are not in order")
        return cls(digest, records, found[-1], tuple(found[:columns]), tuple(found[columns:-1]), wide)


class Sketcher:
    """Takes a data set's records, all of its columns of numbers and labels, and makes its `Contents`."""

    def __init__(self, key: bytes, columns: int) -> None:
        """`key` has 32 bytes, always the same in one home."""
        seeds = np.frombuffer(hashlib.blake2b(key, person=b"sonar sketch 1").digest(), "<u8")
        self._value, self._row, self._first, self._second = (seeds[i] for i in range(4))
        self._key = key
        self._labels: dict[str, np.uint64] = {}
        self._rows = _Least(KEPT_ROWS)
        # Nothing is left of one column without it.
        self._parts = [_Least(KEPT_VALUES) for _ in range(min(KEPT_PARTS, columns) if columns > 1 else 0)]
        self._columns = [_Least(KEPT_VALUES) for _ in range(columns)]
        self._sums = [0, 0]
        self._records = 0

    def add(self, values: Floats, labels: Sequence[str] | None = None, codes: Codes | None = None) -> None:
        """Records: values (records, columns), and if they have labels, `codes` (records,) are places in `labels`.

        A place below 0 is no label.
        """
        mixed = _mix(_bits(values) + self._value)
        for column, words in zip(self._columns, mixed.T, strict=True):
            column.add(words)
        sums = mixed.sum(axis=1, dtype=np.uint64)
        rows = _mix(sums + self._row)
        self._rows.add(rows)
        for at, column in enumerate(mixed.T if self._parts else ()):
            self._parts[at % KEPT_PARTS].add(_mix(sums - column + self._row))
        if labels is not None and codes is not None:
            rows = rows + np.array([*map(self._label, labels), self._label("")], dtype=np.uint64)[np.maximum(codes, -1)]
        for lane, seed in enumerate((self._first, self._second)):
            self._sums[lane] = (self._sums[lane] + int(_mix(rows + seed).sum(dtype=np.uint64))) % (1 << 64)
        self._records += len(values)

    def finish(self) -> Contents:
        """The contents of all records so far."""
        digest = b"".join(part.to_bytes(8, "big") for part in (*self._sums, self._records))
        telling = sorted((column.words for column in self._columns if self._tells(column)), key=lambda words: words[0])
        columns = tuple(telling[:KEPT_COLUMNS])
        parts = tuple(part.words for part in self._parts)
        return Contents(digest, self._records, self._rows.words, columns, parts, len(self._columns))

    def _tells(self, column: "_Least") -> bool:
        """Whether hardly any value occurs twice in it."""
        return column.distinct >= max(_LEAST_DISTINCT, self._records / 2)

    def _label(self, label: str) -> np.uint64:
        if label not in self._labels:
            text = _plain(label).encode(errors="surrogateescape")
            self._labels[label] = np.frombuffer(hashlib.blake2b(text, key=self._key, digest_size=8).digest(), "<u8")[0]
        return self._labels[label]


class _Least:
    """The least distinct words of a stream, at most `kept` of them."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._words: Words = np.empty(0, np.uint64)

    def add(self, words: Words) -> None:
        if len(self._words) == self._kept:
            words = words[words < self._words[-1]]
        if len(words):
            merged = np.sort(np.concatenate([self._words, words]))
            first = np.ones(len(merged), dtype=np.bool_)
            np.not_equal(merged[1:], merged[:-1], out=first[1:])
            self._words = merged[first][: self._kept]

    @property
    def words(self) -> Words:
        return self._words

    @property
    def distinct(self) -> float:
        """About how many distinct words there were."""
        return _Sample(self._words, 0, self._kept).distinct


def share_records(one: Contents, other: Contents) -> bool:
    """Whether two data sets hold records in common, as far as their sketches tell."""
    if one.digest == other.digest:
        return True
    rows, others = (_Sample(contents.rows, contents.records, KEPT_ROWS) for contents in (one, other))
    common, least = rows.common(others)
    if (common and common >= _LEAST_ROWS * least) or rows.alike(others, 0, (rows, others)):
        return True
    parts, others_parts = _parts(one), _parts(other)
    return (
        any(part.alike(others, _LEAST_PARTS, (others,)) for part in parts)
        or any(part.alike(rows, _LEAST_PARTS, (rows,)) for part in others_parts)
        or any(part.alike(theirs, _LEAST_PARTS, (part, theirs)) for part in parts for theirs in others_parts)
        or any(mine.alike(theirs, _LEAST_VALUES) for mine in _columns(one) for theirs in _columns(other))
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The least words of some kind, of `count` in all; at most `kept` of them."""

    words: Words
    count: int
    kept: int

    @property
    def seen(self) -> float:
        """The part of all possible words below the largest that was kept."""
        return (float(self.words[-1]) + 1) / 2.0**64 if len(self.words) == self.kept else 1.0

    @property
    def distinct(self) -> float:
        """About how many distinct words there were."""
        return len(self.words) if len(self.words) < self.kept else (self.kept - 1) / self.seen

    @property
    def chance(self) -> float:
        """How often two words of this kind, of different records, are equal: of n words some n^2 / 2 chance are."""
        return 2 * max(0.0, self.count - self.distinct) / max(1, self.count) ** 2

    def common(self, other: Self) -> tuple[int, int]:
        """How many words two sketches share where both are complete, and how many the smaller has there."""
        one, two = self.words, other.words
        if len(self.words) == self.kept:
            two = two[two <= self.words[-1]]
        if len(other.words) == other.kept:
            one = one[one <= other.words[-1]]
        return len(np.intersect1d(one, two, assume_unique=True)), min(len(one), len(two))

    def alike(self, other: Self, part: float, like: Sequence[Self] = ()) -> bool:
        """Whether so large a part of the smaller one is the other's, and more than if both were independent.

        The words that the two can have in common are as often equal by chance as those of the samples `like`.
        """
        common, least = self.common(other)
        if common < max(_LEAST_COMMON, part * least):
            return False
        pairs = self.count * other.count * min(self.seen, other.seen)
        return common >= _BEYOND_CHANCE * pairs * max((sample.chance for sample in like), default=0.0)


def _parts(contents: Contents) -> list[_Sample]:
    """The records with a column left out: where a sketch is of several columns, each record is in it as often."""
    number = len(contents.parts)
    return [
        _Sample(words, contents.records * len(range(at, contents.wide, number)), KEPT_VALUES)
        for at, words in enumerate(contents.parts)
    ]


def _columns(contents: Contents) -> list[_Sample]:
    return [_Sample(words, contents.records, KEPT_VALUES) for words in contents.columns]


def _plain(label: str) -> str:
    """A label as others may have written it: 3.0 is 3."""
    try:
        return f"{float(label):g}"
    except ValueError:
        return label.strip()


def _bits(values: Floats) -> Words:
    """Values rounded to 18 significant bits as words, the same for 0 and -0 and for all that is no number."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    rounded = np.ldexp(np.rint(mantissa * 2.0**_MANTISSA_BITS) / 2.0**_MANTISSA_BITS, exponent) + 0.0
    rounded[np.isnan(rounded)] = np.nan
    return rounded.view(np.uint64)


def _mix(words: Words) -> Words:
    """The finaliser of splitmix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014), which is a permutation."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
