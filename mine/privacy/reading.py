"""Reads a data set for the mechanism: once to recognise its records, once for their sums; a chunk at a time."""

from contextlib import ExitStack

from mine.data import Dataset, Kind, Match, OnBad, Provenance
from mine.data.gathering import Pass
from mine.data.images import ImageFolder, Size
from mine.data.opening import open_table
from mine.data.tables import Labels
from mine.errors import DataError
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.sketch import Contents, Sketcher
from sonar.protocol.spec import Spec
from sonar.syft import Progress, TrainingError
from sonar.syft.statistics import fold

__all__ = ["contents_of", "sums_of"]

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
            table = stack.enter_context(open_table(dataset.source, dataset.targets))
            chunks, wide = table.chunks(columns, label, labels), len(columns)
        sketcher, done = Sketcher(key, wide), 0
        for chunk in chunks:
            sketcher.add(chunk.values, labels.names, chunk.codes)
            done += len(chunk)
            if progress is not None:
                progress(min(1.0, done / max(1, dataset.records)))
    return sketcher.finish()


def sums_of(
    dataset: Dataset, match: Match, spec: Spec, on_bad: OnBad, clip: Clip, progress: Progress | None = None
) -> tuple[IntegerSums, Provenance]:
    """The clipped sums of a data set for a campaign, and what was read.

    Raises DataError as `mine.data.gather` does, apart from the least number of records.
    """
    records = Pass(dataset, match, spec, on_bad)
    sums = IntegerSums.empty(*spec.shape, clip, spec.training.class_weights)
    try:
        fold(sums, records, total=dataset.records, progress=progress)
    except TrainingError as error:
        raise DataError(f"data set {dataset.name!r} cannot train campaign {spec.name!r}: {error}") from error
    return sums, records.provenance
