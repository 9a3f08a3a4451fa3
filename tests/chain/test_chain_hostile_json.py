"""JSON from strangers, nested beyond any stack: importing eth_account lifts Python's own guard against it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

NESTED = b"[" * 1_000_000


class _Nested(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(NESTED)))
        self.end_headers()
        self.wfile.write(NESTED)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def nested_node() -> Iterator[str]:
    """A node that answers everything with deeply nested JSON."""
    with HTTPServer(("127.0.0.1", 0), _Nested) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def python(code: str) -> str:
    """What a program prints; a process of its own, because a failure would kill it."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-500:]}"
    return done.stdout.strip()


def test_a_nested_spec_is_refused_and_kills_nobody() -> None:
    code = (
        "import eth_account\n"
        "from sonar.protocol.errors import SpecError\n"
        "from sonar.protocol.spec import Spec\n"
        "try:\n    Spec.parse(b'[' * 1_000_000)\n"
        "except SpecError as error:\n    print(error)\n"
    )
    assert "recursion limit" in python(code)


def test_a_node_that_answers_with_nested_json_is_unavailable_and_kills_nobody(nested_node: str) -> None:
    code = (
        "from sonar.chain.client import SonarClient\n"
        "from sonar.chain.errors import RpcUnavailableError\n"
        f"try:\n    SonarClient.connect({nested_node!r}, '0x' + '11' * 20)\n"
        "except RpcUnavailableError as error:\n    print(error)\n"
    )
    assert "unusable answer" in python(code)
