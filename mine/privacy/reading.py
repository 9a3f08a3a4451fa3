"""Reads a data set for the mechanisms: once to recognise its records, once for what is noised; a chunk at a time.

What becomes of a record is decided by that record and the campaign alone, and no record ends a reading: a refusal would
tell of it without noise, and free of charge.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from mine.data import Dataset, Kind, Match, Provenance
from mine.data.gathering import Flags, Pass
from mine.data.images import ImageFolder, Size
from mine.data.opening import open_records
from mine.data.tables import Labels
from mine.errors import DataError
from mine.privacy.clipping import Clip, Floats, IntegerSums
from mine.privacy.sketch import Contents, Sketcher
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.spec import Feature, Spec
from sonar.syft import Progress, TrainingError
from sonar.syft.statistics import fold

__all__ = ["Whole", "contents_of", "stand_in", "sums_of"]

_THUMBNAIL = Size(8, 8, 1)
"""What an image is recognised by, whatever size a campaign wants."""
_MAX_LABELS = 1 << 16


def contents_of(key: bytes, dataset: Dataset, progress: Progress | None = None) -> Contents:
    """What a data set holds now; raises DataError where it cannot be read."""
    labels = Labels(_MAX_LABELS)
    label = dataset.target if dataset.labels else None
    columns = [column.name for column in dataset.columns if column.name != label]
    with ExitStack() as stack:
        if dataset.source.kind is Kind.IMAGES:
            folder = stack.enter_context(ImageFolder(dataset.source, _THUMBNAIL))
            chunks, wide = folder.chunks(columns, label, labels), _THUMBNAIL.features + len(columns)
        else:
            table = stack.enter_context(open_records(dataset, tolerant=True))
            chunks, wide = table.chunks(columns, label, labels), len(columns)
        sketcher, done = Sketcher(key, wide), 0
        for chunk in chunks:
            sketcher.add(chunk.values, labels.names, chunk.codes)
            done += len(chunk)
            if progress is not None:
                progress(min(1.0, done / max(1, dataset.records)))
    return sketcher.finish()


def sums_of(
    dataset: Dataset, match: Match, spec: Spec, clip: Clip, progress: Progress | None = None
) -> tuple[IntegerSums, Provenance]:
    """The clipped sums of a data set for a campaign, and what was read.

    Raises DataError for a source that cannot be read or changes meanwhile, and never for what stands in a record.
    """
    records = Whole(dataset, match, spec)
    sums = IntegerSums.empty(*spec.shape, clip, spec.training.class_weights)
    try:
        fold(sums, records, total=dataset.records, progress=progress)
    except TrainingError as error:
        raise DataError(f"data set {dataset.name!r} cannot train campaign {spec.name!r}: {error}") from error
    return sums, records.provenance


def stand_in(feature: Feature) -> float:
    """What a feature is taken to be where nothing is known of it: its offset, which the model sees as 0.

    The middle of its range where the offset does not lie inside, or the nearer end of a range with one end.
    """
    least, most = _range(feature)
    if least < feature.offset < most:
        return feature.offset
    if np.isfinite(least) and np.isfinite(most):
        return least / 2 + most / 2
    return min(max(feature.offset, least), most)


class Whole(Pass):
    """A pass in which values out of range are cut to it, numbers of an integer feature rounded, and gaps filled.

    So a campaign's ranges and types choose no records. A record without a target, of a class that the campaign does not
    know, or of an image that cannot be decoded adds nothing.
    """

    _tolerant = True

    def __init__(self, dataset: Dataset, match: Match, spec: Spec) -> None:
        super().__init__(dataset, match, spec, "drop")
        ranges = [_range(feature) for feature in spec.features]
        self._lows, self._highs = (np.array(ends) for ends in zip(*ranges, strict=True))
        self._stand_ins = np.array([stand_in(feature) for feature in spec.features])
        self._rounded = np.array([feature.type != "number" for feature in spec.features])

    def _taken(
        self, values: Floats, codes: npt.NDArray[np.int64] | None, classes: npt.NDArray[np.int64], _labels: Labels
    ) -> Iterator[tuple[Floats, Floats]]:
        spec, wide = self._spec, len(self._spec.features)
        features, numbers = values[:, :wide], values[:, wide:]
        counted: Flags = np.asarray(np.isfinite(numbers).all(axis=1))
        self._count("no target", ~counted)
        if self._match.images:
            decoded = ~np.isinf(features[:, 0])
            self._count("no image", counted & ~decoded)
            counted &= decoded
        of = None if codes is None else classes[codes]
        if of is not None:
            self._count("no label or unknown class", counted & (of < 0))
            counted &= of >= 0
        self._rows += len(values)
        self._used += int(counted.sum())
        if counted.any():
            rows = self._mended(features[counted])
            targets = scaled_targets(spec, numbers[counted]) if of is None else self._one_hot[of[counted]]
            yield design_matrix(spec, rows), targets

    def _mended(self, features: Floats) -> Floats:
        known = np.isfinite(features)
        whole = np.where(self._rounded & known, np.rint(features), features)
        mended: Floats = np.clip(np.where(known, whole, self._stand_ins), self._lows, self._highs)
        return mended

    def _count(self, fault: str, rows: Flags) -> None:
        if rows.any():
            self._dropped[fault] = self._dropped.get(fault, 0) + int(rows.sum())


def _range(feature: Feature) -> tuple[float, float]:
    """Between what a feature lies as the campaign declares it; infinite where it does not."""
    least = -np.inf if feature.minimum is None else feature.minimum
    most = np.inf if feature.maximum is None else feature.maximum
    return (max(least, 0.0), min(most, 1.0)) if feature.type == "boolean" else (least, most)
