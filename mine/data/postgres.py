"""What libpq goes by when it connects for a source, and which database that is, in whatever words it was named."""

import configparser
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mine.errors import DataError

__all__ = ["database_of", "settings_of"]

_PORT: Final = "5432"
_VARIABLES: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
}  # fmt: skip
_HERE: Final = {"", "localhost", "127.0.0.1", "::1"}
"""This machine, in other words."""


def database_of(url: str) -> str:
    """A server and a database, whoever asks and whatever; raises as `settings_of`."""
    settings = settings_of(url)
    given = settings.get("host") or settings.get("hostaddr") or ""
    hosts = [host.strip().lower().rstrip(".") for host in given.split(",")]
    here = ["localhost" if host in _HERE or host.startswith(("/", "@")) else host for host in hosts]
    ports = [port.strip().lstrip("0") or _PORT for port in settings.get("port", "").split(",")]
    name = settings.get("dbname") or settings.get("user") or ""
    return f"postgresql://{','.join(here)}:{','.join(ports)}/{name}"


def settings_of(url: str) -> Mapping[str, str]:
    """What libpq goes by, in its order: the URL, then the service that is named, then the environment.

    It may hold a password. Raises DataError for a URL and a service file that cannot be read.
    """
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise DataError(
            "reading PostgreSQL takes psycopg: install it with pip install 'sonar-marketplace[postgres]'"
        ) from error
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except Error as error:
        raise DataError(f"the database's URL cannot be read: {str(error).splitlines()[0]:.200}") from error
    by_variable = {name: os.environ[variable] for name, variable in _VARIABLES.items() if os.environ.get(variable)}
    service = given.get("service") or os.environ.get("PGSERVICE")
    return {**by_variable, **({} if not service else _service(service)), **given}


def _service(name: str) -> Mapping[str, str]:
    """The settings of a service, from the first of libpq's files that has it."""
    own = os.environ.get("PGSERVICEFILE")
    shared = os.environ.get("PGSYSCONFDIR")
    files = [Path(own) if own else Path.home() / ".pg_service.conf"]
    files += [Path(shared) / "pg_service.conf"] if shared else []
    for file in files:
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
        with suppress(FileNotFoundError), file.open(encoding="utf-8") as text:
            try:
                parser.read_file(text)
            except (configparser.Error, UnicodeDecodeError) as error:
                raise DataError(f"the service file {file} cannot be read: {str(error).splitlines()[0]:.200}") from error
        if parser.has_section(name):
            return dict(parser.items(name))
    raise DataError(f"no service {name!r:.80} is in {' or '.join(map(str, files))}: correct PGSERVICE or the file")
