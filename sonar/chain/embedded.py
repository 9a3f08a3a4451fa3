"""The embedded chain as a JSON-RPC server: a development network without Node, for one machine.

    python -m sonar.chain.embedded --port 0      prints one line of JSON: {"rpc_url", "port", "chain_id", "accounts"}

It answers the methods that web3 and Sonar use, on the loopback address unless told otherwise; its development accounts
are unlocked for everyone who can reach it. Nothing is stored: the chain ends with the process.
"""

import argparse
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from sonar.chain._evm import CHAIN_ID, EmbeddedChain
from sonar.chain._methods import Methods, RpcError
from sonar.chain._rendering import checksum

__all__ = ["EmbeddedServer", "serve"]

_LARGEST_BODY = 4 * 1024 * 1024


class EmbeddedServer(ThreadingHTTPServer):
    """A chain and the HTTP server in front of it; `url` says where. Port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, accounts: int = 10) -> None:
        super().__init__((host, port), _Handler)
        self.methods = Methods(EmbeddedChain(accounts))

    @property
    def url(self) -> str:
        """The RPC address."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def accounts(self) -> list[str]:
        """The funded, unlocked development accounts."""
        return [checksum(account) for account in self.methods.chain.accounts]


def serve(host: str = "127.0.0.1", port: int = 0, *, accounts: int = 10) -> None:
    """Serves a fresh chain until SIGTERM or Ctrl-C, after a line of JSON on stdout that says where."""
    signal.signal(signal.SIGTERM, _stop)
    server = EmbeddedServer(host, port, accounts=accounts)
    with server:
        port = server.server_address[1]
        said = {"rpc_url": server.url, "port": port, "chain_id": CHAIN_ID, "accounts": server.accounts}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            return


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 120

    def do_POST(self) -> None:
        """One JSON-RPC request or a batch of them."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= _LARGEST_BODY:
            self.close_connection = True
            self._answer(413, {"error": f"a body of at most {_LARGEST_BODY} bytes with its length is required"})
            return
        body = self.rfile.read(length)
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            self._answer(200, {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}})
            return
        answer: Any = [self._one(item) for item in request] if isinstance(request, list) else self._one(request)
        self._answer(200, answer)

    def _one(self, request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request.get("id") if isinstance(request, dict) else None}
        try:
            return reply | {"result": self.server.methods(request)}
        except RpcError as error:
            return reply | {"error": error.body}

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it)
        """Says nothing: stdout holds results, and a line per request helps nobody."""


def _main() -> None:
    parser = argparse.ArgumentParser(description="An in-process Ethereum chain for development, over JSON-RPC.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--accounts", type=int, default=10, help="how many funded, unlocked accounts")
    chosen = parser.parse_args()
    serve(chosen.host, chosen.port, accounts=chosen.accounts)


if __name__ == "__main__":
    _main()
