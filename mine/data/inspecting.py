"""One pass over a new data set: which columns hold numbers, between what, with which gaps, and what labels it has."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mine.data.dataset import Column, ColumnType, Dataset, check_name, listed
from mine.data.footprint import check_still, fingerprint_of, source_state
from mine.data.images import ImageFolder
from mine.data.opening import open_table
from mine.data.source import Kind, Source
from mine.data.tables import NO_LABEL, OTHER_LABEL, Chunk, Floats, Labels, Table, require_columns
from mine.errors import DataError
from sonar.protocol.spec import MAX_CLASSES

__all__ = ["inspect"]

_MAX_LABEL = 200
_REMARKS = 8
Counts = npt.NDArray[np.int64]


def inspect(
    name: str,
    source: Source | Path,
    targets: Sequence[str] | str = (),
    *,
    ignored: Sequence[str] = (),
    aliases: Iterable[tuple[str, str]] = (),
    units: Iterable[tuple[str, str]] = (),
) -> Dataset:
    """Reads a source from end to end.

    A column holds numbers if more than half of what stands in it are finite numbers; the others are left alone, as are
    those in `ignored`. `targets` are what can be predicted: one column of classes or numbers, or several of numbers; a
    folder of images needs none. `aliases` are pairs of a campaign's feature and a column, `units` of a column and its
    unit. Raises DataError for anything that no campaign could be trained on, and for a file that changes meanwhile.
    """
    check_name(name)
    source = source if isinstance(source, Source) else Source.of(source)
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    state = source_state(source)
    dataset = _images(name, source, targets) if source.kind is Kind.IMAGES else _table(name, source, targets, ignored)
    dataset = _described(dataset, tuple(aliases), tuple(units))
    check_still(source, state)
    return dataset if state is None else replace(dataset, state=state)


def _table(name: str, source: Source, targets: tuple[str, ...], ignored: Sequence[str]) -> Dataset:
    if not targets:
        raise DataError(f"which column of {source.shown} is to be predicted? name it with --target")
    with open_table(source, targets) as table:
        require_columns(source.shown, table.columns, [*targets, *ignored])
        numbers = [column for column in table.columns if column not in ignored]
        summary, labels = _Summary(len(numbers)), Labels(MAX_CLASSES + 1)
        counts = np.zeros(MAX_CLASSES + 3, dtype=np.int64)
        with closing(table.chunks(numbers, targets[0] if len(targets) == 1 else None, labels)) as chunks:
            for chunk in chunks:
                summary.add(chunk.values)
                _count(counts, chunk)
        left = table.left
        columns, remarks = _read_texts(table, summary.columns(numbers), numbers, summary)
    if not summary.records:
        raise DataError(f"{source.shown} has no records: give one with some")
    found = {column.name for column in columns}
    dataset = Dataset(
        name=name,
        source=source,
        targets=targets,
        columns=columns,
        labels=(),
        records=summary.records,
        left=(*(column for column in numbers if column not in found and column not in targets), *left),
        remarks=remarks,
        fingerprint=fingerprint_of(source),
    )
    if not found - set(targets):
        raise DataError(
            f"{source.shown} has no numeric column besides the target {listed(targets)}: features are numbers"
        )
    if len(targets) == 1:
        return _labelled(dataset, labels, counts)
    if text := [target for target in targets if target not in found]:
        raise DataError(f"{source.shown} has no numbers in the target {listed(text)}: several targets must be numbers")
    return dataset


def _read_texts(
    table: Table, plain: tuple[Column, ...], numbers: Sequence[str], summary: "_Summary"
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The columns with those of which all texts are words of a pair, or numbers with commas; and what is near it."""
    texts = [name for at, name in enumerate(numbers) if summary.bad[at]]
    counted = table.count_texts(texts) if texts else {}
    table.readings.update({name: found.reading for name, found in counted.items() if found.reading != "plain"})
    again, more = list(table.readings), _Summary(len(table.readings))
    if again:
        with closing(table.chunks(again, None, Labels(0))) as chunks:
            for chunk in chunks:
                more.add(chunk.values)
    found = {column.name: column for column in plain}
    found |= {column.name: replace(column, reading=table.readings[column.name]) for column in more.columns(again)}
    remarks = filter(None, (counts.remark(name) for name, counts in counted.items()))
    return tuple(found[name] for name in numbers if name in found), tuple(remarks)[:_REMARKS]


def _images(name: str, source: Source, targets: tuple[str, ...]) -> Dataset:
    with ImageFolder(source) as folder:
        targets = targets or folder.columns[:1]
        require_columns(source.shown, folder.columns, targets)
        numbers = list(targets)
        summary, labels = _Summary(1 + len(numbers)), Labels(MAX_CLASSES + 1)
        counts = np.zeros(MAX_CLASSES + 3, dtype=np.int64)
        for chunk in folder.chunks(numbers, targets[0] if len(targets) == 1 else None, labels):
            summary.add(chunk.values)
            _count(counts, chunk)
        # What could not be decoded stays infinite in the first column.
        columns = tuple(column for column in summary.columns(["", *numbers]) if column.name)
        dataset = Dataset(
            name=name, source=source, targets=targets, columns=columns, labels=(), records=summary.records,
            left=tuple(column for column in folder.columns if column not in targets),
            bad_images=int(summary.bad[0]), fingerprint=folder.digest.hexdigest(),
        )  # fmt: skip
    if dataset.bad_images == dataset.records:
        raise DataError(f"none of the {dataset.records} files of {source.shown} is an image that can be decoded")
    return _labelled(dataset, labels, counts) if len(targets) == 1 else dataset


def _labelled(dataset: Dataset, labels: Labels, counts: Counts) -> Dataset:
    """With its labels, unless they are so many that they must be numbers."""
    target, place = dataset.target, dataset.source.shown
    unlabelled = int(counts[NO_LABEL])
    if unlabelled == dataset.records:
        raise DataError(f"{place} has nothing in the target column {target!r}: name another with --target")
    if counts[OTHER_LABEL] or len(labels.names) > MAX_CLASSES:
        if dataset.column(target) is None:
            raise DataError(
                f"{place} has more than {MAX_CLASSES} different values in {target!r}: a target must be a class or a "
                "number"
            )
        return replace(dataset, unlabelled=unlabelled)
    if len(labels.names) < 2:
        raise DataError(f"{place} has only the class {labels.names[0]!r:.80} in {target!r}: at least two are needed")
    if long := [name for name in labels.names if len(name) > _MAX_LABEL]:
        raise DataError(f"{place} has the class {long[0]!r:.40}... in {target!r}, longer than {_MAX_LABEL} characters")
    found = sorted((name, int(counts[at])) for at, name in enumerate(labels.names))
    return replace(dataset, labels=tuple(found), unlabelled=unlabelled)


def _described(dataset: Dataset, aliases: tuple[tuple[str, str], ...], units: tuple[tuple[str, str], ...]) -> Dataset:
    names = [column.name for column in dataset.columns]
    features = [feature for feature, _ in aliases]
    if twice := [feature for at, feature in enumerate(features) if feature in features[:at]]:
        raise DataError(f"the feature {twice[0]!r:.80} has two aliases: give one")
    require_columns(dataset.source.shown, [*names, *dataset.targets], [column for _, column in aliases])
    require_columns(dataset.source.shown, names, [column for column, _ in units])
    said = dict(units)
    columns = tuple(replace(column, unit=said.get(column.name, "")) for column in dataset.columns)
    return replace(dataset, columns=columns, aliases=aliases)


@dataclass(slots=True)
class _Summary:
    """Of every column: how much is missing or no number, and between what the numbers lie."""

    width: int
    records: int = 0
    missing: Floats = field(init=False)
    bad: Floats = field(init=False)
    minimum: Floats = field(init=False)
    maximum: Floats = field(init=False)
    whole: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.missing, self.bad = np.zeros(self.width), np.zeros(self.width)
        self.minimum, self.maximum = np.full(self.width, np.inf), np.full(self.width, -np.inf)
        self.whole = np.ones(self.width)

    def add(self, values: Floats) -> None:
        """Adds records (records, columns)."""
        self.records += len(values)
        finite = np.isfinite(values)
        missing = np.isnan(values).sum(axis=0)
        self.missing += missing
        self.bad += len(values) - finite.sum(axis=0) - missing
        self.minimum = np.minimum(self.minimum, np.min(values, axis=0, initial=np.inf, where=finite))
        self.maximum = np.maximum(self.maximum, np.max(values, axis=0, initial=-np.inf, where=finite))
        self.whole *= ((values == np.rint(values)) | ~finite).all(axis=0)

    def columns(self, names: Sequence[str]) -> tuple[Column, ...]:
        """Those that hold numbers."""
        found = []
        for at, name in enumerate(names):
            good = self.records - int(self.missing[at] + self.bad[at])
            if good <= self.bad[at]:
                continue
            least, most = float(self.minimum[at]), float(self.maximum[at])
            kind: ColumnType = "number" if not self.whole[at] else "integer"
            if kind == "integer" and least >= 0 and most <= 1:
                kind = "boolean"
            found.append(Column(name, kind, least, most, int(self.missing[at]), int(self.bad[at])))
        return tuple(found)


def _count(counts: Counts, chunk: Chunk) -> None:
    if chunk.codes is not None:
        places, found = np.unique(chunk.codes, return_counts=True)
        counts[places] += found
