"""Decoders of what a chain's node says: event logs, revert bytes, JSON-RPC answers, calldata."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

from eth_abi import abi as codec
from web3 import HTTPProvider, Web3

from hostile.mutations import abi_words, json_text
from hostile.target import Target
from sonar.chain._artifact import arguments_type, artifact, decode_revert, event_topic
from sonar.chain.client import SonarClient
from sonar.chain.committee import read_committee
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ChainError
from sonar.chain.logs import decode_log
from sonar.chain.lookups import admission_signature, block_hash
from sonar.chain.token import Token
from sonar.units import Address, CampaignId

__all__ = ["targets"]

CONTRACT = Address("0x" + "11" * 20)
CAMPAIGN = CampaignId(bytes(32))
_HASH = "0x" + "22" * 32


def targets() -> Iterator[Target]:
    """Logs, reverts and answers of a node."""
    entries = artifact()["abi"]
    events = [entry for entry in entries if entry["type"] == "event"]
    errors = [entry for entry in entries if entry["type"] == "error"]
    yield Target("event-log", _decode_log, (ChainError,), tuple(_packed_log(entry) for entry in events), (abi_words,))
    # It makes an error of every input, and raises none.
    reverts = tuple(_selector(entry) + codec.encode(arguments_type(entry), _values(entry)) for entry in errors)
    yield Target("revert", lambda data: str(decode_revert(data)), (), (*reverts, _NO), (abi_words,))
    for name, (result, ask) in _ANSWERS.items():
        answer = json.dumps({"jsonrpc": "2.0", "id": 0, "result": result}).encode()
        yield Target(
            f"node-{name}", _asking(ask), (ChainError,), (answer, _REFUSAL), (json_text,), weight=0.1, samples=True
        )
    create = next(e for e in entries if e["type"] == "function" and e["name"] == "createCampaign")
    data = _selector(create) + codec.encode(arguments_type(create), _values(create))
    yield Target("calldata", _admission_in, (ChainError,), (data,), (abi_words,), weight=0.5)


class _Node(HTTPProvider):
    """A connection on which always the same bytes arrive: web3's own path from there on."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.body = b""

    def _make_request(self, method: Any, request_data: bytes) -> bytes:
        return self.body


@cache
def _client() -> tuple[_Node, SonarClient]:
    node = _Node()
    return node, SonarClient(Web3(node), CONTRACT, 1337)


def _asking(ask: Callable[[SonarClient], object]) -> Callable[[bytes], object]:
    node, client = _client()

    def decode(body: bytes) -> object:
        node.body = body
        return ask(client)

    return decode


def _admission_in(data: bytes) -> object:
    found = {**_TRANSACTION, "input": "0x" + data.hex()}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "result": found}).encode()
    return _asking(lambda client: admission_signature(client, bytes(32)))(body)


def _packed_log(entry: dict[str, Any]) -> bytes:
    """A log as bytes: the number of its topics, the topics, the data."""
    indexed = [item for item in entry["inputs"] if item["indexed"]]
    plain = [item for item in entry["inputs"] if not item["indexed"]]
    topics = [event_topic(entry)]
    topics += [codec.encode(arguments_type({"inputs": [item]}), _values({"inputs": [item]})) for item in indexed]
    return (
        bytes([len(topics)])
        + b"".join(topics)
        + codec.encode(arguments_type({"inputs": plain}), _values({"inputs": plain}))
    )


def _decode_log(data: bytes) -> object:
    count = data[0] if data else 0
    topics = [data[1 + 32 * i : 33 + 32 * i] for i in range(min(count, 5))]
    log: Any = {
        "topics": topics, "data": data[1 + 32 * count :], "blockNumber": 1, "logIndex": 0, "transactionHash": bytes(32),
    }  # fmt: skip
    return decode_log(log)


def _selector(entry: dict[str, Any]) -> bytes:
    from eth_utils.abi import function_abi_to_4byte_selector

    return bytes(function_abi_to_4byte_selector(entry))  # type: ignore[arg-type]


def _values(entry: dict[str, Any]) -> list[Any]:
    return [_value(item) for item in entry["inputs"]]


def _value(item: dict[str, Any]) -> Any:
    kind = item["type"]
    if kind.endswith("[]"):
        return [_value({**item, "type": kind[:-2]})] * 2
    if kind == "tuple":
        return tuple(_value(part) for part in item["components"])
    if kind == "address":
        return CONTRACT
    if kind == "bool":
        return True
    if kind == "string":
        return "bafkreiabc"
    if kind == "bytes":
        return b"\x05" * 65
    if kind.startswith("bytes"):
        return sha256(item["name"].encode()).digest()[: int(kind[5:])]
    return 1


_BLOCK = {
    "number": "0x10", "hash": _HASH, "parentHash": _HASH, "timestamp": "0x5", "baseFeePerGas": "0x7",
    "gasLimit": "0x1c9c380", "extraData": "0x" + "00" * 32, "transactions": [],
}  # fmt: skip
_LOG = {
    "address": CONTRACT, "topics": [], "data": "0x", "blockNumber": "0x1", "logIndex": "0x0",
    "transactionHash": _HASH, "transactionIndex": "0x0", "blockHash": _HASH, "removed": False,
}  # fmt: skip
_TRANSACTION = {
    "hash": _HASH, "nonce": "0x1", "blockHash": _HASH, "blockNumber": "0x1", "transactionIndex": "0x0",
    "from": CONTRACT, "to": CONTRACT, "value": "0x0", "gas": "0x5208", "gasPrice": "0x1", "input": "0x1234",
    "type": "0x2", "chainId": "0x539", "v": "0x0", "r": _HASH, "s": _HASH, "accessList": [],
}  # fmt: skip
_RECEIPT = {
    "transactionHash": _HASH, "blockNumber": "0x1", "blockHash": _HASH, "transactionIndex": "0x0", "gasUsed": "0x5208",
    "cumulativeGasUsed": "0x5208", "status": "0x1", "logs": [_LOG], "logsBloom": "0x" + "00" * 256, "from": CONTRACT,
    "to": CONTRACT, "contractAddress": None, "effectiveGasPrice": "0x1", "type": "0x2",
}  # fmt: skip
_NO = bytes.fromhex("08c379a0") + codec.encode(["string"], ["no"])
"""The revert bytes of `require(..., "no")`."""
_REFUSAL = json.dumps({
    "jsonrpc": "2.0", "id": 0,
    "error": {"code": 3, "message": "execution reverted", "data": "0x" + _NO.hex()},
}).encode()  # fmt: skip
_Ask = Callable[[SonarClient], object]
_ANSWERS: dict[str, tuple[Any, _Ask]] = {
    "block": (_BLOCK, lambda client: (client.now(), block_hash(client, 1))),
    "number": ("0x10", lambda client: (client.block_number(), client.balance(CONTRACT))),
    "campaign": ("0x" + "00" * 31 * 0 + "00" * 32 * 22, lambda client: client.campaign(CAMPAIGN)),
    "round": ("0x" + "00" * 32 * 8, lambda client: client.round(CAMPAIGN)),
    "owner": ("0x" + "00" * 12 + "11" * 20, lambda client: client.pending_owner(CAMPAIGN)),
    "token": ("0x" + "00" * 31 + "05", lambda client: Token(client, CONTRACT).balance(CONTRACT)),
    "committee": ("0x" + "00" * 31 + "20" + "00" * 32, lambda client: read_committee(client.web3, CONTRACT)),
    "receipt": (_RECEIPT, lambda client: client.receipt(bytes(32))),
    "transaction": (_TRANSACTION, lambda client: admission_signature(client, bytes(32))),
    "logs": ([_LOG], lambda client: EventCursor(client, 0)._logs(0, 5)),
}
