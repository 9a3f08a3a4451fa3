"""The mine's own data sets: what they hold, which campaigns they fit, and what one training run needs of them.

A data set fits a campaign when every feature is one of its numeric columns and every label is one of the campaign's
classes. Features are matched by name; the target column's name must be the spec's too, unless the spec has left it at
its default. Records are streamed; nothing but the sums over them outlives a call.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mine.csvfile import CsvFile, listed
from mine.errors import DataError, SchemaMismatchError
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import MAX_CLASSES, Spec
from sonar.syft import Progress, TrainingError
from sonar.syft.schedule import Gathered

__all__ = ["Dataset", "check_gathered", "file_state", "gather", "inspect", "match"]

BATCH = 4096
"""Records that are in memory at once."""
_ANY_TARGET: str = Spec.model_fields["target_column"].default

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One CSV file with a header row: where it is, which column is the label, what was found in it when it was added.

    `columns` are the usable numeric columns, `labels` the distinct labels with their number of records.
    """

    name: str
    path: Path
    target: str
    columns: tuple[str, ...]
    labels: tuple[tuple[str, int], ...]

    @property
    def records(self) -> int:
        """How many records the file held when it was added."""
        return sum(count for _, count in self.labels)


def inspect(name: str, path: Path, target: str, ignored: tuple[str, ...] = ()) -> Dataset:
    """Reads a CSV file from end to end.

    A column is numeric if any of its values is a number; then all of them must be finite numbers. Other columns are
    left alone, as are those in `ignored`. Raises DataError for anything that could not be trained on.
    """
    if not name.isprintable() or name != name.strip() or not name:
        raise DataError(f"{name!r} cannot name a data set: give a name of printable characters, such as 'digits'")
    with CsvFile(path, target) as file:
        for column in ignored:
            if column not in file.header:
                raise DataError(f"{file.path} has no column {column!r} to ignore: it has {listed(file.header)}")
        candidates = [column for column in file.header if column not in {target, *ignored}]
        records, numbers = file.count_numbers(candidates)
        if not records:
            raise DataError(f"{file.path} has a header but no records")
        columns = tuple(column for column in candidates if numbers[column])
        for column in columns:
            if numbers[column] < records:
                record, value = file.first_without_number(column)
                found = "an empty cell" if not (value or "").strip() else f"{value!r:.80}, which is no finite number,"
                raise DataError(
                    f"{file.path}: record {record} has {found} in the numeric column {column!r}: fill it, remove the "
                    f"record, or leave the column out with --ignore {column}"
                )
        if not columns:
            raise DataError(f"{file.path} has no numeric column besides the target {target!r}: features are numbers")
        return Dataset(name, file.path, target, columns, _labels(file))


def match(dataset: Dataset, spec: Spec) -> None:
    """Raises SchemaMismatchError, with every reason, unless the data set fits the campaign."""
    if spec.targets:
        raise SchemaMismatchError(
            f"campaign {spec.name!r} predicts numbers, but the data sets of this mine have classes: leave it to others"
        )
    problems = []
    if spec.target_column not in {_ANY_TARGET, dataset.target}:
        problems.append(f"its target is {dataset.target!r}, the campaign predicts {spec.target_column!r}")
    columns = set(dataset.columns)
    if missing := [feature.name for feature in spec.features if feature.name not in columns]:
        problems.append(f"it has no numeric column {listed(missing)}")
    classes = _class_index(spec)
    if unknown := [label for label, _ in dataset.labels if _class_of(label, classes) is None]:
        problems.append(f"the campaign knows no class {listed(unknown)}, only {listed(spec.classes)}")
    if dataset.records < spec.min_records:
        problems.append(f"it has {dataset.records} records, the campaign needs {spec.min_records}")
    if problems:
        raise SchemaMismatchError(
            f"data set {dataset.name!r} does not fit campaign {spec.name!r}: {'; '.join(problems)}"
        )


def gather(dataset: Dataset, spec: Spec, *, batch: int = BATCH, progress: Progress | None = None) -> Gathered:
    """What the campaign's schedule needs of the file as it is now, in one pass and constant memory.

    Targets are one-hot: 1 for the record's class, 0 elsewhere. `progress` is told which part of the records is done,
    by their number when the data set was added. Raises DataError for a file that has become unreadable, too small or
    unfit since it was added, and as `check_gathered` does.
    """
    match(dataset, spec)
    one_hot = np.eye(len(spec.classes))
    batches = ((design_matrix(spec, features), one_hot[labels]) for features, labels in _batches(dataset, spec, batch))
    try:
        gathered = spec.training.schedule.gather(batches, *spec.shape, total=dataset.records, progress=progress)
    except TrainingError as error:
        raise DataError(f"data set {dataset.name!r} cannot train campaign {spec.name!r}: {error}") from error
    check_gathered(dataset, spec, gathered)
    return gathered


def check_gathered(dataset: Dataset, spec: Spec, gathered: Gathered) -> None:
    """Raises DataError unless enough records were gathered for the spec, also as its class weights count them."""
    if gathered.records < spec.min_records:
        raise DataError(
            f"{dataset.path} now has {gathered.records} records, but campaign {spec.name!r} needs {spec.min_records}"
        )
    if gathered.effective_records < spec.min_records:
        raise DataError(
            f"with the class weights of campaign {spec.name!r} the {gathered.records} records of {dataset.path} count "
            f"as {gathered.effective_records:.1f}, but it needs {spec.min_records}"
        )


def file_state(dataset: Dataset) -> tuple[int, int] | None:
    """Changes when the file changes: its size and time of change; None while it is missing."""
    try:
        status = dataset.path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _batches(dataset: Dataset, spec: Spec, size: int) -> Iterator[tuple[Floats, Ints]]:
    """Features (records, features) in raw units and labels (records,) as class indices, in the file's order."""
    names = [feature.name for feature in spec.features]
    classes = _class_index(spec)
    done = 0
    with CsvFile(dataset.path, dataset.target) as file:
        if missing := [name for name in names if name not in file.header]:
            raise DataError(f"{file.path} no longer has the column {listed(missing)}: add the data set again")
        for rows in file.batches(names, size):
            features = np.array([row[:-1] for row in rows], dtype=np.float64)
            bad = np.argwhere(~np.isfinite(features))
            if len(bad):
                record, column = bad[0]
                raise DataError(
                    f"{file.path}: record {done + record + 1} has no finite number in column {names[column]!r}: "
                    "fill it or remove the record"
                )
            yield features, _indices(rows, classes, file.path, done)
            done += len(rows)


def _indices(rows: list[tuple[Any, ...]], classes: dict[str, int], file: Path, done: int) -> Ints:
    labels = np.empty(len(rows), dtype=np.int64)
    for position, row in enumerate(rows):
        index = _class_of(row[-1] or "", classes)
        if index is None:
            raise DataError(
                f"{file}: record {done + position + 1} has the class {row[-1]!r}, which the campaign does not know"
            )
        labels[position] = index
    return labels


def _class_index(spec: Spec) -> dict[str, int]:
    return {name: index for index, name in enumerate(spec.classes)}


def _class_of(label: str, classes: dict[str, int]) -> int | None:
    """The class of a label; spreadsheets write the class 3 as 3.0, which means the same."""
    if label in classes:
        return classes[label]
    try:
        value = float(label)
    except ValueError:
        return None
    return classes.get(str(int(value))) if math.isfinite(value) and value.is_integer() else None


def _labels(file: CsvFile) -> tuple[tuple[str, int], ...]:
    labels = file.labels(MAX_CLASSES + 2)
    if any(not label for label, _ in labels):
        record = file.first_without_label()
        raise DataError(
            f"{file.path}: record {record} has no label in column {file.target!r}: fill it or remove the record"
        )
    if len(labels) < 2:
        raise DataError(f"{file.path} has only the class {labels[0][0]!r} in {file.target!r}: at least two are needed")
    if len(labels) > MAX_CLASSES:
        raise DataError(
            f"{file.path} has more than {MAX_CLASSES} different values in {file.target!r}: a target must be a class"
        )
    return tuple(labels)
