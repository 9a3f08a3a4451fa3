"""One pass over a data set for one campaign: records are checked, bad ones dropped or refused, and summed up.

Nothing but the sums over them, and a record of what was read, outlives a pass.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mine.data.dataset import Dataset
from mine.data.footprint import check_still, fingerprint_of, source_state
from mine.data.images import ImageFolder, Size
from mine.data.links import Match
from mine.data.matching import class_of
from mine.data.opening import open_records
from mine.data.source import Kind
from mine.data.tables import NO_LABEL, Chunks, Floats, Labels
from mine.errors import DataError
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.spec import Spec
from sonar.syft import Progress, TrainingError
from sonar.syft.schedule import Gathered

__all__ = ["OnBad", "Pass", "Provenance", "check_gathered", "gather"]

OnBad = Literal["refuse", "drop"]
"""What becomes of records with faults: the data set is refused, or they are left out and counted."""
_STRANGE = -3
Flags = npt.NDArray[np.bool_]
_BLOCK = 8192
"""Records that are multiplied at once."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a pass has read, for the owner's own log: never what stood in the records.

    `fingerprint` is the SHA-256 of the file, as `Dataset.fingerprint` is; `dropped` counts records by the fault.
    """

    dataset: str
    kind: str
    location: str
    query: str | None
    fingerprint: str
    columns: tuple[str, ...]
    rows: int
    used: int
    dropped: tuple[tuple[str, int], ...]
    started: int
    """Unix seconds."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "dataset": self.dataset, "kind": self.kind, "location": self.location, "query": self.query,
            "fingerprint": self.fingerprint, "columns": list(self.columns), "rows": self.rows, "used": self.used,
            "dropped": dict(self.dropped), "started": self.started, "seconds": round(self.seconds, 3),
        }  # fmt: skip


class Pass:
    """One reading of a data set as a campaign's model sees it; iterate it once, then ask what was read.

    Yields the design (records, mapped features + 1) and the targets (records, outputs): 1 for the record's class and 0
    elsewhere, or the scaled numbers of a regression. Raises DataError for a source that cannot be read or changes
    meanwhile, and with `refuse` for the first record with a fault, which is told by its place and never by its values.
    """

    _tolerant = False
    """Whether a word that came since to a column of two others is a fault of its record, and none of the data set."""

    def __init__(
        self,
        dataset: Dataset,
        match: Match,
        spec: Spec,
        on_bad: OnBad = "refuse",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dataset, self._match, self._spec = dataset, match.require(), spec
        self._drop = on_bad == "drop"
        self._clock = clock
        self._dropped: dict[str, int] = {}
        self._rows = self._used = 0
        self._done: Provenance | None = None
        features = spec.features
        self._least = np.array([-np.inf if one.minimum is None else one.minimum for one in features])
        self._most = np.array([np.inf if one.maximum is None else one.maximum for one in features])
        boolean = np.array([one.type == "boolean" for one in features])
        self._least, self._most = np.where(boolean, 0.0, self._least), np.where(boolean, 1.0, self._most)
        self._bounded = bool(np.isfinite(self._least).any() or np.isfinite(self._most).any())
        self._one_hot = np.eye(len(spec.classes))
        self._whole = [at for at, one in enumerate(features) if one.type != "number"]

    @property
    def provenance(self) -> Provenance:
        """What was read; raises DataError before all was."""
        if self._done is None:
            raise DataError(f"data set {self._dataset.name!r} has not been read to its end: read it again")
        return self._done

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        dataset, started, watch = self._dataset, self._clock(), time.perf_counter()
        state = source_state(dataset.source)
        with ExitStack() as stack:
            chunks, labels, digest = self._open(stack)
            stack.enter_context(closing(chunks))  # before what they are read from
            classes = self._classes(labels)
            for chunk in chunks:
                for start in range(0, len(chunk), _BLOCK):
                    part = slice(start, start + _BLOCK)
                    yield from self._taken(chunk.values[part], None if chunk.codes is None else chunk.codes[part],
                                           classes, labels)  # fmt: skip
            known = state is not None and state == dataset.state
            fingerprint = dataset.fingerprint if known else (digest() or fingerprint_of(dataset.source))
        check_still(dataset.source, state)
        self._done = Provenance(
            dataset.name, str(dataset.source.kind), dataset.source.location, dataset.source.query, fingerprint,
            (*self._match.columns, *self._match.target_columns), self._rows, self._used,
            tuple(sorted(self._dropped.items())), int(started), time.perf_counter() - watch,
        )  # fmt: skip

    def _open(self, stack: ExitStack) -> tuple[Chunks, Labels, Callable[[], str]]:
        """The records, the labels that they are told by, and a digest of what was read where the reader makes one."""
        dataset, spec, match = self._dataset, self._spec, self._match
        # One place is for a label that came up since the data set was added, to name it.
        labels = Labels(len(dataset.labels), [label for label, _ in dataset.labels])
        label = None if spec.targets else match.target_columns[0]
        numbers = match.target_columns if spec.targets else ()
        if dataset.source.kind is Kind.IMAGES:
            image = spec.image
            assert image is not None  # or it would not match
            folder = stack.enter_context(ImageFolder(dataset.source, Size(image.width, image.height, image.channels)))
            return folder.chunks(numbers, label, labels), labels, folder.digest.hexdigest
        table = stack.enter_context(open_records(dataset, tolerant=self._tolerant))
        return table.chunks([*match.columns, *numbers], label, labels), labels, str

    def _classes(self, labels: Labels) -> npt.NDArray[np.int64]:
        """The class of each label's place, _STRANGE for those that the campaign does not know.

        The last two, where the negative places of no label and of another one lead, are strange as well.
        """
        index = {name: at for at, name in enumerate(self._spec.classes)}
        found = [class_of(name, index) for name in labels.names]
        return np.array([*(_STRANGE if at is None else at for at in found), _STRANGE, _STRANGE], dtype=np.int64)

    def _taken(
        self, values: Floats, codes: npt.NDArray[np.int64] | None, classes: npt.NDArray[np.int64], labels: Labels
    ) -> Iterator[tuple[Floats, Floats]]:
        spec, wide = self._spec, len(self._spec.features)
        features, numbers = values[:, :wide], values[:, wide:]
        good = self._checked(features, numbers)
        of = None
        if codes is not None:
            of = classes[codes]
            if of.min(initial=0) < 0:
                good = self._without(good, codes == NO_LABEL, "no label", lambda _: "no label")
                good = self._without(good, of < 0, "unknown class", lambda at: _strange(int(codes[at]), labels))
        if not good.all():
            features, numbers, of = features[good], numbers[good], None if of is None else of[good]
        self._rows += len(values)
        self._used += len(features)
        if len(features):
            targets = scaled_targets(spec, numbers) if of is None else self._one_hot[of]
            yield design_matrix(spec, features), targets

    def _checked(self, features: Floats, numbers: Floats) -> Flags:
        """Which records have finite numbers everywhere, of the declared types and in the declared ranges."""
        good: Flags = np.ones(len(features), dtype=np.bool_)
        names, targets = [feature.name for feature in self._spec.features], self._match.target_columns
        # A sum is finite if all of its terms are, and one look is cheap; an overflow only means a second one.
        with np.errstate(over="ignore", invalid="ignore"):
            fine = np.isfinite(features.sum()) and np.isfinite(numbers.sum())
        if not fine and self._match.images:
            good = self._without(good, np.isinf(features[:, 0]), "no image", lambda _: "no image that can be decoded")
        if not fine:
            for values, of in ((features, names), (numbers, targets)):
                good = self._without(good, np.isnan(values), "missing", _place("nothing", of))
                good = self._without(good, np.isinf(values), "no number", _place("no finite number", of))
        if self._bounded:
            outside = (features < self._least) | (features > self._most)
            good = self._without(
                good, outside, "out of range", lambda at: f"a value outside of the campaign's range in {names[at]!r}"
            )
        if len(self._whole):
            whole = features[:, self._whole]
            good = self._without(
                good, whole != np.rint(whole), "no integer",
                lambda at: f"a number that is not whole in {names[self._whole[at]]!r}",
            )  # fmt: skip
        return good

    def _without(self, good: Flags, faulty: Flags, fault: str, says: Callable[[int], str]) -> Flags:
        """The good records without those with a fault, counted; `faulty` is (records,) or (records, columns).

        `says` gives the words for the place of the first fault, its column if there are some, else its record.
        """
        rows = good & (faulty if faulty.ndim == 1 else faulty.any(axis=1))
        if not rows.any():
            return good
        if not self._drop:
            record = int(rows.argmax())
            told = says(record if faulty.ndim == 1 else int(faulty[record].argmax()))
            raise DataError(
                f"{self._dataset.source.shown}: record {self._rows + record + 1} has {told}: mend it, remove it, or "
                "have the policy drop such records"
            )
        self._dropped[fault] = self._dropped.get(fault, 0) + int(rows.sum())
        return good & ~rows


def gather(
    dataset: Dataset,
    match: Match,
    spec: Spec,
    on_bad: OnBad = "refuse",
    progress: Progress | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> tuple[Gathered, Provenance]:
    """What the campaign's schedule needs of the data set as it is now, in one pass and constant memory.

    `progress` is told which part of the records is done, by their number when the data set was added. Raises
    SchemaMismatchError for a match that is unsure, DataError as `Pass` and `check_gathered` do.
    """
    records = Pass(dataset, match, spec, on_bad, clock=clock)
    try:
        gathered = spec.training.schedule.gather(records, *spec.shape, total=dataset.records, progress=progress)
    except TrainingError as error:
        raise DataError(f"data set {dataset.name!r} cannot train campaign {spec.name!r}: {error}") from error
    check_gathered(dataset, spec, gathered)
    return gathered, records.provenance


def check_gathered(dataset: Dataset, spec: Spec, gathered: Gathered) -> None:
    """Raises DataError unless enough records were gathered for the spec, also as its class weights count them."""
    if gathered.records < spec.min_records:
        raise DataError(
            f"{dataset.source.shown} has {gathered.records} usable records now, but campaign {spec.name!r} needs "
            f"{spec.min_records}"
        )
    if gathered.effective_records < spec.min_records:
        raise DataError(
            f"with the class weights of campaign {spec.name!r} the {gathered.records} records of "
            f"{dataset.source.shown} count as {gathered.effective_records:.1f}, but it needs {spec.min_records}"
        )


def _place(what: str, names: Sequence[str]) -> Callable[[int], str]:
    return lambda at: f"{what} in {names[at]!r}"


def _strange(code: int, labels: Labels) -> str:
    name = labels.names[code] if code >= 0 else labels.first_other
    return f"the class {name!r:.80}, which the campaign does not know"
