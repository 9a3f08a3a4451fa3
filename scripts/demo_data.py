"""The demo's tables: scikit-learn's digits or any CSV, split into validation, test and disjoint, unlike shares."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataProblem(Exception):
    """The table cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """Features (records, features), labels (records,) as text, and the public constants that scale the features."""

    name: str
    columns: list[str]
    target: str
    features: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> list[str]:
        """The class names, numbers in their own order."""
        names = sorted(set(self.labels.tolist()))
        return sorted(names, key=float) if all(_is_number(name) for name in names) else names

    def take(self, rows: np.ndarray) -> "Table":
        """Some of the records."""
        return Table(self.name, self.columns, self.target, self.features[rows], self.labels[rows])

    def shuffled_labels(self, rng: np.random.Generator) -> "Table":
        """The same records with their labels dealt out at random: what a poisoner trains on."""
        return Table(self.name, self.columns, self.target, self.features, rng.permutation(self.labels))

    def write(self, path: Path) -> Path:
        """The table as CSV, target column last."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*self.columns, self.target])
            for row, label in zip(self.features, self.labels, strict=True):
                writer.writerow([*(repr(float(value)) for value in row), label])
        return path


@dataclass(frozen=True, slots=True)
class Split:
    """The data scientist's validation and test tables, and one share for every mine, the poisoner's last."""

    validation: Table
    test: Table
    shares: list[Table]
    offset: list[float]
    scale: list[float]


def digits() -> Table:
    """The 1,797 images of handwritten digits that scikit-learn ships (8 x 8 pixels, 0 to 16)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    columns = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    return Table("digits", columns, "digit", data.data, data.target.astype(str))


def read_csv(path: Path, target: str) -> Table:
    """A CSV with a header, numeric features and a class column; raises DataProblem that names row and column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            fitting = (mark for mark in ",;\t|" if target in next(csv.reader([first], delimiter=mark), []))
            rows = [row for row in csv.reader(file, delimiter=next(fitting, ","), strict=True) if row]
    except OSError as error:
        raise DataProblem(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataProblem(f"{path} is not UTF-8 text: save it as a CSV file in UTF-8") from error
    except csv.Error as error:
        raise DataProblem(f"{path} is not a readable CSV file: {error}") from error
    if len(rows) < 2:
        raise DataProblem(f"{path} has no records: give a CSV with a header and records")
    header, *rows = rows
    if target not in header:
        raise DataProblem(f"{path} has no column {target!r}; it has {', '.join(header)}")
    if len(set(header)) < len(header):
        raise DataProblem(f"{path} has two columns of the same name among {', '.join(header)}: rename one")
    place = header.index(target)
    columns = header[:place] + header[place + 1 :]
    features, labels = [], []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataProblem(f"{path} line {number} has {len(row)} cells, the header {len(header)}")
        try:
            values = [float(cell) for cell in row[:place] + row[place + 1 :]]
        except ValueError as error:
            raise DataProblem(f"{path} line {number} has a feature that is no number: {error}") from error
        if not np.isfinite(values).all():
            raise DataProblem(f"{path} line {number} has a feature that is not finite: remove the record")
        features.append(values)
        labels.append(row[place].strip())
    if len(set(labels)) < 2:
        raise DataProblem(f"column {target!r} of {path} has {len(set(labels))} class: give at least 2")
    return Table(path.stem, columns, target, np.array(features), np.array(labels))


def split(table: Table, mines: int, rng: np.random.Generator, *, standardise: bool) -> Split:
    """A fifth to validate, a fifth to test, the rest in `mines` + 1 disjoint shares by Dirichlet(1.0) over classes.

    The shares are drawn again until the smallest has a quarter of the mean, as non-IID benchmarks do (Li et al. 2022,
    "Federated Learning on Non-IID Data Silos"). Scaling constants come from the validation set alone.
    """
    order = rng.permutation(len(table.labels))
    fifth = len(order) // 5
    validation, test, rest = table.take(order[:fifth]), table.take(order[fifth : 2 * fifth]), order[2 * fifth :]
    least = len(rest) // (4 * (mines + 1))
    if least < 10:
        raise DataProblem(f"{len(order)} records are too few for {mines} mines: give more records or fewer --mines")
    shares = dirichlet(table.labels[rest], mines + 1, least, rng)
    if standardise:
        spread = validation.features.std(axis=0)
        offset, scale = validation.features.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
    else:
        offset, scale = np.zeros(len(table.columns)), np.full(len(table.columns), 16.0)
    return Split(validation, test, [table.take(rest[share]) for share in shares], offset.tolist(), scale.tolist())


def pooled_accuracy(split: Split, classes: list[str], l2: float) -> float:
    """The test accuracy of the same ridge model trained on all honest shares pooled: the most that is to be had."""

    def design(table: Table) -> np.ndarray:
        scaled = np.clip((table.features - split.offset) / split.scale, -16, 16)
        return np.hstack([scaled, np.ones((len(scaled), 1))])

    honest = split.shares[:-1]
    inputs = np.vstack([design(share) for share in honest])
    targets = np.vstack([share.labels[:, None] == np.array(classes) for share in honest]).astype(float)
    gram = inputs.T @ inputs / len(inputs) + l2 * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ targets / len(inputs))
    guesses = np.array(classes)[np.argmax(design(split.test) @ weights, axis=1)]
    return float(np.mean(guesses == split.test.labels))


def dirichlet(labels: np.ndarray, parts: int, least: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The records of so many shares, of `least` each: every class is dealt by a Dirichlet(1.0) draw of its own."""
    for _ in range(1000):
        shares: list[list[int]] = [[] for _ in range(parts)]
        for name in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == name))
            cuts = (np.cumsum(rng.dirichlet(np.ones(parts)))[:-1] * len(rows)).astype(int)
            for share, piece in zip(shares, np.split(rows, cuts), strict=True):
                share.extend(piece.tolist())
        if min(len(share) for share in shares) >= least:
            return [np.array(share) for share in shares]
    raise DataProblem(f"no Dirichlet split gives every mine {least} records: give more records or fewer --mines")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
