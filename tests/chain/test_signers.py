"""Accounts at signing services: a real one signs, a lying one is told, and unsafe addresses are refused."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_account import Account
from nodes import running_node

from sonar.chain.client import SonarClient
from sonar.chain.deploy import deploy
from sonar.chain.fees import Fees
from sonar.errors import ConfigError
from sonar.signers import RemoteSigner, SignerError
from sonar.units import Wei

OWNER = Account.create()
FIELDS = {"to": "0x" + "11" * 20, "data": "0x1234", "value": 7, "gas": 50_000, "nonce": 3, "chainId": 1337,
          "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}  # fmt: skip
LEGACY = {name: value for name, value in FIELDS.items() if not name.startswith("max")} | {"gasPrice": 10**10}


@contextmanager
def service(answer: Any) -> Iterator[str]:
    """What answers every request with this, or with what it makes of the transaction."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(request["params"][0]) if callable(answer) else answer
            body = found if isinstance(found, bytes) else json.dumps({"jsonrpc": "2.0", "id": 1, **found}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def signed(changes: dict[str, Any] | None = None, by: Any = OWNER, wrap: bool = False) -> Any:
    """A service that signs what it is asked to, with changes."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in asked.items() if name != "from"}
        fields |= changes or {}
        raw = "0x" + by.sign_transaction(fields).raw_transaction.hex()
        return {"result": {"raw": raw, "tx": {}} if wrap else raw}

    return answer


@pytest.mark.parametrize("fields", [FIELDS, LEGACY], ids=["type 2", "legacy"])
@pytest.mark.parametrize("wrap", [False, True], ids=["as Web3Signer answers", "as Clef answers"])
def test_what_a_service_signs_is_what_the_key_itself_would_sign(fields, wrap):
    with service(signed(wrap=wrap)) as url:
        found = RemoteSigner(url, OWNER.address).sign_transaction(fields)
    wanted = OWNER.sign_transaction(fields)
    assert (found.raw_transaction, found.hash) == (bytes(wanted.raw_transaction), bytes(wanted.hash))


@pytest.mark.parametrize("fields", [FIELDS, LEGACY], ids=["type 2", "legacy"])
@pytest.mark.parametrize("name", ["to", "data", "value", "gas", "nonce", "chainId"])
def test_another_transaction_than_was_asked_for_is_told_by_the_field(fields, name):
    other = {"to": "0x" + "22" * 20, "data": "0x12"}.get(name, 8)
    with service(signed({name: other})) as url, pytest.raises(SignerError, match=f"another transaction.*{name}"):
        RemoteSigner(url, OWNER.address).sign_transaction(fields)


def test_a_signature_of_another_account_is_told():
    with service(signed(by=Account.create())) as url, pytest.raises(SignerError, match="account"):
        RemoteSigner(url, OWNER.address).sign_transaction(FIELDS)


def test_an_access_list_that_was_not_asked_for_is_told():
    extra = {"accessList": [{"address": "0x" + "33" * 20, "storageKeys": []}]}
    with service(signed(extra)) as url, pytest.raises(SignerError):
        RemoteSigner(url, OWNER.address).sign_transaction(FIELDS)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>", "JSON"), ({"result": "0x"}, "no signed"), ({"result": "nonsense"}, "no signed"),
        ({"result": None}, "no signed"), ({"result": {"raw": 5}}, "no signed"), ({"result": "0xc0"}, "no signed"),
        ({"error": {"code": -1, "message": "denied by the owner"}}, "denied by the owner"), (b"[]", "refuses"),
        (b" " * (2 << 20), "more than"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_an_answer_that_is_no_signed_transaction_is_told(answer, says):
    with service(answer) as url, pytest.raises(SignerError, match=says):
        RemoteSigner(url, OWNER.address).sign_transaction(FIELDS)


def test_a_service_that_is_not_there_is_told():
    with service({"result": []}) as url:
        signer = RemoteSigner(url, OWNER.address)
        assert signer.accounts() == []
    with pytest.raises(SignerError, match="does not answer"):
        signer.sign_transaction(FIELDS)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://signer.example:9000", "another machine"), ("http://10.0.0.1:9000", "another machine"),
        ("ftp://127.0.0.1", "no URL"), ("127.0.0.1:9000", "no URL"), ("http://me:secret@127.0.0.1", "login"),
    ],
)  # fmt: skip
def test_an_address_at_which_others_could_sign_is_refused(url, says):
    with pytest.raises(ConfigError, match=says) as refused:
        RemoteSigner(url, OWNER.address)
    assert "secret" not in str(refused.value)
    RemoteSigner("https://signer.example", OWNER.address)


def test_ganache_signs_for_a_client(tmp_path):
    with running_node("ganache", tmp_path) as node:
        address = node.ask("eth_accounts")[0]
        signer = RemoteSigner(node.url, address)
        assert address in [one.lower() for one in signer.accounts()]
        client = SonarClient.connect(node.url, _contract(node.url, node), signer)
        signed = client.sign(_nothing(client), fees=Fees(Wei(10**11), Wei(10**9)))
        client.send(signed)
        assert client.wait(signed.hash, 30).succeeded


def _contract(url: str, node: Any) -> str:
    from web3 import Web3

    deployer = Account.create()
    rich = node.ask("eth_accounts")[1]
    node.ask("eth_sendTransaction", {"from": rich, "to": deployer.address, "value": hex(10**19)})
    return str(deploy(Web3(Web3.HTTPProvider(url)), deployer).address)


def _nothing(client: SonarClient) -> Any:
    from sonar.chain.calls import EncodedCall
    from sonar.units import Address

    return EncodedCall(Address(client.signer.address), b"", Wei(1))
