"""Opens a source with what reads its kind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mine.data.dataset import Dataset
from mine.data.ducktable import DuckTable
from mine.data.rowtable import PostgresTable, SqliteTable
from mine.data.source import Kind, Source
from mine.data.tables import Table

__all__ = ["open_records", "open_table"]


@contextmanager
def open_records(dataset: Dataset, *, tolerant: bool = False) -> Iterator[Table]:
    """A data set's records, with its columns read as they were when it was added; raises as `open_table`.

    With `tolerant` a word that came since to a column of two others ends no reading.
    """
    with open_table(dataset.source, dataset.targets) as table:
        table.readings.update(dataset.readings)
        table.tolerant = tolerant
        yield table


@contextmanager
def open_table(source: Source, targets: Sequence[str]) -> Iterator[Table]:
    """The source's records, but those of images; raises DataError for what cannot be read."""
    if source.kind is Kind.SQLITE:
        with SqliteTable(source) as table:
            yield table
    elif source.kind is Kind.POSTGRES:
        with PostgresTable(source) as table:
            yield table
    else:
        with DuckTable(source, targets[0]) as table:
            yield table
