"""What the mine knows of a data set: its source, its columns as they were found, its labels; as the ledger keeps it."""

import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, Self

from mine.data.readings import Reading, check_reading
from mine.data.source import Source
from mine.errors import DataError
from sonar import canonical

__all__ = ["Column", "ColumnType", "Dataset", "check_name", "gaps", "listed", "no_images", "records_have"]

ColumnType = Literal["boolean", "integer", "number"]
_FORMAT = 2
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers, as it was found.

    `type` is the narrowest that all finite values have; `minimum` and `maximum` are theirs. In `missing` records
    nothing stood there, in `bad` ones something that is no finite number. `unit` is what the owner said of it, and
    `reading` how its texts are numbers.
    """

    name: str
    type: ColumnType
    minimum: float
    maximum: float
    missing: int = 0
    bad: int = 0
    unit: str = ""
    reading: Reading = "plain"

    def __post_init__(self) -> None:
        check_reading(self.reading)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as it was when it was added.

    `targets` are the columns with what is to be predicted. With one of few different values, `labels` are these with
    their number of records; `unlabelled` records have none. `columns` are all columns of numbers, targets among them;
    `left` are the others, which nothing is made of. `aliases` say which column a campaign's feature is. A folder of
    images has no columns but those of its list, and `bad_images` files that cannot be decoded. `fingerprint` is the
    SHA-256 of what was read, `state` that of its files' sizes and times. `remarks` are sentences on columns whose
    texts are nearly numbers.
    """

    name: str
    source: Source
    targets: tuple[str, ...]
    columns: tuple[Column, ...]
    labels: tuple[tuple[str, int], ...]
    records: int
    left: tuple[str, ...] = ()
    unlabelled: int = 0
    bad_images: int = 0
    aliases: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""
    state: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The first target."""
        return self.targets[0]

    @property
    def location(self) -> str:
        """Where the records are, as it may be shown."""
        return self.source.location

    @property
    def readings(self) -> dict[str, Reading]:
        """How the texts of columns are numbers, where they are not written plainly."""
        return {column.name: column.reading for column in self.columns if column.reading != "plain"}

    def column(self, name: str) -> Column | None:
        """The column of numbers of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def digest(self) -> str:
        """The SHA-256 of all this, in hexadecimal digits: what is added in its place has another."""
        return sha256(self.to_text().encode(errors="surrogateescape")).hexdigest()

    def to_text(self) -> str:
        """Canonical JSON."""
        values = {
            "format": _FORMAT, "name": self.name, "source": self.source.to_dict(), "targets": self.targets,
            "columns": [asdict(column) for column in self.columns], "labels": self.labels, "records": self.records,
            "left": self.left, "unlabelled": self.unlabelled,
            "bad_images": self.bad_images, "aliases": self.aliases,
            "fingerprint": self.fingerprint, "state": self.state, "remarks": self.remarks,
        }  # fmt: skip
        return canonical.dumps(values).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `to_text` wrote; raises DataError for anything else."""
        try:
            values: dict[str, Any] = canonical.loads(text.encode())
            if values["format"] != _FORMAT:
                raise DataError(f"data set {values['name']!r:.80} is written down in another format: add it again")
            return cls(
                name=str(values["name"]),
                source=Source.of_dict(values["source"]),
                targets=tuple(values["targets"]),
                columns=tuple(Column(**column) for column in values["columns"]),
                labels=tuple((label, count) for label, count in values["labels"]),
                records=values["records"],
                left=tuple(values["left"]),
                unlabelled=values["unlabelled"],
                bad_images=values["bad_images"],
                aliases=tuple((feature, column) for feature, column in values["aliases"]),
                fingerprint=values["fingerprint"],
                state=values["state"],
                remarks=tuple(map(str, values["remarks"])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("a data set is not written down as this program does: add it again") from error


def check_name(name: str) -> None:
    """Raises DataError for a name that could not be typed, or be a table of the policy."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r:.80} cannot name a data set: give 1 to 64 letters, digits, points, dashes and underscores, like "
            "'clinic-2024'"
        )


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Some names for a message, never too many of them."""
    shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def gaps(column: Column) -> str:
    """How many records of a column have nothing, or no finite number, as what the column `has`; there are some."""
    missing = f"{_counted(column.missing)} with nothing" if column.missing else ""
    bad = f"{_counted(column.bad)} with what is no finite number" if column.bad else ""
    return " and ".join(filter(None, (missing, bad)))


def no_images(files: int) -> str:
    """Files that cannot be decoded, as the beginning of a sentence."""
    return "1 file is no image" if files == 1 else f"{files} files are no images"


def records_have(count: int) -> str:
    """A number of records and their verb."""
    return "1 record has" if count == 1 else f"{count} records have"


def _counted(records: int) -> str:
    return "1 record" if records == 1 else f"{records} records"
