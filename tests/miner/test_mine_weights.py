"""What a mine makes of a Capsule that gives it no weights: whether to ask again, or to leave the campaign alone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account

from mine.errors import NotNowError, PolicyError
from mine.weights import fetch_weights
from sonar.protocol.messages import Domain
from sonar.units import Address, CampaignId, Digest

CONTRACT = Address("0x1111111111111111111111111111111111111111")


@contextmanager
def capsule_that_says(status: int, code: str) -> Iterator[Any]:
    """A network whose Capsule answers every request so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps({"code": code, "message": "a sentence"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(capsule_url=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(429, "too_many_requests", NotNowError), (503, "unavailable", NotNowError), (403, "not_admitted", PolicyError)],
)
def test_who_asks_too_often_asks_again_and_who_is_not_admitted_does_not(
    status: int, code: str, kind: type[Exception]
) -> None:
    campaign = SimpleNamespace(
        id=CampaignId(bytes(32)), spec=SimpleNamespace(digest=Digest(bytes(32))),
        admission=SimpleNamespace(oracle=CONTRACT),
    )  # fmt: skip
    offer: Any = SimpleNamespace(campaign=campaign, domain=Domain(1, CONTRACT))
    with capsule_that_says(status, code) as network, pytest.raises(kind, match="a sentence"):
        fetch_weights(network, Account.create(), offer, 0)
