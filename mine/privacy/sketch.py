"""Recognises records that were seen before: under another name, in another file or order, with columns left out.

Of every record there is a number of 64 bits, made of its values under a key, whatever their order and names. The sum of
all numbers, mixed with the labels, names the contents; the least of them are a sample (a bottom-k sketch) in which
equal records are found again, also among others, however their labels are written. A column in which hardly any value
occurs twice has a sketch of its own, by which records are found without their other columns.

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
KEPT_COLUMNS = 128
"""The most columns with a sketch: those whose least number is least, which are the same ones among others."""
_LEAST_ROWS = 0.01
"""The part of the smaller data set's records that must be the other's."""
_LEAST_VALUES = 0.5
_LEAST_COMMON = 16
_LEAST_DISTINCT = 64
_MANTISSA_BITS = 18
"""Values that differ in float32 against float64, or in how many digits were written, are the same."""

Words = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What is kept of a data set's records: a digest of all, a sample of their numbers, and of telling columns.

    `rows` and each of `columns` are sorted.
    """

    digest: bytes
    records: int
    rows: Words = field(repr=False)
    columns: tuple[Words, ...] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Little-endian words: how many rows, how many columns and of what size each, then all of them."""
        sizes = [len(self.rows), len(self.columns), *map(len, self.columns)]
        return b"".join(part.astype("<u8").tobytes() for part in (np.array(sizes, np.uint64), self.rows, *self.columns))

    @classmethod
    def parse(cls, digest: bytes, records: int, data: bytes) -> Self:
        """What `to_bytes` wrote; raises ValueError for anything else."""
        words = np.frombuffer(data, "<u8").astype(np.uint64)
        if len(words) < 2 or words[1] > KEPT_COLUMNS or len(words) < 2 + words[1]:
            raise ValueError(f"{len(data)} bytes are no sketch")
        columns = int(words[1])
        sizes = [int(words[0]), *map(int, words[2 : 2 + columns])]
        limits = [KEPT_ROWS, *[KEPT_VALUES] * columns]
        parts = np.split(words[2 + columns :], np.cumsum(sizes)[:-1])
        if (
            any(size > limit for size, limit in zip(sizes, limits, strict=True))
            or [len(part) for part in parts] != sizes
        ):
            raise ValueError(f"{len(data)} bytes are no sketch of parts {sizes}")
        if not all((part[1:] > part[:-1]).all() for part in parts):
            raise ValueError("the numbers of a sketch are not in order")
        return cls(digest, records, parts[0], tuple(parts[1:]))


class Sketcher:
    """Takes a data set's records, all of its columns of numbers and labels, and makes its `Contents`."""

    def __init__(self, key: bytes, columns: int) -> None:
        """`key` has 32 bytes, always the same in one home."""
        seeds = np.frombuffer(hashlib.blake2b(key, person=b"sonar sketch 1").digest(), "<u8")
        self._value, self._row, self._first, self._second = (seeds[i] for i in range(4))
        self._key = key
        self._labels: dict[str, np.uint64] = {}
        self._rows = _Least(KEPT_ROWS)
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
        rows = _mix(mixed.sum(axis=1, dtype=np.uint64) + self._row)
        self._rows.add(rows)
        if labels is not None and codes is not None:
            rows = rows + np.array([*map(self._label, labels), self._label("")], dtype=np.uint64)[np.maximum(codes, -1)]
        for lane, seed in enumerate((self._first, self._second)):
            self._sums[lane] = (self._sums[lane] + int(_mix(rows + seed).sum(dtype=np.uint64))) % (1 << 64)
        self._records += len(values)

    def finish(self) -> Contents:
        """The contents of all records so far."""
        digest = b"".join(part.to_bytes(8, "big") for part in (*self._sums, self._records))
        telling = sorted((column.words for column in self._columns if self._tells(column)), key=lambda words: words[0])
        return Contents(digest, self._records, self._rows.words, tuple(telling[:KEPT_COLUMNS]))

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
        if len(self._words) < self._kept:
            return len(self._words)
        return (self._kept - 1) / (float(self._words[-1]) / 2.0**64)


def share_records(one: Contents, other: Contents) -> bool:
    """Whether two data sets hold records in common, as far as their sketches tell."""
    if one.digest == other.digest:
        return True
    common, least = _common(one.rows, other.rows, KEPT_ROWS)
    if common and common >= _LEAST_ROWS * least:
        return True
    for mine in one.columns:
        for theirs in other.columns:
            common, least = _common(mine, theirs, KEPT_VALUES)
            if common >= max(_LEAST_COMMON, _LEAST_VALUES * least):
                return True
    return False


def _common(one: Words, other: Words, kept: int) -> tuple[int, int]:
    """How many words two sketches share where both are complete, and how many the smaller has there."""
    for words in (one, other):
        if len(words) == kept:
            one, other = one[one <= words[-1]], other[other <= words[-1]]
    return len(np.intersect1d(one, other, assume_unique=True)), min(len(one), len(other))


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
