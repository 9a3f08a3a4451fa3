"""A private PostgreSQL cluster for tests: in a temporary directory, on a Unix socket that only its owner can reach."""

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

REQUIRED = os.environ.get("SONAR_REQUIRE_POSTGRES") == "1"
"""Whether tests that need PostgreSQL must not be skipped."""
_START_SECONDS = 60
_OPTIONS = ("fsync=off", "listen_addresses=", "max_connections=200", "log_min_messages=panic")


def find_binaries() -> Path | None:
    """The directory of initdb and postgres: on the PATH, or the newest that Debian's packages installed.

    None where they are not, or where only root could run them.
    """
    if _is_root() and not _has_account():
        return None
    found = shutil.which("initdb")
    places = [] if found is None else [Path(found).resolve().parent]
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: int(place.parent.name) if place.parent.name.isdigit() else 0)[::-1]
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


class Cluster:
    """A running PostgreSQL; its databases are made and dropped one by one. A context manager."""

    def __init__(self, binaries: Path) -> None:
        # PostgreSQL refuses to run as root, so there it runs as the account that Debian's package made for it.
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if _is_root() else {}
        self.directory = Path(tempfile.mkdtemp(prefix="sonar-pg-"))
        if self._as:
            shutil.chown(self.directory, "postgres", "postgres")
        data = self.directory / "data"
        self._run(
            binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        options = [
            part for option in (*_OPTIONS, f"unix_socket_directories={self.directory}") for part in ("-c", option)
        ]
        self._server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], cwd=self.directory, stdin=subprocess.DEVNULL, **self._as
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.directory}"

    def new_database(self) -> str:
        """The name of a fresh, empty database."""
        name = f"capsule_{secrets.token_hex(8)}"
        with self.connect() as db:
            db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop(self, database: str) -> None:
        """Drops a database, whoever is still connected to it."""
        with self.connect() as db:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection of one's own, in autocommit mode."""
        return psycopg.connect(host=str(self.directory), user="postgres", dbname=database, autocommit=True)

    def close(self) -> None:
        """Stops the server and removes its files."""
        self._server.terminate()
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:
            self._server.kill()  # SIGTERM waits for the connections that a failed test left
            self._server.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, *command: Path | str) -> None:
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert self._server.poll() is None, "PostgreSQL ended while it started"
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                threading.Event().wait(0.05)
            else:
                return


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _has_account() -> bool:
    import pwd

    return any(account.pw_name == "postgres" for account in pwd.getpwall())
