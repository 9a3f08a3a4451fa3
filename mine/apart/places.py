"""What a process apart may open: the files of the records and those of the program itself, and nothing beside them."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import sonar
from mine.apart.database import Server, server_of
from mine.data import Kind, Source
from mine.data.footprint import source_files
from mine.errors import DataError

__all__ = ["Access", "access_of", "program_places"]

_SYSTEM: Final = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm",
)  # fmt: skip
"""What the C library, BLAS and DuckDB look at."""
_NAMES: Final = ("/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/ssl", "/etc/services")
"""What libpq looks at on its way to an address."""
_FILE_SETTINGS: Final = ("sslrootcert", "sslcert", "sslkey", "passfile")


@dataclass(frozen=True, slots=True)
class Access:
    """`readable` may be opened to read, with all that is below; of `listed` folders only the names are told."""

    readable: tuple[Path, ...]
    listed: tuple[Path, ...] = ()
    server: Server | None = field(default=None)
    """None for what takes no network."""


def program_places() -> list[Path]:
    """Python, its packages, this program, and what they need of the system; nothing that an owner writes."""
    here = [Path(__file__).parents[1], Path(str(sonar.__file__)).parent]
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    return [*map(Path, sorted(prefixes)), *here, *given, *map(Path, _SYSTEM)]


def access_of(source: Source, home: Path | None = None) -> Access:
    """What a source is read from: its files by themselves, but of images their folder.

    Raises DataError where a file is missing, or a folder of images holds the mine's `home`; and as `server_of`.
    """
    place = Path(source.location)
    match source.kind:
        case Kind.POSTGRES:
            return Access(tuple(_postgres_files(source.location)), server=server_of(source))
        case Kind.SQLITE:
            file = place.resolve()  # beside which SQLite keeps its other files, whatever link leads there
            return Access((file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))))
        case Kind.IMAGES:
            if home is not None and home.resolve().is_relative_to(place.resolve()):
                raise DataError(
                    f"the folder {place} holds the mine's home {home}, and what decodes images may open all that is in "
                    "it: put the images into a folder of their own"
                )
            return Access((place,))
        case _:
            return Access(tuple(source_files(source)), _folders(source))


def _folders(source: Source) -> tuple[Path, ...]:
    """Where files are looked for by a pattern, or by a query."""
    if source.kind is Kind.SQL:
        return (Path(source.location),)
    return tuple(place for place in source.places() if place.is_dir())


def _postgres_files(url: str) -> list[Path]:
    """Certificates, password and service files of libpq, by setting, environment or habit."""
    home = Path.home()
    settings = parse_qs(urlsplit(url).query)
    named = [Path(value) for name in _FILE_SETTINGS for value in settings.get(name, [])]
    by_variable = [
        Path(os.environ[name])
        for name in ("PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT")
        if os.environ.get(name)
    ]
    usual = [home / ".pgpass", home / ".pg_service.conf", home / ".postgresql"]
    return [*named, *by_variable, *usual, *map(Path, _NAMES)]
