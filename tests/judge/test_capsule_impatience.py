"""Slow and silent clients of the Capsule's HTTP service: cut off, and never in the way of others."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from nodes import until

from capsule.errors import CapsuleUnavailableError
from capsule.http.impatience import ImpatientProtocol
from sonar.storage import Artifact
from sonar.units import Cid, Digest

SECONDS, MOST = 1.0, 4


LARGE = 32 << 20
"""Bytes that no system keeps for a client that does not read."""


class Hasty(ImpatientProtocol):
    request_seconds = response_seconds = SECONDS
    most_waiting = MOST


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers the body that was sent, or many bytes for GET."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message["body"], message.get("more_body", False)
    if scope["method"] == "GET":
        body = bytes(LARGE)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def read_all(connection: socket.socket) -> int:
    """How many bytes there still are."""
    read = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 20):
            read += len(piece)
    return read


@pytest.fixture
def server() -> Iterator[uvicorn.Server]:
    """A service with hasty connections."""
    config = uvicorn.Config(echo, http=Hasty, ws="none", lifespan="off", log_level="error", timeout_keep_alive=60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started, "the service does not start")
            yield server
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    """Its port."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection in good time, without an answer."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_request_that_never_begins_or_never_ends_is_cut_off(port: int, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(start)
        assert ended(connection)


def test_a_body_that_trickles_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                connection.sendall(b"x")
                time.sleep(SECONDS / 10)
        except OSError:
            return
    pytest.fail("the service still listens")


def test_silent_connections_make_room_for_who_speaks(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * MOST)]
    try:
        assert httpx.post(f"http://127.0.0.1:{port}", content=b"hello", timeout=20).content == b"hello"
        assert ended(silent[0])
    finally:
        for connection in silent:
            connection.close()


def test_connections_that_were_answered_and_stay_make_room_for_who_asks(port: int) -> None:
    kept = []
    for _ in range(3 * MOST):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        answer = b""
        while not answer.endswith(b"\r\n\r\nhi"):
            answer += connection.recv(4096)
        kept.append(connection)
    try:
        assert httpx.post(f"http://127.0.0.1:{port}", content=b"hello", timeout=20).content == b"hello"
        assert ended(kept[0])
    finally:
        for connection in kept:
            connection.close()


def test_a_connection_that_is_used_again_and_again_is_kept(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        deadline = time.monotonic() + 2.5 * SECONDS
        while time.monotonic() < deadline:
            assert client.post("/", content=b"a" * 200_000).content == b"a" * 200_000
        [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
        assert connection._connection._request_count > 1


@pytest.mark.parametrize(
    "asked",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
    ],
    ids=["once", "at last", "ahead"],
)
def test_a_client_that_asks_and_never_reads_is_cut_off(server: uvicorn.Server, port: int, asked: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(asked)
        until(lambda: server.server_state.total_requests > 0, "nothing was answered")
        until(lambda: not server.server_state.connections, "the service keeps the connection")
        assert read_all(connection) < LARGE


def test_a_client_that_reads_a_little_now_and_then_is_cut_off(server: uvicorn.Server, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read = len(connection.recv(1000))
        while server.server_state.connections:
            read += len(connection.recv(1000))
            assert read < LARGE, "the service waits for all of it to be read"
            time.sleep(SECONDS / 100)
        assert read + read_all(connection) < LARGE


def test_clients_that_do_not_read_make_room_for_who_asks(server: uvicorn.Server, port: int) -> None:
    server.config.http_protocol_class.response_seconds = 3600.0  # type: ignore[union-attr]
    try:
        greedy = []
        for _ in range(3 * MOST):
            greedy.append(socket.create_connection(("127.0.0.1", port)))
            greedy[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: server.server_state.total_requests == len(greedy), "one was not answered")
        until(lambda: len(server.server_state.connections) <= MOST, "the service keeps all connections")
        assert httpx.post(f"http://127.0.0.1:{port}", content=b"hello", timeout=20).content == b"hello"
    finally:
        server.config.http_protocol_class.response_seconds = SECONDS  # type: ignore[union-attr]
        for connection in greedy:
            connection.close()


def test_an_answer_that_is_read_in_time_arrives_whole_and_its_connection_is_kept(
    server: uvicorn.Server, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hasty, "response_seconds", 60.0)  # busy machines take most of SECONDS for so many bytes
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for _ in range(3):
            assert client.get("/").content == bytes(LARGE)
        [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
        assert connection._connection._request_count == 3
        [kept] = server.server_state.connections
        until(lambda: kept._unread is None, "who has read everything is still waited for", seconds=20)  # type: ignore[attr-defined]


def test_admissions_that_pile_up_are_turned_away_and_not_left_waiting(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, go, begun = world.service, threading.Event(), threading.Semaphore(0)
    artifact = Artifact(Cid("b"), Digest(bytes(32)))
    scientist.key()  # who has none is refused before he takes a place

    def ask() -> None:
        begun.release()
        service.admit(scientist.address, spec=artifact, model=artifact, validation=artifact)

    monkeypatch.setattr(service._admitter, "admit", lambda *_: go.wait(60))
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
        begun.acquire()
    try:
        deadline = time.monotonic() + 20
        while service._admissions._value:
            assert time.monotonic() < deadline, "all eight are admitted or wait"
            time.sleep(0.01)
        with pytest.raises(CapsuleUnavailableError, match="try again"):
            ask()
    finally:
        go.set()
        for thread in threads:
            thread.join()
    ask()
