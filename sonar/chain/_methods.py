"""The JSON-RPC methods of the embedded chain: hexadecimal text outside, Python values inside, one caller at a time."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import rlp  # type: ignore[import-untyped]

from sonar.chain._evm import CHAIN_ID, TIP, EmbeddedChain, Mined, Reverted, TransactionRefused
from sonar.chain._rendering import checksum, header_json, hexed, logs_json, receipt_json, transaction_json

__all__ = ["Methods", "RpcError"]

_LATEST = ("latest", "pending", "safe", "finalized")
_NO_ADDRESS = bytes(20)
_CODE_REVERT, _CODE_REFUSED, _CODE_METHOD, _CODE_PARAMETERS, _CODE_INTERNAL = 3, -32000, -32601, -32602, -32603


class RpcError(Exception):
    """What a caller is told; `body` is the JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message} | ({} if data is None else {"data": data})


class Methods:
    """The JSON-RPC methods over one chain; one at a time, because the EVM is not safe for threads."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self.chain = chain
        self._lock = threading.Lock()
        self._table: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "Sonar embedded chain/py-evm",
            "net_version": lambda: str(CHAIN_ID),
            "net_listening": lambda: True,
            "eth_chainId": lambda: hex(CHAIN_ID),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [checksum(account) for account in chain.accounts],
            "eth_blockNumber": lambda: hex(chain.head.block_number),
            "eth_gasPrice": lambda: hex(chain.base_fee + TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda who, at="latest": hex(self._state(at).get_balance(_bytes(who, 20))),
            "eth_getCode": lambda who, at="latest": hexed(self._state(at).get_code(_bytes(who, 20))),
            "eth_getStorageAt": self._storage,
            "eth_getTransactionCount": lambda who, at="latest": hex(self._state(at).get_nonce(_bytes(who, 20))),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": lambda raw: hexed(chain.send_raw(_bytes(raw))),
            "eth_sendTransaction": self._send,
            "eth_getTransactionByHash": lambda which: transaction_json(chain.mined(_bytes(which, 32))),
            "eth_getTransactionReceipt": lambda which: receipt_json(chain.mined(_bytes(which, 32))),
            "eth_getBlockByNumber": lambda at, full=False: self._block(at, full),
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
            "evm_increaseTime": lambda seconds: chain.advance_time(_number(seconds)),
            "evm_mine": self._mine,
        }

    def __call__(self, request: Any) -> Any:
        """The result of one request; raises RpcError and nothing else."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise RpcError(-32600, "not a JSON-RPC request")
        name, parameters = request["method"], request.get("params") or []
        method = self._table.get(name)
        if method is None:
            raise RpcError(_CODE_METHOD, f"the method {name[:100]} does not exist")
        with self._lock:
            try:
                if name != "evm_mine":  # which makes one block, and no other before it
                    self.chain.keep_time()
                return method(*parameters)
            except Reverted as error:
                if error.data is None:
                    raise RpcError(_CODE_REFUSED, str(error)) from error
                raise RpcError(_CODE_REVERT, str(error), hexed(error.data)) from error
            except RpcError:
                raise
            except TransactionRefused as error:
                raise RpcError(_CODE_REFUSED, str(error)) from error
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise RpcError(_CODE_PARAMETERS, f"{name}: {type(error).__name__}: {error}"[:300]) from error
            except Exception as error:  # py-evm has many roots; the caller gets an answer, not a cut line
                raise RpcError(_CODE_INTERNAL, f"{name}: {type(error).__name__}: {error}"[:300]) from error

    # ---- reading

    def _at(self, at: Any) -> int | None:
        """A block number, or None for the block that is being made."""
        if at in _LATEST:
            return None
        number = 0 if at == "earliest" else _number(at)
        if not 0 <= number <= self.chain.head.block_number:
            raise RpcError(_CODE_REFUSED, f"block {number} does not exist")
        return number

    def _state(self, at: Any) -> Any:
        return self.chain.state(self._at(at))

    def _storage(self, who: str, slot: Any, at: Any = "latest") -> str:
        return f"0x{self._state(at).get_storage(_bytes(who, 20), _number(slot)):064x}"

    def _call(self, call: Mapping[str, Any], at: Any = "latest", *_overrides: Any) -> str:
        return hexed(self.chain.call(*_call(call), self._at(at)))

    def _estimate(self, call: Mapping[str, Any], _at: Any = "latest", *_overrides: Any) -> str:
        return hex(self.chain.estimate(*_call(call)))

    def _fee_history(self, count: Any, newest: Any = "latest", _percentiles: Any = ()) -> dict[str, Any]:
        last = self._at(newest)
        last = self.chain.head.block_number if last is None else last
        first = max(0, last + 1 - min(_number(count), 1024))
        headers = [block.header for number in range(first, last + 1) if (block := self._found(number)[0])]
        fees = [hex(header.base_fee_per_gas) for header in headers]
        return {
            "oldestBlock": hex(first),
            "baseFeePerGas": [*fees, hex(self.chain.base_fee)],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        }

    def _found(self, number: int) -> tuple[Any, Mined | None]:
        found = self.chain.block(number)
        if found is None:
            raise RpcError(_CODE_REFUSED, f"block {number} does not exist")
        return found

    def _block_by_hash(self, which: str, full: bool = False) -> dict[str, Any] | None:
        number = self.chain.number_of(_bytes(which, 32))
        return None if number is None else self._block(hex(number), full)

    def _block(self, at: Any, full: bool) -> dict[str, Any] | None:
        if at == "pending":
            return header_json(self.chain.pending_header()) | {
                "hash": None, "nonce": None, "size": "0x0", "transactions": [], "uncles": [], "withdrawals": [],
            }  # fmt: skip
        number = 0 if at == "earliest" else self.chain.head.block_number if at in _LATEST else _number(at)
        found = self.chain.block(number)
        if found is None:
            return None
        block, mined = found
        transactions = [] if mined is None else [transaction_json(mined) if full else hexed(mined.transaction.hash)]
        return header_json(block.header) | {
            "size": hex(len(rlp.encode(block))), "transactions": transactions, "uncles": [], "withdrawals": [],
        }  # fmt: skip

    def _logs(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in wanted:
            number = self.chain.number_of(_bytes(wanted["blockHash"], 32))
            if number is None:
                raise RpcError(_CODE_REFUSED, f"block {wanted['blockHash']} does not exist")
            first = last = number
        else:
            first, last = (self._bound(wanted.get(key, "latest")) for key in ("fromBlock", "toBlock"))
        addresses = _choices(wanted.get("address"), 20)
        topics = [_choices(choice, 32) for choice in wanted.get("topics") or []]
        return [
            log
            for number in range(first, last + 1)
            if (mined := self._found(number)[1]) is not None
            for log in logs_json(mined)
            if _matches(log, addresses, topics)
        ]

    def _bound(self, at: Any) -> int:
        number = self._at(at)
        return self.chain.head.block_number if number is None else number

    # ---- writing

    def _send(self, call: Mapping[str, Any]) -> str:
        gas = call.get("gas")
        return hexed(self.chain.send(*_call(call), None if gas is None else _number(gas)))

    def _mine(self, timestamp: Any = None, *_ignored: Any) -> str:
        self.chain.mine_empty(None if timestamp is None else _number(timestamp))
        return "0x0"


def _bytes(text: Any, length: int | None = None) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("expected 0x and hexadecimal digits")
    data = bytes.fromhex(text[2:])
    if length is not None and len(data) != length:
        raise ValueError(f"expected {length} bytes, not {len(data)}")
    return data


def _number(value: Any) -> int:
    if isinstance(value, int):
        return value
    return int(str(value), 0)


def _call(call: Mapping[str, Any]) -> tuple[bytes, bytes, int, bytes]:
    """(sender, to, value, data) of a call object; no receiver means a deployment."""
    to = call.get("to")
    return (
        _bytes(call["from"], 20) if call.get("from") else _NO_ADDRESS,
        _bytes(to, 20) if to else b"",
        _number(call.get("value", 0)),
        _bytes(call.get("data") or call.get("input") or "0x"),
    )


def _choices(wanted: Any, length: int) -> set[bytes] | None:
    """The values that a filter accepts at one place; None: any."""
    if wanted is None:
        return None
    return {_bytes(item, length) for item in (wanted if isinstance(wanted, list) else [wanted])}


def _matches(log: Mapping[str, Any], addresses: set[bytes] | None, topics: list[set[bytes] | None]) -> bool:
    if addresses is not None and bytes.fromhex(log["address"][2:]) not in addresses:
        return False
    found = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    return len(found) >= len(topics) and all(
        choice is None or topic in choice for choice, topic in zip(topics, found, strict=False)
    )
