"""Real development nodes with a remote control, and a line to them that can be cut, or told to lie."""

import json
import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from sonar.processes import free_port

MODULES = Path(__file__).parents[2] / "node_modules"
ANVIL = MODULES / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
GANACHE = MODULES / "ganache" / "dist" / "node" / "cli.js"


def until(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The condition's first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class Remote:
    """A node's remote control."""

    def __init__(self, url: str, kind: str) -> None:
        self.url, self.kind = url, kind
        self.web3 = Web3(Web3.HTTPProvider(url, request_kwargs={"timeout": 30}))

    def ask(self, method: str, *parameters: Any) -> Any:
        answer = self.web3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.ask("evm_mine")

    def snapshot(self) -> str:
        return str(self.ask("evm_snapshot"))

    def revert(self, snapshot: str, *, elsewhere: bool = True) -> None:
        """Takes everything back since the snapshot; `elsewhere` makes the next blocks other ones."""
        assert self.ask("evm_revert", snapshot)
        if elsewhere:
            self.ask("evm_increaseTime", 7)
            self.mine()

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Transactions wait in the pool until the block ends."""
        anvil = self.kind == "anvil"
        self.ask(*(("evm_setAutomine", False) if anvil else ("miner_stop",)))
        try:
            yield
        finally:
            self.ask(*(("evm_setAutomine", True) if anvil else ("miner_start",)))

    def waiting(self) -> int:
        """How many transactions wait in the pool."""
        if self.kind == "anvil":
            return int(self.ask("txpool_status")["pending"], 16)
        return len(self.ask("eth_getBlockByNumber", "pending", False)["transactions"])


@contextmanager
def running_node(kind: str, home: Path, port: int | None = None, *more: str) -> Iterator[Remote]:
    """An Anvil or a Ganache on a free port."""
    number = str(port or free_port())
    if kind == "anvil":
        command = [str(ANVIL), "--port", number, "--hardfork", "paris", "--silent", *more]
    else:
        command = [str(shutil.which("node")), str(GANACHE), "--server.port", number, "--logging.quiet",
                   "--chain.hardfork", "shanghai", "--wallet.seed", "sonar",
                   "--wallet.defaultBalance", "1000000", *more]  # fmt: skip
    if not (ANVIL if kind == "anvil" else GANACHE).is_file():
        pytest.skip(f"{kind} is not installed: npm install")
    environment = {**os.environ, "HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            remote = Remote(f"http://127.0.0.1:{number}", kind)
            until(remote.web3.is_connected, f"{kind} answers")
            yield remote
        finally:
            process.terminate()
            process.wait(20)


@dataclass(frozen=True)
class Refusal:
    """A node's refusal, as a line's `answer` may put it in the place of a result."""

    message: str

    @property
    def error(self) -> dict[str, Any]:
        return {"code": -32000, "message": self.message}


class Line(ThreadingHTTPServer):
    """A line to a node. `cut` breaks it; `answer(request, result)` may change what the node says."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.target = target
        self.cut = False
        self.answer: Callable[[dict[str, Any], Any], Any] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""


class _Relay(BaseHTTPRequestHandler):
    server: Line
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.cut:
            self.close_connection = True
            return
        asked = urllib.request.Request(self.server.target, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as response:
            answer = response.read()
        if self.server.answer is not None:
            request, reply = json.loads(body), json.loads(answer)
            if "result" in reply:
                said = self.server.answer(request, reply.pop("result"))
                reply |= {"error": said.error} if isinstance(said, Refusal) else {"result": said}
            answer = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def line_to(target: str) -> Iterator[Line]:
    """A line to a node until the context ends."""
    with Line(target) as line:
        thread = threading.Thread(target=line.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            line.shutdown()
            thread.join(10)
