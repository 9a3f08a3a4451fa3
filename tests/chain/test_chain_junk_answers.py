"""Nodes that answer with junk: whatever comes back, the client's callers see a ChainError."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from eth_abi import abi as codec
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from sonar.chain._artifact import artifact, event_topic
from sonar.chain.calls import EncodedCall
from sonar.chain.client import SonarClient
from sonar.chain.committee import read_committee
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ChainError, ContractRevertError, RpcUnavailableError
from sonar.chain.lookups import block_hash
from sonar.chain.token import Token
from sonar.units import Address, CampaignId, Ppm, Wei

CONTRACT = "0x" + "11" * 20
CAMPAIGN = CampaignId(bytes(32))
EVENTS = [event_topic(entry) for entry in artifact()["abi"] if entry["type"] == "event"]
LOG = {
    "address": CONTRACT, "topics": [], "data": "0x", "blockNumber": "0x1", "logIndex": "0x0",
    "transactionHash": "0x" + "22" * 32, "transactionIndex": "0x0", "blockHash": "0x" + "33" * 32, "removed": False,
}  # fmt: skip
JUNK: list[Any] = [
    None, "hello", "-0x5", "0x", "0x" + "ff" * 64, "0x" + "ff" * 2000, 5, [], [None], ["x"], {}, {"hash": None},
    {"timestamp": None}, {"baseFeePerGas": "zz"}, [{**LOG, "topics": None}], [{**LOG, "address": "0x12"}],
    *([{**LOG, "topics": ["0x" + topic.hex(), *more], "data": data}]
      for topic in EVENTS for more in ([], ["0x1234"] * 3, ["0x" + "ff" * 32] * 3)
      for data in ("0x", "0x" + "ff" * 999)),
]  # fmt: skip
ASKED: list[Callable[[SonarClient], object]] = [
    lambda client: client.now(),
    lambda client: client.block_number(),
    lambda client: client.balance(Address(CONTRACT)),
    lambda client: client.campaign(CAMPAIGN),
    lambda client: client.round(CAMPAIGN),
    lambda client: client.pending_owner(CAMPAIGN),
    lambda client: client.last_submission(CAMPAIGN, Address(CONTRACT)),
    lambda client: client.quote(CAMPAIGN, Ppm(1)),
    lambda client: client.credit(Address(CONTRACT)),
    lambda client: Token(client, Address(CONTRACT)).balance(Address(CONTRACT)),
    lambda client: Token(client, Address(CONTRACT)).allowance(Address(CONTRACT)),
    lambda client: read_committee(client.web3, Address(CONTRACT)),
    lambda client: client.receipt(bytes(32)),
    lambda client: block_hash(client, 1),
    lambda client: EventCursor(client, 0).read(),
]


class Node:
    """Answers every method with one thing, but for those that a connection needs."""

    def __init__(self) -> None:
        self.junk: Any = None
        self.sane: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self.asked: list[str] = []


@pytest.fixture
def node() -> Iterator[tuple[Node, str]]:
    state = Node()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            result = state.sane.get(asked["method"], state.junk)
            told = {"error": state.errors[asked["method"]]} if asked["method"] in state.errors else {"result": result}
            self.answer(asked["method"], {"jsonrpc": "2.0", "id": asked["id"], **told})

        def do_GET(self) -> None:
            self.answer("GET " + self.path, {"data": "0x"})

        def answer(self, asked: str, told: dict[str, Any]) -> None:
            state.asked.append(asked)
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_whatever_a_node_answers_only_chain_errors_come_out(node: tuple[Node, str]) -> None:
    state, url = node
    sane = {"eth_chainId": "0x1", "eth_getCode": "0x60"}
    state.sane = sane
    client = SonarClient.connect(url, CONTRACT)
    for junk in JUNK:
        state.junk = junk
        for ask in ASKED:
            state.sane = {**sane, "eth_blockNumber": "0x5"} if ask is ASKED[-1] else sane
            try:
                ask(client)
            except ChainError as error:
                assert str(error)  # noqa: PT017  (not raising is as good)


@pytest.mark.parametrize("method", ["eth_chainId", "eth_getCode"])
@pytest.mark.parametrize("junk", [None, "hello", [], {}], ids=repr)
def test_a_node_without_a_sane_first_answer_is_unavailable(node: tuple[Node, str], method: str, junk: Any) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60", method: junk}
    with pytest.raises(RpcUnavailableError):
        SonarClient.connect(url, CONTRACT)


def test_a_state_that_the_contract_does_not_have_makes_no_campaign(node: tuple[Node, str]) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60", "eth_call": "0x" + "00" * 31 * 64}
    client = SonarClient.connect(url, CONTRACT)
    for size in range(1, 40):
        state.sane["eth_call"] = "0x" + ("00" * 31 + "63") * size
        try:
            client.campaign(CAMPAIGN)
        except ChainError:
            continue
        pytest.fail("99 is no status")


def test_a_node_cannot_have_a_transaction_signed_for_another_chain(client_for: Any, new_account: Any) -> None:
    client = client_for(new_account())
    ours, client.chain_id = client.chain_id, client.chain_id + 1  # the node now says something else than at first
    # A transfer of nothing to itself: it never reverts.
    signed = client.sign(EncodedCall(Address(client.account.address), b"", Wei(0)))
    assert TypedTransaction.from_bytes(HexBytes(signed.raw)).as_dict()["chainId"] == ours + 1


def test_a_view_costs_one_request(node: tuple[Node, str]) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60", "eth_call": "0x" + "00" * 31 + "07"}
    client = SonarClient.connect(url, CONTRACT)
    state.asked.clear()
    assert client.quote(CAMPAIGN, Ppm(1)) == 7
    assert state.asked == ["eth_call"]


def test_a_view_of_what_its_types_do_not_hold_is_refused_before_the_node_is_asked(node: tuple[Node, str]) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60"}
    client = SonarClient.connect(url, CONTRACT)
    state.asked.clear()
    for campaign, score in ((CampaignId(bytes(31)), Ppm(1)), (CampaignId(bytes(33)), Ppm(1)), (CAMPAIGN, Ppm(-1))):
        with pytest.raises(ChainError, match="does not take"):
            client.quote(campaign, score)
    assert state.asked == []


def test_a_contract_cannot_have_anything_fetched(node: tuple[Node, str]) -> None:
    """EIP-3668: a call that reverts so asks its caller to fetch what a contract, or the node, chooses."""
    state, url = node
    elsewhere = ["address", "string[]", "bytes", "bytes4", "bytes"]
    asks = codec.encode(elsewhere, [CONTRACT, [f"{url}/fetched"], b"x", b"1234", b""])
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60"}
    state.errors = {"eth_call": {"code": 3, "message": "execution reverted", "data": "0x556f1830" + asks.hex()}}
    client = SonarClient.connect(url, CONTRACT)
    with pytest.raises(ContractRevertError):
        client.quote(CAMPAIGN, Ppm(1))
    assert not [asked for asked in state.asked if asked.startswith("GET")]


@pytest.mark.parametrize("data", [None, "0x"], ids=["refused", "reverted"])
@pytest.mark.parametrize("words", ["\x1b]0;owned\x07\x1b[2J\nok", "half \ud800", "\u202etxt", "x" * 100_000])
def test_nodes_words_steer_no_terminal_and_can_be_written_down(node: tuple[Node, str], words: str, data: Any) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60"}
    state.errors = {"eth_call": {"code": -32000, "message": words} | ({} if data is None else {"data": data})}
    client = SonarClient.connect(url, CONTRACT)
    with pytest.raises(ChainError) as caught:
        client.quote(CAMPAIGN, Ppm(1))
    assert str(caught.value).isprintable()
    assert len(str(caught.value).encode()) < 1000


def test_the_environments_proxy_is_used_for_a_node(node: tuple[Node, str], monkeypatch: pytest.MonkeyPatch) -> None:
    state, url = node
    state.sane = {"eth_chainId": "0x1", "eth_getCode": "0x60", "eth_blockNumber": "0x5"}
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert SonarClient.connect("http://node.invalid:8545", CONTRACT).block_number() == 5
    monkeypatch.setenv("no_proxy", "node.invalid")
    with pytest.raises(RpcUnavailableError):
        SonarClient.connect("http://node.invalid:8545", CONTRACT)
