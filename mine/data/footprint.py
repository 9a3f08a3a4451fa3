"""The files of a source, or its other place: whether they changed, and by what digest what was read is recognised."""

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from mine.data.filequery import resolve_query
from mine.data.postgres import database_of
from mine.data.source import Kind, Source, find_files, walk
from mine.errors import DataError

__all__ = ["check_still", "fingerprint_of", "places_of", "source_files", "source_state"]

_PIECE = 1 << 20


def source_files(source: Source) -> Iterable[Path]:
    """The files that a source is read from; none where it is a server. Raises DataError where there are none."""
    path = Path(source.location)
    match source.kind:
        case Kind.POSTGRES:
            return []
        case Kind.IMAGES:
            return walk(path)
        case Kind.SQLITE:
            path = path.resolve()  # beside which SQLite keeps what is written and not yet in the file itself
            # An empty log is made by reading alone.
            log = path.with_name(path.name + "-wal")
            return [path, log] if log.exists() and log.stat().st_size else [path]
        case Kind.SQL:
            names = resolve_query(source.query or "", path)[1]
            return [file for name in names for file in find_files(Path(name))]
        case _:
            return source.files()


def places_of(source: Source) -> tuple[str, ...]:
    """Where the records lie, whatever is asked of them: the files, a folder of images, or a server with its database.

    What is read from one of these places may be records that another data set from there has, too. Raises DataError
    where a file is missing.
    """
    if source.kind is Kind.POSTGRES:
        return (database_of(source.location),)
    if source.kind in {Kind.IMAGES, Kind.SQLITE}:
        return (str(Path(source.location).resolve()),)
    return tuple(sorted({str(file.resolve()) for file in source_files(source)}))


def source_state(source: Source) -> str | None:
    """Changes when the source's files change: their sizes, times and numbers on the disk, as a digest.

    None where that cannot be told, as of a server. Raises DataError while a file is missing.
    """
    if source.kind is Kind.POSTGRES:
        return None
    digest = hashlib.sha256()
    for file in source_files(source):
        try:
            found = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{file} is no ordinary file: give a file")
        # Reading a SQLite file touches it; nothing else moves it without changing it.
        moved = 0 if source.kind is Kind.SQLITE else found.st_ctime_ns
        state = (str(file), found.st_size, found.st_mtime_ns, moved, found.st_ino)
        digest.update(repr(state).encode())
    return digest.hexdigest()


def check_still(source: Source, state: str | None) -> None:
    """Raises DataError where files are not in the state of before; what a database gives is of one moment anyway."""
    if source.kind is not Kind.SQLITE and source_state(source) != state:
        raise DataError(f"{source.shown} changed while it was read: read it again once it is still")


def fingerprint_of(source: Source) -> str:
    """The SHA-256 of a source's file, or of several files' digests and names as `sha256sum` lists them.

    A query's text counts as one more line, and is all that there is of a server. Images are digested as they are read.
    """
    digests = [(_file_digest(file), file) for file in source_files(source)]
    if source.query is None and len(digests) == 1:
        return digests[0][0]
    lines = [] if source.query is None else [source.digest()]
    lines += [f"{digest}  {file}" for digest, file in digests]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _file_digest(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
