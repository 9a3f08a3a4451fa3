"""The Kubo store against nodes that are absent, slow, wrong or hostile: real sockets that answer badly."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from sonar.storage import (
    Artifact,
    ArtifactTooLargeError,
    DigestMismatchError,
    InvalidCidError,
    StorageError,
    StoreTimeoutError,
    StoreUnavailableError,
    open_store,
)
from sonar.storage.cids import raw_cid, upgraded_cid
from sonar.units import Cid, digest_of

WANTED = Artifact(raw_cid(b"wanted"), digest_of(b"wanted"))
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
Behaviour = Callable[[socket.socket, threading.Event], None]


@contextmanager
def bad_node(behave: Behaviour) -> Iterator[str]:
    """A server that reads the head of a request and then behaves as told; yields the store's URL."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            behave(connection, ended)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        yield f"kubo:http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def says(answer: bytes) -> Behaviour:
    def answer_in_peace(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        # Closing on a body that is still being sent would reset the connection, and the answer with it.
        while connection.recv(65536):
            pass

    return answer_in_peace


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_node_that_points_elsewhere_is_not_followed(status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/api/v0/cat"
        head = f"HTTP/1.1 {status} See\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with bad_node(says(head.encode())) as url:
            store = open_store(url, timeout=2)
            for use in (lambda: store.put(b"x"), lambda: store.get(WANTED, max_bytes=6)):
                with pytest.raises(StoreUnavailableError, match="cannot be used"):
                    use()
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_an_absent_node_is_unavailable_and_the_message_says_where_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = open_store(f"kubo:http://127.0.0.1:{port}")
    for use in (lambda: store.put(b"x"), lambda: store.get(WANTED, max_bytes=6)):
        with pytest.raises(StoreUnavailableError, match=rf"127\.0\.0\.1:{port} cannot be reached .*start it") as caught:
            use()
        assert caught.value.transient


def test_a_node_that_never_answers_ends_at_the_deadline() -> None:
    with bad_node(lambda _, ended: ended.wait() and None) as url, open_store(url, timeout=0.3) as store:
        began = time.monotonic()
        for use in (lambda: store.put(b"x"), lambda: store.get(WANTED, max_bytes=6)):
            with pytest.raises(StoreTimeoutError, match=r"0\.3 s"):
                use()
        assert time.monotonic() - began < 5


def test_a_node_that_trickles_ends_at_the_deadline() -> None:
    def trickle(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(OK + b"\r\n")
        while not ended.wait(0.05):
            connection.sendall(b"x")

    with bad_node(trickle) as url, open_store(url, timeout=0.5) as store, pytest.raises(StoreTimeoutError):
        store.get(WANTED, max_bytes=10**6)


def test_a_node_that_stops_in_the_middle_ends_at_the_deadline() -> None:
    def stop(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(OK + b"Content-Length: 6\r\n\r\nwan")
        ended.wait()

    with bad_node(stop) as url, open_store(url, timeout=0.5) as store, pytest.raises(StoreTimeoutError):
        store.get(WANTED, max_bytes=10**6)


def test_a_node_that_never_stops_sending_is_cut_off_at_the_size() -> None:
    def flood(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(OK + b"\r\n")
        while True:
            connection.sendall(bytes(65536))

    with bad_node(flood) as url, open_store(url) as store, pytest.raises(ArtifactTooLargeError):
        store.get(WANTED, max_bytes=10**6)


def test_a_node_that_answers_with_other_bytes_is_caught() -> None:
    answer = OK + b"Content-Length: 6\r\n\r\nWANTED"
    with bad_node(says(answer)) as url, open_store(url) as store, pytest.raises(DigestMismatchError):
        store.get(WANTED, max_bytes=6)


def test_a_cut_connection_is_not_taken_for_the_end_of_the_artifact() -> None:
    answer = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nwan\r\n"
    with bad_node(says(answer)) as url, open_store(url) as store, pytest.raises(StoreUnavailableError):
        store.get(WANTED, max_bytes=6)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<html>nothing here</html>",
        b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n" + b'{"Message":"disk full","Code":0,"Type":"error"}',
        OK + b"\r\n<html>hello</html>",
        OK + b"\r\n",
        OK + b"\r\n{}",
        OK + b"\r\n[]",
        OK + b'\r\n{"Hash":"a"}{"Hash":"b"}',
        b"SSH-2.0-server\r\n",
        b"",
    ],
)
def test_a_server_that_is_no_kubo_is_unavailable_not_a_traceback(answer: bytes) -> None:
    with bad_node(says(answer)) as url, open_store(url, timeout=5) as store, pytest.raises(StoreUnavailableError):
        store.put(b"content")


@pytest.mark.parametrize(
    ("cid", "error"),
    [
        ("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", InvalidCidError),
        ("../../x", InvalidCidError),
        (raw_cid(b"other"), DigestMismatchError),
    ],
)
def test_a_node_that_names_the_content_wrongly_is_caught(cid: str, error: type[StorageError]) -> None:
    answer = OK + b'\r\n{"Name":"x","Hash":"%s","Size":"7"}' % cid.encode()
    with bad_node(says(answer)) as url, open_store(url) as store, pytest.raises(error):
        store.put(b"content")


def test_a_unixfs_cid_is_fetched_and_its_content_verified() -> None:
    cid = upgraded_cid("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")
    answer = OK + b"Content-Length: 6\r\n\r\nwanted"
    with bad_node(says(answer)) as url, open_store(url) as store:
        assert store.get(Artifact(Cid(cid), digest_of(b"wanted")), max_bytes=6) == b"wanted"


def test_the_request_asks_the_node_for_no_more_than_allowed_and_to_give_up_before_the_client() -> None:
    heads: list[bytes] = []

    def listen(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(OK + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection = listener.accept()[0]
            with connection:
                heads.append(connection.recv(65536))
                listen(connection, threading.Event())

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        store = open_store(f"kubo:http://127.0.0.1:{listener.getsockname()[1]}", timeout=10)
        with pytest.raises(DigestMismatchError):
            store.get(WANTED, max_bytes=6)
        thread.join(10)
    assert b"length=7&" in heads[0]
    assert b"timeout=8.000s&" in heads[0]
