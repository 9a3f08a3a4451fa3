"""The data sets in the ledger."""

import json
from pathlib import Path

from mine.data import Dataset
from mine.errors import DataError
from mine.ledger.audit import Audited

__all__ = ["TABLES", "Datasets"]

TABLES = """
CREATE TABLE datasets (
    name TEXT PRIMARY KEY, path TEXT NOT NULL, target TEXT NOT NULL, columns TEXT NOT NULL, labels TEXT NOT NULL
)"""


class Datasets(Audited):
    """What the owner added with `mine add`."""

    def datasets(self) -> list[Dataset]:
        """All data sets, by name."""
        return [
            Dataset(
                row["name"], Path(row["path"]), row["target"], tuple(json.loads(row["columns"])),
                tuple((label, count) for label, count in json.loads(row["labels"])),
            )
            for row in self._database.rows("SELECT * FROM datasets ORDER BY name")
        ]  # fmt: skip

    def add_dataset(self, dataset: Dataset, *, replace: bool = False) -> None:
        """Remembers a data set; raises DataError if its name is taken and `replace` is not set."""
        database = self._database
        with database.write():
            known = database.one("SELECT 1 FROM datasets WHERE name = ?", dataset.name) is not None
            if known and not replace:
                raise DataError(f"there is a data set {dataset.name!r} already: choose another name or use --replace")
            database.execute(
                "INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?)",
                dataset.name, str(dataset.path), dataset.target, json.dumps(dataset.columns),
                json.dumps(dataset.labels),
            )  # fmt: skip
            self.record("dataset changed" if known else "dataset added", {
                "dataset": dataset.name, "source": str(dataset.path), "target": dataset.target,
                "records": dataset.records, "columns": len(dataset.columns),
            })  # fmt: skip
