"""The data sets in the ledger."""

from mine.data import Dataset
from mine.errors import DataError
from mine.ledger.audit import Audited

__all__ = ["TABLES", "Datasets"]

TABLES = "CREATE TABLE datasets (name TEXT PRIMARY KEY, description TEXT NOT NULL)"


class Datasets(Audited):
    """What the owner added with `mine add`, and has not removed."""

    def datasets(self) -> list[Dataset]:
        """All data sets, by name."""
        rows = self._database.rows("SELECT description FROM datasets ORDER BY name")
        return [Dataset.parse(row["description"]) for row in rows]

    def remove_dataset(self, name: str) -> Dataset:
        """Forgets a data set and which columns its features are, and returns it; raises DataError if there is none.

        What was spent on its records stays, and is found again by the records themselves and by the name.
        """
        database = self._database
        with database.write():
            row = database.one("SELECT description FROM datasets WHERE name = ?", name)
            if row is None:
                raise DataError(f"there is no data set {name!r:.80}: `mine status` lists them")
            dataset = Dataset.parse(row["description"])
            database.execute("DELETE FROM datasets WHERE name = ?", name)
            database.execute("DELETE FROM matches WHERE dataset = ?", name)
            self.record("dataset removed", {
                "dataset": name, **dataset.source.to_dict(), "records": dataset.records,
                "fingerprint": dataset.fingerprint,
            })  # fmt: skip
        return dataset

    def add_dataset(self, dataset: Dataset, *, replace: bool = False) -> None:
        """Remembers a data set; raises DataError if its name is taken and `replace` is not set."""
        database = self._database
        with database.write():
            known = database.one("SELECT 1 FROM datasets WHERE name = ?", dataset.name) is not None
            if known and not replace:
                raise DataError(f"there is a data set {dataset.name!r} already: choose another name or use --replace")
            database.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?)", dataset.name, dataset.to_text())
            # Which columns its features are was said of the other data.
            database.execute("DELETE FROM matches WHERE dataset = ?", dataset.name)
            self.record("dataset changed" if known else "dataset added", {
                "dataset": dataset.name, **dataset.source.to_dict(), "targets": list(dataset.targets),
                "records": dataset.records, "columns": len(dataset.columns), "fingerprint": dataset.fingerprint,
            })  # fmt: skip
