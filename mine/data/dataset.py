"""What the mine knows of a data set: its source, its columns as they were found, its labels; as the ledger keeps it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from mine.data.source import Source
from mine.errors import DataError
from sonar import canonical

__all__ = ["Column", "ColumnType", "Dataset", "check_name", "listed"]

ColumnType = Literal["boolean", "integer", "number"]
_FORMAT = 1
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers, as it was found.

    `type` is the narrowest that all finite values have; `minimum` and `maximum` are theirs. In `missing` records
    nothing stood there, in `bad` ones something that is no finite number. `unit` is what the owner said of it.
    """

    name: str
    type: ColumnType
    minimum: float
    maximum: float
    missing: int = 0
    bad: int = 0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as it was when it was added.

    `targets` are the columns with what is to be predicted. With one of few different values, `labels` are these with
    their number of records; `unlabelled` records have none. `columns` are all columns of numbers, targets among them;
    `left` are the others, which nothing is made of. `aliases` say which column a campaign's feature is. A folder of
    images has no columns but those of its list, and `bad_images` files that cannot be decoded. `fingerprint` is the
    SHA-256 of what was read, `state` that of its files' sizes and times.
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

    @property
    def target(self) -> str:
        """The first target."""
        return self.targets[0]

    @property
    def location(self) -> str:
        """Where the records are, as it may be shown."""
        return self.source.location

    def column(self, name: str) -> Column | None:
        """The column of numbers of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def to_text(self) -> str:
        """Canonical JSON."""
        values = {
            "format": _FORMAT, "name": self.name, "source": self.source.to_dict(), "targets": self.targets,
            "columns": [asdict(column) for column in self.columns], "labels": self.labels, "records": self.records,
            "left": self.left, "unlabelled": self.unlabelled,
            "bad_images": self.bad_images, "aliases": self.aliases,
            "fingerprint": self.fingerprint, "state": self.state,
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
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("a data set is not written down as this program does: add it again") from error


def check_name(name: str) -> None:
    """Raises DataError for a name that could not be shown."""
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= 200:
        raise DataError(f"{name!r:.80} cannot name a data set: give a name of printable characters, such as 'digits'")


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Some names for a message, never too many of them."""
    shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
