"""Whose budget data have, in the ledger: what was looked at, under which names, in which places, and what is the same.

Data sets that share records, a name or a place share a budget: they are one pool, and pools only ever grow together. A
place is a file, a folder of images or a database, whatever was asked of it.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence

from mine.audit import AuditEntry
from mine.audit.facts import PLACES, PlaceFacts
from mine.data import Source
from mine.data.footprint import places_of
from mine.errors import DataError
from mine.ledger.audit import Audited
from mine.privacy.sketch import Contents, share_records

__all__ = ["TABLES", "Pools"]

TABLES = """
CREATE TABLE privacy_key (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL);
CREATE TABLE privacy_contents (
    digest BLOB PRIMARY KEY, pool INTEGER NOT NULL, records INTEGER NOT NULL, sketch BLOB NOT NULL
);
CREATE TABLE privacy_names (
    id INTEGER PRIMARY KEY, contents BLOB NOT NULL, dataset TEXT NOT NULL, UNIQUE (dataset, contents)
);
CREATE TABLE privacy_places (place TEXT NOT NULL, dataset TEXT NOT NULL, PRIMARY KEY (place, dataset))
"""


class Pools(Audited):
    """Contents that were looked at, and their pools."""

    def privacy_key(self) -> bytes:
        """The 32 bytes under which records are recognised; made once, and never changed."""
        with self._database.write():
            row = self._database.one("SELECT key FROM privacy_key")
            if row is not None:
                return bytes(row["key"])
            key = secrets.token_bytes(32)
            self._database.execute("INSERT INTO privacy_key VALUES (1, ?)", key)
            return key

    def recognise(self, contents: Contents, dataset: str, places: Sequence[str], separate: Collection[str] = ()) -> int:
        """Writes down what a data set holds now; its pool, with which all that it has to do with are joined.

        `separate` are data sets of which the owner says that they share no records with others of the same place.
        """
        database = self._database
        with database.write():
            known = database.one("SELECT * FROM privacy_contents WHERE digest = ?", contents.digest)
            pools = set() if known is None else {int(known["pool"])}
            # Of contents that only the audit log told of there is no sketch yet.
            new = known is None or known["records"] < contents.records
            for name in {dataset, *self.neighbours(dataset, places, separate)}:
                pool = self.pool_of(name)
                pools |= set() if pool is None else {pool}
            if new:
                for pool, other in self._all_contents():
                    if pool not in pools and share_records(contents, other):
                        pools.add(pool)
                (last,) = database.rows("SELECT coalesce(max(pool), 0) FROM privacy_contents")[0]
                pools = pools or {last + 1}
                database.execute("INSERT OR REPLACE INTO privacy_contents VALUES (?, ?, ?, ?)",
                                 contents.digest, min(pools), contents.records, contents.to_bytes())  # fmt: skip
            for joined in pools - {min(pools)}:
                database.execute("UPDATE privacy_contents SET pool = ? WHERE pool = ?", min(pools), joined)
            # The last name is the present one: what a data set held last is looked up by it.
            database.execute("INSERT OR REPLACE INTO privacy_names (contents, dataset) VALUES (?, ?)",
                             contents.digest, dataset)  # fmt: skip
            for place in places:
                database.execute("INSERT OR IGNORE INTO privacy_places VALUES (?, ?)", place, dataset)
        return min(pools)

    def neighbours(self, dataset: str, places: Sequence[str], separate: Collection[str] = ()) -> list[str]:
        """Other data sets that were ever read from one of these places, but those that are said to be separate."""
        if dataset in separate:
            return []
        found: set[str] = set()
        for place in places:
            rows = self._database.rows("SELECT dataset FROM privacy_places WHERE place = ?", place)
            found |= {row["dataset"] for row in rows}
        return sorted(found - {dataset, *separate})

    def pools(self) -> list[int]:
        """All pools, the oldest first."""
        return [row["pool"] for row in self._database.rows("SELECT DISTINCT pool FROM privacy_contents ORDER BY pool")]

    def pool_of(self, dataset: str) -> int | None:
        """The pool of a data set by its name; None for one that was never looked at."""
        row = self._database.one(
            "SELECT pool FROM privacy_contents JOIN privacy_names ON contents = digest WHERE dataset = ?", dataset
        )
        return None if row is None else int(row["pool"])

    def members(self, pool: int) -> list[str]:
        """The names of all data sets that ever shared a pool's budget."""
        return [row["dataset"] for row in self._database.rows(
            "SELECT DISTINCT dataset FROM privacy_names JOIN privacy_contents ON contents = digest WHERE pool = ? "
            "ORDER BY dataset", pool)]  # fmt: skip

    def last_contents(self, dataset: str) -> Contents | None:
        """What a data set held when it was last looked at; None for one that never was."""
        row = self._database.one(
            "SELECT k.* FROM privacy_contents k JOIN privacy_names n ON n.contents = k.digest WHERE dataset = ? "
            "ORDER BY n.id DESC", dataset,
        )  # fmt: skip
        return None if row is None else Contents.parse(row["digest"], row["records"], row["sketch"])

    def _learn(self, entries: Sequence[AuditEntry]) -> None:
        """Where data sets lay of which the log tells beyond a ledger that was put back, or is a new one."""
        super()._learn(entries)
        for entry in entries:
            if entry.kind in PLACES and (told := PlaceFacts.of(entry)) is not None:
                for place in _places_then(told):
                    self._database.execute("INSERT OR IGNORE INTO privacy_places VALUES (?, ?)", place, told.dataset)

    def _contents(self, digest: bytes) -> tuple[int, Contents]:
        """The pool of contents, and they themselves."""
        row = self._database.one("SELECT * FROM privacy_contents WHERE digest = ?", digest)
        assert row is not None, "contents are recognised before anything is made of them"
        return int(row["pool"]), Contents.parse(row["digest"], row["records"], row["sketch"])

    def _all_contents(self) -> Iterator[tuple[int, Contents]]:
        for row in self._database.rows("SELECT * FROM privacy_contents"):
            yield int(row["pool"]), Contents.parse(row["digest"], row["records"], row["sketch"])

    def _names(self, contents: bytes) -> set[str]:
        rows = self._database.rows("SELECT dataset FROM privacy_names WHERE contents = ?", contents)
        return {row["dataset"] for row in rows}


def _places_then(told: PlaceFacts) -> tuple[str, ...]:
    """Where a data set lay, as `places_of` has it; where its files are away, what was named."""
    try:
        return places_of(Source.of_dict(told.model_dump()))
    except (DataError, ValueError):
        return (told.location,)
