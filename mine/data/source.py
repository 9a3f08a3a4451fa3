"""Where records come from: files, a folder, a database and a query, in words that hold no secret."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from mine.data._sqltext import quoted
from mine.errors import DataError

__all__ = ["Kind", "Source", "find_files", "walk"]

MAX_QUERY = 100_000
"""Characters of a query."""
_MAX_FILES = 2_000_000
_PATTERN = "*?["
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".json": "jsonl", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite",
}  # fmt: skip
_FOREIGN = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods", ".numbers"), "a spreadsheet: save its sheet as CSV"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz", ".zst"),
                    "packed in a way that is not read: unpack it, or pack the one file with gzip"),
    **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".rds", ".rdata", ".mat", ".feather", ".arrow", ".h5", ".hdf5",
                     ".npy", ".npz", ".pkl", ".pickle"), "of another program: export it as CSV or Parquet"),
}  # fmt: skip
"""What is often tried."""
_PACKED = {"csv", "jsonl"}
_SETTINGS = {
    "host", "hostaddr", "port", "dbname", "user", "service", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile",
    "connect_timeout", "application_name", "target_session_attrs", "gssencmode", "channel_binding",
}  # fmt: skip


class Kind(StrEnum):
    """What reads a source."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    SQLITE = "sqlite"
    POSTGRES = "postgres"
    IMAGES = "images"
    SQL = "sql"
    """A query over CSV, Parquet and JSON files below one folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of records, as it is shown and written down: `location` is an absolute path, or a URL without password.

    `query` is what is asked of a database, or over the files below a folder; a file alone has none.
    """

    kind: Kind
    location: str
    query: str | None = None

    @classmethod
    def of(cls, location: str | Path, *, query: str | None = None, table: str | None = None) -> Self:
        """The source that an owner names: a file, a pattern such as `visits/*.parquet`, a folder or a database.

        Raises DataError for a location that is of no known kind, a URL with a password, and a query where none fits.
        """
        text = str(location)
        if query is not None and table is not None:
            raise DataError("give either a query or a table, not both: a query names its tables itself")
        if query is not None and (not query.strip() or len(query) > MAX_QUERY):
            raise DataError(f"a query must have 1 to {MAX_QUERY} characters, this one has {len(query)}")
        if text.startswith(("postgres://", "postgresql://")):
            return cls(Kind.POSTGRES, _checked_url(text), _database_query(query, table))
        path = _absolute(Path(text))
        if path.is_dir():
            if table is not None:
                raise DataError(f"{path} is a folder, which has no table {table!r}: name the file of the database")
            return cls(Kind.IMAGES, str(path)) if query is None else cls(Kind.SQL, str(path), query.strip())
        kind = _kind_of(path)
        if kind is Kind.SQLITE:
            return cls(kind, str(path), _database_query(query, table))
        if query is not None or table is not None:
            raise DataError(
                f"{path} is no database: give the folder of the files with the query, or the file without it"
            )
        return cls(kind, str(path))

    @property
    def remote(self) -> bool:
        """Whether it takes a network to read it."""
        return self.kind is Kind.POSTGRES

    @property
    def shown(self) -> str:
        """The source in a message."""
        return self.location

    def files(self) -> list[Path]:
        """The files of a CSV, Parquet or JSON source, in order, as `find_files` finds them; CSV takes no pattern."""
        if self.kind is Kind.CSV and any(character in self.location for character in _PATTERN):
            raise DataError(f"the path {self.location} has one of the characters * ? [: rename the file or its folder")
        return find_files(Path(self.location))

    def places(self) -> list[Path]:
        """What must be open to whoever reads these files: the files, or the folder where a pattern looks for them."""
        files, path = self.files(), Path(self.location)
        return [_base(path)] if any(character in self.location for character in _PATTERN) else files

    def digest(self) -> str:
        """The SHA-256 of the source's own description, by which a query is recognised."""
        return hashlib.sha256("\0".join((self.kind, self.location, self.query or "")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": str(self.kind), "location": self.location, "query": self.query}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(Kind(values["kind"]), str(values["location"]), values["query"])


def find_files(path: Path) -> list[Path]:
    """The file at a path, or those that fit a pattern, in order; raises DataError if there is none.

    Those that a pattern finds must lie in the folder where it looks, wherever links lead.
    """
    if not any(character in str(path) for character in _PATTERN):
        if not path.is_file():
            raise DataError(f"there is no file {path}: give the path of a file, a folder or a pattern")
        return [path.resolve()]
    base = _base(path)
    found = sorted(file.resolve() for file in base.glob(str(path.relative_to(base))) if file.is_file())
    for file in found:
        if not file.is_relative_to(base.resolve()):
            raise DataError(f"{path} leads by a link to {file}, outside of {base}: name that file itself")
    if not found:
        raise DataError(f"no file fits {path}: give another pattern")
    return found


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, in the order of their names, without hidden ones and folders behind links."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: was it moved?")
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place) / name
            if not name.startswith(".") and file.is_file():
                count += 1
                if count > _MAX_FILES:
                    raise DataError(f"{folder} has more than {_MAX_FILES} files: give a folder with fewer")
                yield file


def _absolute(path: Path) -> Path:
    """Without `..` and with links kept, so that a link may be pointed at a newer file."""
    if "\0" in str(path) or not str(path).isprintable():
        raise DataError(f"{str(path)!r} cannot be a path: it has characters that cannot be shown")
    return Path(os.path.normpath(path.expanduser().absolute()))


def _kind_of(path: Path) -> Kind:
    """What a file's name says that it is; text and JSON may be packed with gzip."""
    suffix = path.suffix.lower()
    if suffix in _FOREIGN:
        raise DataError(f"{path} is {_FOREIGN[suffix]}")
    if suffix != ".gz":
        return Kind(_SUFFIXES.get(suffix, "csv"))
    inner = _SUFFIXES.get(Path(path.stem).suffix.lower(), "csv")
    if inner not in _PACKED:
        raise DataError(f"{path} is packed: unpack it, only CSV and JSON are read from gzip files")
    return Kind(inner)


def _base(path: Path) -> Path:
    """The folder above the first part that is a pattern."""
    base = Path(path.anchor)
    for part in path.parts[1:]:
        if any(character in part for character in _PATTERN):
            break
        base /= part
    return base


def _database_query(query: str | None, table: str | None) -> str:
    if query is not None:
        return query.strip().rstrip(";").rstrip()
    if table is None:
        raise DataError("which records of the database? name its table with --table, or ask with --sql")
    if not table.isprintable() or not 0 < len(table) <= 200:
        raise DataError(f"{table!r:.80} cannot be a table's name")
    return "SELECT * FROM " + ".".join(map(quoted, table.split(".")))  # noqa: S608  (the names are quoted)


def _checked_url(url: str) -> str:
    """A URL that holds no secret; errors never repeat what may be one."""
    try:
        parts = urlsplit(url)
        settings = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        hidden = "@" in parts.netloc and ":" in parts.netloc.rsplit("@", 1)[0]
    except ValueError as error:
        raise DataError("the database's URL cannot be read: write postgresql://user@host:port/database") from error
    if hidden or "password" in settings or "sslpassword" in settings or url.count("@") > 1:
        raise DataError(
            "the database's URL has a password, which would be kept and shown: leave it out and name a file with it "
            "by PGPASSFILE, a service by PGSERVICE, or set PGPASSWORD where the mine runs"
        )
    if unknown := sorted(set(settings) - _SETTINGS):
        raise DataError(f"the database's URL has the setting {unknown[0]!r:.40}, which is not supported: leave it out")
    return url
