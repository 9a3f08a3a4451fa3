"""Where the server of a PostgreSQL source is: found out before a process is started that may connect there alone.

Names are looked up here, so that what reads needs no UDP; libpq takes the address from PGHOSTADDR, and checks a
certificate against the name all the same.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from mine.data import Source
from mine.data.postgres import settings_of
from mine.errors import DataError, SourceAwayError

__all__ = ["Server", "server_of"]

_PORT: Final = "5432"
_DIAL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server's TCP ports, whether it is reached by a Unix socket, and what libpq is told besides the source."""

    ports: tuple[int, ...] = ()
    unix: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def server_of(source: Source) -> Server:
    """Where libpq will look for a source's server.

    Raises DataError for settings that name no server, and SourceAwayError where a name cannot be looked up.
    """
    settings = settings_of(source.location)
    hosts, addresses, ports = (settings.get(name, "").split(",") for name in ("host", "hostaddr", "port"))
    count = max(len(hosts), len(addresses))
    hosts, addresses = ([*given, *[""] * (count - len(given))] for given in (hosts, addresses))
    ports = ports * count if len(ports) == 1 else ports
    if len(ports) != count:
        raise DataError(f"{source.shown} has {count} hosts and {len(ports)} ports: give each its port, or one for all")
    found = [_address(*place) for place in zip(hosts, addresses, map(_port, ports), strict=True)]
    known = {} if not any(found) else {"PGHOSTADDR": ",".join(found)}
    tcp = tuple(sorted({_port(port) for port, address in zip(ports, found, strict=True) if address}))
    return Server(tcp, not all(found), known)


def _port(text: str) -> int:
    if not text.strip():
        text = _PORT
    if not (text.strip().isdecimal() and 0 < int(text) < 1 << 16):
        raise DataError(f"{text!r:.40} is no port of a database: give a number from 1 to 65535")
    return int(text)


def _address(host: str, address: str, port: int) -> str:
    """The address to connect to; empty for a Unix socket."""
    if address or not host or host.startswith(("/", "@")):
        return address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        why = error.strerror or error
        raise SourceAwayError(f"the database's host {host!r:.200} cannot be found: {why}") from error
    addresses = list(dict.fromkeys(str(place[4][0]) for place in found))
    return addresses[0] if len(addresses) == 1 else _answering(addresses, port)


def _answering(addresses: list[str], port: int) -> str:
    """The first of a host's addresses at which somebody takes connections; libpq would try them in turn, too."""
    for address in addresses:
        with suppress(OSError), socket.create_connection((address, port), timeout=_DIAL_SECONDS):
            return address
    return addresses[0]
