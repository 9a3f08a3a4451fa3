"""Whether the files of a data set changed since they were last looked at, told often and cheaply.

A folder of a hundred thousand images takes a second to look at file by file. A file that is added, removed or renamed
shows in its folder's time; one that is written over in its place is seen when the files themselves are looked at again.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mine.data.dataset import Dataset
from mine.data.footprint import source_state
from mine.data.images import LABELS_FILE
from mine.data.source import Kind, Source
from mine.errors import DataError

__all__ = ["file_state"]

_LOOK_AGAIN = 600.0
"""Seconds after which every image is looked at, whatever the folders' times say."""
_KNOWN = 64


@dataclass(frozen=True, slots=True)
class _Look:
    """When all files were looked at, what the folders' times were just before, and the state that was found."""

    at: float
    folders: tuple[tuple[str, int, int], ...]
    state: str


_looks: dict[Source, _Look] = {}


def file_state(dataset: Dataset, *, clock: Callable[[], float] = time.monotonic) -> str | None:
    """Changes when the data set's files change; None while one is missing, and where it cannot be told.

    Of a folder of images it may be what it was up to 10 minutes ago, if no file was added, removed or renamed since.
    """
    source = dataset.source
    try:
        return _state_of_images(source, clock()) if source.kind is Kind.IMAGES else source_state(source)
    except DataError:
        return None


def _state_of_images(source: Source, now: float) -> str | None:
    known = _looks.pop(source, None)
    fresh = known is not None and now - known.at < _LOOK_AGAIN
    if known is not None and fresh and _times([name for name, *_ in known.folders]) == known.folders:
        _looks[source] = known
        return known.state
    place = Path(source.location)
    names = [str(place / LABELS_FILE)]
    for folder, folders, _ in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names.append(folder)
    folders_then = _times(names)
    state = source_state(source)
    if state is not None:
        while len(_looks) >= _KNOWN:
            del _looks[next(iter(_looks))]
        _looks[source] = _Look(now, folders_then, state)
    return state


def _times(names: list[str]) -> tuple[tuple[str, int, int], ...]:
    """The times and sizes of folders and of the list of labels; zeros where there is none."""
    found = []
    for name in names:
        try:
            told = os.stat(name)  # noqa: PTH116  (a path's object would take longer than the call)
        except OSError:
            found.append((name, 0, 0))
        else:
            found.append((name, told.st_mtime_ns, told.st_size))
    return tuple(found)
