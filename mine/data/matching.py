"""Which column of a data set each feature of a campaign is: by exact name, declared alias, or what the owner confirmed.

Anything else is unsure, and an unsure match is never trained on: it is asked on a terminal and refused in the daemon.
A campaign has thousands of features, and a stranger wrote it: everything here is looked up, nothing searched.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from mine.data.dataset import Column, Dataset, gaps, listed, no_images, records_have
from mine.data.likeness import Guess, Guesser, far_inside, misfit
from mine.data.links import How, Link, Match
from mine.data.source import Kind
from sonar.protocol.spec import Feature, Spec, Target

__all__ = ["class_of", "consider", "match", "nearness"]

_UNSAID: str = Spec.model_fields["target_column"].default
"""The target's name in a campaign whose owner gave none."""
_SAYS = {How.SAVED: "confirmed by the owner", How.ALIAS: "declared as its alias", How.EXACT: "the same name"}


def match(dataset: Dataset, spec: Spec, saved: Mapping[str, str] | None = None) -> Match:
    """How the data set fits the campaign; raises SchemaMismatchError, with every reason, unless every link is sure."""
    return consider(dataset, spec, saved).require()


def consider(dataset: Dataset, spec: Spec, saved: Mapping[str, str] | None = None, *, guessing: bool = False) -> Match:
    """The same with what is unsure left in it, and with `guessing` what each of that may be, which takes longer.

    `saved` are features with the columns that the owner confirmed.
    """
    linker = _Linker(dataset, spec, dict(saved or {}), guessing=guessing)
    problems: list[str] = []
    if dataset.source.kind is Kind.IMAGES:
        features, found = _images(spec)
        problems += found
    else:
        features = tuple(map(linker.link, spec.features))
    targets: tuple[Link, ...] = (linker.label(),)
    if spec.targets:
        targets = tuple(map(linker.link, spec.targets))
    problems += _twice(features + targets)
    faults = list(_faults(dataset, linker.columns, features + targets))
    if not spec.targets and targets[0].sure:
        classes = {name: at for at, name in enumerate(spec.classes)}
        strange = {label: count for label, count in dataset.labels if class_of(label, classes) is None}
        told = f"the campaign knows no class {listed(list(strange))}, only {listed(spec.classes)}"
        if len(dataset.labels) - len(strange) < 2:
            problems.append(told)
        elif strange:
            faults.append(f"{records_have(sum(strange.values()))} another class: {told}")
        if dataset.unlabelled:
            faults.append(f"{records_have(dataset.unlabelled)} no label")
    if dataset.records < spec.min_records:
        problems.append(f"it has {dataset.records} records, the campaign needs {spec.min_records}")
    warnings = tuple(_warnings(spec, linker.columns, features))
    return Match(dataset.name, spec.name, features, targets, tuple(problems), tuple(faults), warnings)


def nearness(found: Match) -> tuple[int, int]:
    """Smaller for a data set that is nearer to fit: what no answer mends, then what is open."""
    return len(found.problems), len(found.unsure)


def class_of(label: str, classes: Mapping[str, int]) -> int | None:
    """The class of a label; spreadsheets write the class 3 as 3.0, which means the same."""
    if label in classes:
        return classes[label]
    try:
        value = float(label)
    except ValueError:
        return None
    return classes.get(str(int(value))) if math.isfinite(value) and value.is_integer() else None


class _Linker:
    """Finds the columns of a campaign's features in a data set."""

    def __init__(self, dataset: Dataset, spec: Spec, saved: Mapping[str, str], *, guessing: bool) -> None:
        self.columns = {column.name: column for column in dataset.columns}
        self._dataset, self._spec, self._saved = dataset, spec, saved
        self._aliases = dict(dataset.aliases)
        self._left = frozenset(dataset.left)
        self._guesser = Guesser(dataset, spec) if guessing else None
        taken = {*dataset.targets, *(feature.name for feature in spec.features)}
        self._free = any(name not in taken for name in self.columns)

    def link(self, feature: Feature | Target) -> Link:
        """A feature's column: what the owner confirmed, then what was declared, then the same name."""
        name = feature.name
        given = ((How.SAVED, self._saved.get(name)), (How.ALIAS, self._aliases.get(name)), (How.EXACT, name))
        for how, column in given:
            found = None if column is None else self.columns.get(column)
            if found is None or self._is_target(found.name, feature):
                continue
            doubt = misfit(feature, found)
            if doubt is None or how is not How.EXACT:
                return Link(name, found.name, how, _SAYS[how] + (f", though {doubt.sentence}" if doubt else ""))
            if not doubt.grave:
                return Link(name, found.name, how, f"the same name, but {doubt.sentence}")
            sentence = f"{name!r} has the same name, but {doubt.sentence}"
            return Link(name, found.name, How.UNSURE, sentence, self._guesses(feature))
        likely = self._guesses(feature)
        if likely:
            return Link(name, likely[0].column, How.UNSURE, f"{name!r} may be {likely[0].sentence}", likely)
        sentence = f"it has no numeric column {name!r}"
        if name in self._left:
            sentence = f"the column {name!r} holds no numbers"
        return Link(name, None, How.UNSURE if self._free else How.NONE, sentence)

    def label(self) -> Link:
        """The target's column of a campaign with classes: of the same name, or by the owner's word."""
        dataset, wanted = self._dataset, self._spec.target_column
        if not dataset.labels:
            return Link(wanted, None, How.NONE, f"its target {listed(dataset.targets)} has numbers, not classes")
        given = ((How.SAVED, self._saved.get(wanted)), (How.ALIAS, self._aliases.get(wanted)), (How.EXACT, wanted))
        for how, name in given:
            if name == dataset.target:
                return Link(wanted, dataset.target, how, _SAYS[how])
        sentence = f"its target is {dataset.target!r}, the campaign predicts {wanted!r}"
        if wanted == _UNSAID:
            sentence = f"its target is {dataset.target!r}, and the campaign does not name what it predicts"
        return Link(wanted, dataset.target, How.UNSURE, sentence, (Guess(dataset.target, 0.5, sentence),))

    def _is_target(self, column: str, feature: Feature | Target) -> bool:
        """What is to be predicted is no feature, unless the owner names it as one of the targets."""
        return column in self._dataset.targets and isinstance(feature, Feature)

    def _guesses(self, feature: Feature | Target) -> tuple[Guess, ...]:
        return () if self._guesser is None else self._guesser.guesses(feature)


def _twice(links: Sequence[Link]) -> Iterator[str]:
    """A column that would be two features."""
    of: dict[str, str] = {}
    for link in links:
        if link.sure and link.column is not None:
            first = of.setdefault(link.column, link.feature)
            if first != link.feature:
                yield (
                    f"the column {link.column!r} would be both {first!r} and {link.feature!r}: say with `mine match` "
                    "which of them it is, and what the other is"
                )


def _faults(dataset: Dataset, columns: Mapping[str, Column], links: Sequence[Link]) -> Iterator[str]:
    """What was found missing or wrong in the columns that a campaign needs."""
    if dataset.bad_images:
        yield f"{no_images(dataset.bad_images)} that can be decoded"
    for link in links:
        column = columns.get(link.column) if link.sure and link.column is not None else None
        if column is not None and column.missing + column.bad:
            yield f"column {column.name!r} has {gaps(column)}"


def _warnings(spec: Spec, columns: Mapping[str, Column], links: Sequence[Link]) -> Iterator[str]:
    """Columns that fit a range so loosely that another unit may be meant."""
    far = [
        (feature, column)
        for feature, link in zip(spec.features, links, strict=False)
        if link.sure and (column := columns.get(link.column or "")) is not None and far_inside(feature, column)
    ]
    if far:
        feature, column = far[0]
        yield (
            f"{len(far)} of {len(spec.features)} features lie in less than a tenth of the campaign's range, such as "
            f"{feature.name!r} with {column.minimum:g} to {column.maximum:g} where {feature.minimum:g} to "
            f"{feature.maximum:g} is meant: is that the same unit?"
        )


def _images(spec: Spec) -> tuple[tuple[Link, ...], list[str]]:
    if spec.image is None:
        return (), ["it is a folder of images, the campaign takes tables"]
    size = spec.image
    says = f"a pixel of the image, resized to {size.width} x {size.height} with {size.channels} channels"
    return tuple(Link(feature.name, feature.name, How.IMAGE, says) for feature in spec.features), []
