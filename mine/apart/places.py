"""Where the files are that a process apart may open: those of the records, and those of the program itself."""

import os
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import sonar
from mine.data import Kind, Source

__all__ = ["ports_of", "program_places", "source_places"]

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm",
)  # fmt: skip
"""What the C library, BLAS and DuckDB look at."""
_NAMES = ("/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/ssl",
          "/etc/services", "/run/systemd/resolve", "/etc/krb5.conf")  # fmt: skip
"""What finding a host takes."""
_POSTGRES_PORT = 5432
_FILE_SETTINGS = ("sslrootcert", "sslcert", "sslkey", "passfile")


def program_places() -> list[Path]:
    """Python, its packages, this program, and what they need of the system; nothing that an owner writes."""
    here = [Path(__file__).parents[1], Path(str(sonar.__file__)).parent]
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    return [*map(Path, sorted(prefixes)), *here, *given, *map(Path, _SYSTEM)]


def source_places(source: Source) -> list[Path]:
    """The files that a source is read from; raises DataError where one is missing."""
    place = Path(source.location)
    match source.kind:
        case Kind.POSTGRES:
            return _postgres_files(source.location)
        case Kind.SQLITE:
            return [place, *(place.with_name(place.name + end) for end in ("-wal", "-shm", "-journal"))]
        case Kind.IMAGES | Kind.SQL:
            return [place]
        case _:
            return source.places()


def ports_of(source: Source) -> list[int] | None:
    """The ports that reading a source connects to; None for one that takes no network."""
    if not source.remote:
        return None
    parts = urlsplit(source.location)
    given = parse_qs(parts.query).get("port", [])
    named = [] if "PGSERVICE" in os.environ or "service" in parse_qs(parts.query) else [_POSTGRES_PORT]
    if parts.port is not None:
        return [parts.port]
    if given:
        return [int(port) for text in given for port in text.split(",") if port.isdecimal()]
    return [int(os.environ["PGPORT"])] if os.environ.get("PGPORT", "").isdecimal() else named or [*range(1, 65536)]


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
