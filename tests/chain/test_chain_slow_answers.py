"""A node whose answers never end, or are too large, is waited for no longer than its timeout."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sonar.chain import _http
from sonar.chain._rpc import connect_web3, rpc
from sonar.chain.errors import RpcUnavailableError
from sonar.errors import ConfigError

TIMEOUT, PATIENT = 1.0, 2.0
"""Seconds: what answers that never end are waited for, and what answers that come are, on a machine that is busy."""
ANSWER = b'{"jsonrpc":"2.0","id":0,"result":"0x1"}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Node"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        try:
            self.server.answer(self)
        except OSError:  # hung up: what is wanted
            self.close_connection = True


class Node(ThreadingHTTPServer):
    daemon_threads = True
    asked = 0
    answer: Callable[[Handler], None]

    def drip(self, handler: Handler, piece: bytes) -> None:
        """Sends it again and again, until the other side hangs up or the test is over."""
        while not self.over.wait(0.02):
            handler.wfile.write(piece)

    over: threading.Event


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node(("127.0.0.1", 0), Handler)
    made.over = threading.Event()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.over.set()
    made.shutdown()
    thread.join()
    made.server_close()


def plain(handler: Handler, body: bytes = ANSWER, **headers: str) -> None:
    handler.send_response(200)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def drip_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "9999999")
    handler.end_headers()
    handler.server.drip(handler, b" ")


def drip_chunks(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.server.drip(handler, b"1\r\n \r\n")


def drip_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    handler.server.drip(handler, b"x")


def drip_status(handler: Handler) -> None:
    handler.server.drip(handler, b"H")


@pytest.mark.parametrize("drip", [drip_body, drip_chunks, drip_header, drip_status])
def test_a_node_that_drips_bytes_is_given_up_at_the_timeout(node: Node, drip: Callable[[Handler], None]) -> None:
    node.answer = drip
    web3 = connect_web3(f"http://127.0.0.1:{node.server_port}", TIMEOUT)
    begun = time.monotonic()
    with pytest.raises(RpcUnavailableError, match="did not answer in time"), rpc(web3):
        web3.eth.get_block_number()
    assert time.monotonic() - begun < 10 * TIMEOUT
    assert node.asked == 1
    node.answer = plain
    with rpc(web3):
        assert web3.eth.get_block_number() == 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_is_too_large_is_not_read(node: Node, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(_http, "LONGEST_ANSWER", 1 << 20)
    body = ANSWER + b" " * (1 << 20)

    def answer(handler: Handler) -> None:
        if packed:
            plain(handler, gzip.compress(body), Content_Encoding="gzip")
        else:
            plain(handler, body)

    node.answer = answer
    web3 = connect_web3(f"http://127.0.0.1:{node.server_port}", 10)
    with pytest.raises(RpcUnavailableError, match="unusable answer"), rpc(web3):
        web3.eth.get_block_number()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_node_that_points_elsewhere_is_not_followed(node: Node, status: int) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Location", f"http://127.0.0.1:{node.server_port}/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    node.answer = answer
    web3 = connect_web3(f"http://127.0.0.1:{node.server_port}", PATIENT)
    with pytest.raises(RpcUnavailableError, match=f"answered HTTP {status}"), rpc(web3):
        web3.eth.get_block_number()
    assert node.asked == 1


def test_a_connection_is_kept_for_the_next_request_with_its_whole_timeout(node: Node) -> None:
    peers = set()

    def answer(handler: Handler) -> None:
        peers.add(handler.client_address)
        node.over.wait(0.3 * PATIENT)
        plain(handler)

    node.answer = answer
    web3 = connect_web3(f"http://127.0.0.1:{node.server_port}", PATIENT)
    for _ in range(4):  # longer than the timeout, all together
        with rpc(web3):
            assert web3.eth.get_block_number() == 1
    assert len(peers) == 1


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the environment ask for proxies, and for no others: proxy(HTTP_PROXY="http://...")."""

    def ask(**proxies: str) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        for name, value in proxies.items():
            monkeypatch.setenv(name, value)

    return ask


def test_answers_through_an_http_proxy_are_bounded_as_well(node: Node, proxy: Callable[..., None]) -> None:
    proxy(HTTP_PROXY=f"http://127.0.0.1:{node.server_port}")
    web3 = connect_web3("http://node.invalid:8545", TIMEOUT)
    node.answer = plain
    with rpc(web3):
        assert web3.eth.get_block_number() == 1
    node.answer = drip_body
    with pytest.raises(RpcUnavailableError, match="did not answer in time"), rpc(web3):
        web3.eth.get_block_number()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4"])
def test_a_socks_proxy_is_refused_in_a_sentence_without_its_password(
    proxy: Callable[..., None], name: str, scheme: str
) -> None:
    proxy(**{name: f"{scheme}://user:secret@127.0.0.1:9"})
    with pytest.raises(ConfigError, match=r"SOCKS proxy to node\.invalid, .* NO_PROXY") as caught:
        connect_web3("http://node.invalid:8545", TIMEOUT)
    assert "secret" not in str(caught.value)


def test_a_node_that_needs_no_proxy_is_asked_without_the_socks_proxy(node: Node, proxy: Callable[..., None]) -> None:
    proxy(ALL_PROXY="socks5://127.0.0.1:9", NO_PROXY="127.0.0.1")
    node.answer = plain
    web3 = connect_web3(f"http://127.0.0.1:{node.server_port}", PATIENT)
    with rpc(web3):
        assert web3.eth.get_block_number() == 1
