"""Which column of a data set each feature of a campaign is: by exact name, declared alias, or what the owner confirmed.

Anything else is unsure, and an unsure match is never trained on: it is asked on a terminal and refused in the daemon.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mine.data.dataset import Dataset, listed
from mine.data.likeness import Guess, guesses, misfit
from mine.data.source import Kind
from mine.errors import DataError, SchemaMismatchError
from sonar import canonical
from sonar.protocol.spec import Feature, Spec, Target

__all__ = ["How", "Link", "Match", "class_of", "consider", "match"]

_ANY_TARGET: str = Spec.model_fields["target_column"].default


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

    Of what is unsure `column` is the first of the `guesses`, if there are any.
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
    records that would be dropped or have the data set refused, as `on_bad_records` in the policy says.
    """

    dataset: str
    campaign: str
    features: tuple[Link, ...]
    targets: tuple[Link, ...]
    problems: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

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
        if absent := [link.feature for link in self.unsure if link.how is How.NONE and link in self.features]:
            reasons.append(f"it has no numeric column {listed(absent)}")
        reasons += [link.sentence for link in self.targets if not link.sure]
        unsure = [link for link in self.features if link.how is How.UNSURE]
        reasons += [link.sentence for link in unsure[:3]]
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
            "faults": list(self.faults),
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
                       tuple(values["problems"]), tuple(values["faults"]))  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("a match is not written down as this program does: match the campaign again") from error


def match(dataset: Dataset, spec: Spec, saved: Mapping[str, str] | None = None) -> Match:
    """How the data set fits the campaign; raises SchemaMismatchError, with every reason, unless every link is sure."""
    return consider(dataset, spec, saved).require()


def consider(dataset: Dataset, spec: Spec, saved: Mapping[str, str] | None = None) -> Match:
    """The same with what is unsure left in it. `saved` are features with the columns that the owner confirmed."""
    known = dict(saved or {})
    problems = []
    if dataset.source.kind is Kind.IMAGES:
        features, found = _images(spec)
        problems += found
    else:
        features = tuple(_link(dataset, feature, known, spec) for feature in spec.features)
    targets: tuple[Link, ...] = (_label(dataset, spec, known),)
    if spec.targets:
        targets = tuple(_link(dataset, target, known, spec) for target in spec.targets)
    faults = list(_faults(dataset, features + targets))
    if not spec.targets and targets[0].sure:
        classes = {name: at for at, name in enumerate(spec.classes)}
        strange = {label: count for label, count in dataset.labels if class_of(label, classes) is None}
        told = f"the campaign knows no class {listed(list(strange))}, only {listed(spec.classes)}"
        if len(dataset.labels) - len(strange) < 2:
            problems.append(told)
        elif strange:
            faults.append(f"{sum(strange.values())} records have another class: {told}")
        if dataset.unlabelled:
            faults.append(f"{dataset.unlabelled} records have no label")
    if dataset.records < spec.min_records:
        problems.append(f"it has {dataset.records} records, the campaign needs {spec.min_records}")
    return Match(dataset.name, spec.name, features, targets, tuple(problems), tuple(faults))


def class_of(label: str, classes: Mapping[str, int]) -> int | None:
    """The class of a label; spreadsheets write the class 3 as 3.0, which means the same."""
    if label in classes:
        return classes[label]
    try:
        value = float(label)
    except ValueError:
        return None
    return classes.get(str(int(value))) if math.isfinite(value) and value.is_integer() else None


def _faults(dataset: Dataset, links: tuple[Link, ...]) -> Iterator[str]:
    """What was found missing or wrong in the columns that a campaign needs."""
    if dataset.bad_images:
        yield f"{dataset.bad_images} files are no images that can be decoded"
    for link in links:
        column = dataset.column(link.column) if link.sure and link.column is not None else None
        if column is not None and column.missing + column.bad:
            gaps = f"{column.missing} records with nothing and {column.bad} with no finite number"
            yield f"column {column.name!r} has {gaps}"


def _link(dataset: Dataset, feature: Feature | Target, saved: Mapping[str, str], spec: Spec) -> Link:
    name, aliases = feature.name, dict(dataset.aliases)
    for how, column in ((How.SAVED, saved.get(name)), (How.ALIAS, aliases.get(name)), (How.EXACT, name)):
        found = None if column is None else dataset.column(column)
        if found is None or _is_other_target(dataset, found.name, feature):
            continue
        doubt = misfit(feature, found)
        if doubt is None or how is not How.EXACT:
            says = {How.SAVED: "confirmed by the owner", How.ALIAS: "declared as its alias", How.EXACT: "the same name"}
            return Link(name, found.name, how, says[how] + (f", though {doubt.sentence}" if doubt else ""))
        if not doubt.grave:
            return Link(name, found.name, how, f"the same name, but {doubt.sentence}")
        return Link(
            name, found.name, How.UNSURE, f"{name!r} has the same name, but {doubt.sentence}",
            guesses(feature, dataset, spec),
        )  # fmt: skip
    likely = guesses(feature, dataset, spec)
    if name in dataset.left:
        return Link(name, None, How.NONE, f"the column {name!r} holds no numbers", likely)
    if likely:
        return Link(name, likely[0].column, How.UNSURE, f"{name!r} may be {likely[0].sentence}", likely)
    return Link(name, None, How.NONE, f"it has no numeric column {name!r}")


def _is_other_target(dataset: Dataset, column: str, feature: Feature | Target) -> bool:
    """What is to be predicted is no feature, unless the owner names it as one of the targets."""
    return column in dataset.targets and isinstance(feature, Feature)


def _label(dataset: Dataset, spec: Spec, saved: Mapping[str, str]) -> Link:
    wanted = spec.target_column
    if not dataset.labels:
        return Link(wanted, None, How.NONE, f"its target {listed(dataset.targets)} has numbers, not classes")
    if wanted in {_ANY_TARGET, dataset.target}:
        return Link(wanted, dataset.target, How.EXACT, "the data set's target")
    for how, names in ((How.SAVED, saved), (How.ALIAS, dict(dataset.aliases))):
        if names.get(wanted) == dataset.target:
            return Link(wanted, dataset.target, how, "confirmed by the owner")
    sentence = f"its target is {dataset.target!r}, the campaign predicts {wanted!r}"
    return Link(wanted, dataset.target, How.UNSURE, sentence, (Guess(dataset.target, 0.5, sentence),))


def _images(spec: Spec) -> tuple[tuple[Link, ...], list[str]]:
    if spec.image is None:
        return (), ["it is a folder of images, the campaign takes tables"]
    size = spec.image
    says = f"a pixel of the image, resized to {size.width} x {size.height} with {size.channels} channels"
    return tuple(Link(feature.name, feature.name, How.IMAGE, says) for feature in spec.features), []
