"""A data set beside a campaign: which column each feature is, how that was found, and what is in the way."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mine.data.dataset import listed
from mine.data.likeness import Guess
from mine.errors import DataError, SchemaMismatchError
from sonar import canonical

__all__ = ["How", "Link", "Match"]


class How(StrEnum):
    """How a feature was found; from `unsure` on it was not."""

    EXACT = "exact"
    ALIAS = "alias"
    SAVED = "saved"
    IMAGE = "image"
    UNSURE = "unsure"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Link:
    """A feature, or a target, and its column; `sentence` says why, or what is in the way.

    Of what is unsure `column` is the first of the `guesses`, if there are any; they are made for an owner who asks.
    """

    feature: str
    column: str | None
    how: How
    sentence: str
    guesses: tuple[Guess, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether it may be trained on."""
        return self.how not in {How.UNSURE, How.NONE}


@dataclass(frozen=True, slots=True)
class Match:
    """A data set beside a campaign's spec: a link for each feature, in the spec's order, and each target.

    `problems` are what no column can mend: classes that the campaign does not know, too few records. `faults` are
    records that would be dropped or have the data set refused, as `on_bad_records` in the policy says. `warnings` are
    for the owner to look at, and stop nothing.
    """

    dataset: str
    campaign: str
    features: tuple[Link, ...]
    targets: tuple[Link, ...]
    problems: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def links(self) -> tuple[Link, ...]:
        """Features and targets."""
        return self.features + self.targets

    @property
    def unsure(self) -> tuple[Link, ...]:
        """What has no sure column."""
        return tuple(link for link in self.links if not link.sure)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the features, in the spec's order; none for images."""
        return tuple(link.column for link in self.features if link.column is not None and link.how is not How.IMAGE)

    @property
    def images(self) -> bool:
        """Whether the features are the pixels of images."""
        return any(link.how is How.IMAGE for link in self.features)

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of the targets."""
        return tuple(link.column for link in self.targets if link.column is not None)

    def require(self) -> Self:
        """Itself; raises SchemaMismatchError, with every reason, unless it may be trained on."""
        reasons = list(self.problems)
        absent = [link for link in self.features if not link.sure and link.column is None]
        if absent:
            reasons.append(f"it has no numeric column {listed([link.feature for link in absent])}")
        if any(link.how is How.UNSURE for link in absent):
            reasons.append("where another column is meant, say so with `mine match`")
        reasons += [link.sentence for link in self.targets if not link.sure]
        unsure = [link for link in self.links if link.how is How.UNSURE and link.column is not None]
        reasons += [link.sentence for link in unsure[:3] if link not in self.targets]
        if unsure:
            more = f" and {len(unsure) - 3} features more" if len(unsure) > 3 else ""
            reasons.append(f"answer for {listed([link.feature for link in unsure[:3]])}{more} with `mine match`")
        if reasons:
            raise SchemaMismatchError(
                f"data set {self.dataset!r} does not fit campaign {self.campaign!r}: {'; '.join(reasons)}"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def of(links: tuple[Link, ...]) -> list[dict[str, Any]]:
            return [
                {"feature": one.feature, "column": one.column, "how": str(one.how), "says": one.sentence,
                 "guesses": [{"column": guess.column, "sure": guess.sure, "says": guess.sentence}
                             for guess in one.guesses]}
                for one in links
            ]  # fmt: skip

        return {
            "dataset": self.dataset, "campaign": self.campaign, "features": of(self.features),
            "targets": of(self.targets), "problems": list(self.problems),
            "faults": list(self.faults), "warnings": list(self.warnings),
        }  # fmt: skip

    def to_text(self) -> str:
        """Canonical JSON."""
        return canonical.dumps(self.to_dict()).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `to_text` wrote; raises DataError for anything else."""

        def of(links: Any) -> tuple[Link, ...]:
            return tuple(
                Link(one["feature"], one["column"], How(one["how"]), one["says"],
                     tuple(Guess(guess["column"], guess["sure"], guess["says"]) for guess in one["guesses"]))
                for one in links
            )  # fmt: skip

        try:
            values = canonical.loads(text.encode())
            return cls(values["dataset"], values["campaign"], of(values["features"]), of(values["targets"]),
                       tuple(values["problems"]), tuple(values["faults"]), tuple(values["warnings"]))  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("a match is not written down as this program does: match the campaign again") from error
