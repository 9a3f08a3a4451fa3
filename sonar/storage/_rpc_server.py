"""The RPC of the embedded IPFS node: the verbs of Kubo that Sonar's client uses, for programs on this machine only."""

import contextlib
import ipaddress
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sonar.errors import SonarError
from sonar.storage._bodies import BadBodyError, BodyTooLargeError, body_pieces, form_file
from sonar.storage.cids import check_cid, upgraded_cid
from sonar.storage.embedded import EmbeddedNode
from sonar.storage.errors import InvalidCidError

__all__ = ["NodeServer"]

_MAX_ADD_BYTES = 256 << 20
_PREFIX = "/api/v0/"
_MOST_CONNECTIONS = 64
_SOCKET_SECONDS = 60
_PIECE = 1 << 20
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_ADDRESS = re.compile(r"/[A-Za-z0-9./:-]{1,250}")
_KUBO = "0.22.0"


class NodeServer(ThreadingHTTPServer):
    """Answers on 127.0.0.1 for one node; `deadline` is the longest, in seconds, that a request may look for content."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, node: EmbeddedNode, port: int, *, deadline: float) -> None:
        self.node = node
        self.deadline = deadline
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Where the RPC answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, or none when there are too many."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its first byte to its last."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def drain(self, seconds: float) -> None:
        """Gives the connections under way this long to end."""
        deadline = time.monotonic() + seconds
        for _ in range(_MOST_CONNECTIONS):
            if not self._connections.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of our errors; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request of the RPC, and the end of the connection."""

    server: NodeServer
    protocol_version = "HTTP/1.1"
    timeout = _SOCKET_SECONDS

    def do_POST(self) -> None:
        """Every verb is a POST, as in Kubo."""
        try:
            if not _is_local(self.headers.get("Host", "")) or "Origin" in self.headers:
                self._fail(403, "this RPC is for programs on this machine, not for web pages")
                return
            url = urlsplit(self.path)
            verb = _VERBS.get(url.path.removeprefix(_PREFIX)) if url.path.startswith(_PREFIX) else None
            if verb is None:
                self._fail(404, f"{url.path[:100]!r} is not a verb of this node")
                return
            verb(self, parse_qs(url.query, max_num_fields=32))
        except BodyTooLargeError as error:
            self._fail(413, str(error))
        except (BadBodyError, InvalidCidError, ValueError) as error:
            self._fail(400, str(error))
        except SonarError as error:
            self._fail(500, str(error))

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""

    def add(self, query: dict[str, list[str]]) -> None:
        """The file of the body becomes content."""
        pieces = body_pieces(self.rfile, self.headers, _MAX_ADD_BYTES)
        size = 0
        with tempfile.NamedTemporaryFile(prefix="add.", dir=self.server.node.repo) as file:
            for piece in form_file(pieces, self.headers.get("Content-Type", "")):
                size += file.write(piece)
            file.flush()
            cid = self.server.node.add(Path(file.name))
        if _option(query, "cid-version", "0") == "1":
            cid = upgraded_cid(cid)
        self._answer({"Name": cid, "Hash": cid, "Size": str(size)})

    def cat(self, query: dict[str, list[str]]) -> None:
        """Content, or a part of it."""
        cid = check_cid(_argument(query))
        offset, length = _whole(query, "offset"), _whole(query, "length")
        with self.server.node.content(cid, self._timeout(query)) as file:
            descriptor = file.fileno()
            left = max(0, os.fstat(descriptor).st_size - (offset or 0))
            left = left if length is None else min(left, length)
            self._head(200, "text/plain", left)
            position = offset or 0
            while left and (piece := os.pread(descriptor, min(left, _PIECE), position)):
                self.wfile.write(piece)
                position, left = position + len(piece), left - len(piece)

    def pin_add(self, query: dict[str, list[str]]) -> None:
        """Content is fetched and kept."""
        cid = check_cid(_argument(query))
        self.server.node.pin(cid, self._timeout(query))
        self._answer({"Pins": [cid]})

    def pin_rm(self, query: dict[str, list[str]]) -> None:
        """Content is kept no longer."""
        cid = check_cid(_argument(query))
        self.server.node.unpin(cid)
        self._answer({"Pins": [cid]})

    def id(self, _: dict[str, list[str]]) -> None:
        """Who this node is."""
        node = self.server.node
        about = {"ID": node.peer_id, "PublicKey": "", "Addresses": node.addresses(), "ProtocolVersion": "ipfs/0.1.0"}
        self._answer(about | {"AgentVersion": f"kubo/{_KUBO}/sonar"})

    def version(self, _: dict[str, list[str]]) -> None:
        """The Kubo inside."""
        self._answer({"Version": _KUBO, "Commit": "", "Repo": "14", "System": sys.platform, "Golang": ""})

    def swarm_connect(self, query: dict[str, list[str]]) -> None:
        """A connection to another node."""
        address = _argument(query)
        if not _ADDRESS.fullmatch(address) or "/p2p/" not in address:
            raise ValueError(f"{address[:100]!r} is not the address of a node: write it like /ip4/.../tcp/.../p2p/...")
        self.server.node.connect(address, self._timeout(query))
        self._answer({"Strings": [f"connect {address.rpartition('/')[2]} success"]})

    def swarm_peers(self, _: dict[str, list[str]]) -> None:
        """The nodes that this one is connected to."""
        pairs = [each.rpartition("/") for each in self.server.node.peers()]
        self._answer({"Peers": [{"Addr": address, "Peer": peer} for address, _, peer in pairs]})

    def _timeout(self, query: dict[str, list[str]]) -> float:
        text = _option(query, "timeout", "")
        match = _DURATION.fullmatch(text)
        if text and not match:
            raise ValueError(f"{text[:100]!r} is not a timeout: write it like 10s")
        return min(self.server.deadline, float(match[1]) * _UNITS[match[2]]) if match else self.server.deadline

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode() + b"\n"
        self._head(status, "application/json", len(body))
        self.wfile.write(body)

    def _fail(self, status: int, message: str) -> None:
        with contextlib.suppress(OSError):
            self._answer({"Message": message, "Code": 0, "Type": "error"}, status)
        with contextlib.suppress(OSError, BadBodyError, BodyTooLargeError):
            self.connection.shutdown(socket.SHUT_WR)
            # Closed with unread bytes, the connection would be reset and the client would not see the answer.
            for _ in body_pieces(self.rfile, self.headers, _MAX_ADD_BYTES):
                pass

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()


_VERBS: dict[str, Callable[[_Handler, dict[str, list[str]]], None]] = {
    "add": _Handler.add,
    "cat": _Handler.cat,
    "pin/add": _Handler.pin_add,
    "pin/rm": _Handler.pin_rm,
    "id": _Handler.id,
    "version": _Handler.version,
    "swarm/connect": _Handler.swarm_connect,
    "swarm/peers": _Handler.swarm_peers,
}


def _is_local(host: str) -> bool:
    # A page that points its own name at this machine would send that name.
    name = urlsplit(f"//{host}").hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


def _option(query: dict[str, list[str]], name: str, default: str) -> str:
    return query.get(name, [default])[-1]


def _argument(query: dict[str, list[str]]) -> str:
    values = query.get("arg", [])
    if len(values) != 1:
        raise ValueError(f"one argument is needed, not {len(values)}")
    return values[0]


def _whole(query: dict[str, list[str]], name: str) -> int | None:
    text = _option(query, name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError(f"{text[:100]!r} is not a number of bytes for {name}")
    return int(text)
