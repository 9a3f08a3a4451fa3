"""The JSON-RPC methods of the embedded chain: hexadecimal text outside, Python values inside, one caller at a time."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_utils.address import to_checksum_address

from sonar.chain._evm import CHAIN_ID, TIP, EmbeddedChain, Mined, Reverted, TransactionRefused

__all__ = ["Methods", "RpcError", "checksum"]

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
            "eth_getCode": lambda who, at="latest": _hex(self._state(at).get_code(_bytes(who, 20))),
            "eth_getStorageAt": self._storage,
            "eth_getTransactionCount": lambda who, at="latest": hex(self._state(at).get_nonce(_bytes(who, 20))),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": lambda raw: _hex(chain.send_raw(_bytes(raw))),
            "eth_sendTransaction": self._send,
            "eth_getTransactionByHash": lambda which: self._transaction(chain.mined(_bytes(which, 32))),
            "eth_getTransactionReceipt": lambda which: self._receipt(chain.mined(_bytes(which, 32))),
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
                raise RpcError(_CODE_REVERT, str(error), _hex(error.data)) from error
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
        return _hex(self.chain.call(*_call(call), self._at(at)))

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
            return self._header(self.chain.pending_header()) | {
                "hash": None, "nonce": None, "size": "0x0", "transactions": [], "uncles": [], "withdrawals": [],
            }  # fmt: skip
        number = 0 if at == "earliest" else self.chain.head.block_number if at in _LATEST else _number(at)
        found = self.chain.block(number)
        if found is None:
            return None
        block, mined = found
        transactions = [] if mined is None else [self._transaction(mined) if full else _hex(mined.transaction.hash)]
        return self._header(block.header) | {
            "size": hex(len(rlp.encode(block))), "transactions": transactions, "uncles": [], "withdrawals": [],
        }  # fmt: skip

    def _header(self, header: Any) -> dict[str, Any]:
        return {
            "number": hex(header.block_number),
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "nonce": _hex(header.nonce),
            "sha3Uncles": _hex(header.uncles_hash),
            "logsBloom": f"0x{header.bloom:0512x}",
            "transactionsRoot": _hex(header.transaction_root),
            "stateRoot": _hex(header.state_root),
            "receiptsRoot": _hex(header.receipt_root),
            "withdrawalsRoot": _hex(header.withdrawals_root),
            "miner": checksum(header.coinbase),
            "difficulty": hex(header.difficulty),
            "totalDifficulty": "0x0",
            "mixHash": _hex(header.mix_hash),
            "extraData": _hex(header.extra_data),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee_per_gas),
        }

    def _transaction(self, mined: Mined | None) -> dict[str, Any] | None:
        if mined is None:
            return None
        transaction = mined.transaction
        typed = getattr(transaction, "type_id", None)
        parity = transaction.y_parity
        fields: dict[str, Any] = {
            "hash": _hex(transaction.hash),
            "type": hex(typed or 0),
            "nonce": hex(transaction.nonce),
            "blockHash": _hex(mined.block.hash),
            "blockNumber": hex(mined.block.number),
            "transactionIndex": "0x0",
            "from": checksum(transaction.sender),
            "to": checksum(transaction.to) if transaction.to else None,
            "value": hex(transaction.value),
            "gas": hex(transaction.gas),
            "gasPrice": hex(self._paid_price(mined)),
            "input": _hex(transaction.data),
            "v": hex(parity if typed is not None else transaction.v),
            "r": hex(transaction.r),
            "s": hex(transaction.s),
        }
        if typed is not None:
            fields |= {"chainId": hex(CHAIN_ID), "accessList": [], "yParity": hex(parity)}
        if typed == 2:
            fields |= {
                "maxFeePerGas": hex(transaction.max_fee_per_gas),
                "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
            }
        return fields

    def _paid_price(self, mined: Mined) -> int:
        transaction, base = mined.transaction, mined.block.header.base_fee_per_gas or 0
        return int(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base))

    def _receipt(self, mined: Mined | None) -> dict[str, Any] | None:
        if mined is None:
            return None
        transaction = mined.transaction
        return {
            "transactionHash": _hex(transaction.hash),
            "transactionIndex": "0x0",
            "type": hex(getattr(transaction, "type_id", None) or 0),
            "blockHash": _hex(mined.block.hash),
            "blockNumber": hex(mined.block.number),
            "from": checksum(transaction.sender),
            "to": checksum(transaction.to) if transaction.to else None,
            "contractAddress": None if mined.contract is None else checksum(mined.contract),
            "cumulativeGasUsed": hex(mined.receipt.gas_used),
            "gasUsed": hex(mined.receipt.gas_used),
            "effectiveGasPrice": hex(self._paid_price(mined)),
            "logsBloom": f"0x{mined.receipt.bloom:0512x}",
            "status": hex(int(mined.receipt.state_root == b"\x01")),
            "logs": self._logs_of(mined),
        }

    def _logs_of(self, mined: Mined) -> list[dict[str, Any]]:
        return [
            {
                "address": checksum(log.address),
                "topics": [f"0x{topic:064x}" for topic in log.topics],
                "data": _hex(log.data),
                "blockNumber": hex(mined.block.number),
                "blockHash": _hex(mined.block.hash),
                "transactionHash": _hex(mined.transaction.hash),
                "transactionIndex": "0x0",
                "logIndex": hex(index),
                "removed": False,
            }
            for index, log in enumerate(mined.receipt.logs)
        ]

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
            for log in self._logs_of(mined)
            if _matches(log, addresses, topics)
        ]

    def _bound(self, at: Any) -> int:
        number = self._at(at)
        return self.chain.head.block_number if number is None else number

    # ---- writing

    def _send(self, call: Mapping[str, Any]) -> str:
        gas = call.get("gas")
        return _hex(self.chain.send(*_call(call), None if gas is None else _number(gas)))

    def _mine(self, timestamp: Any = None, *_ignored: Any) -> str:
        self.chain.mine_empty(None if timestamp is None else _number(timestamp))
        return "0x0"


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def checksum(data: bytes) -> str:
    """The EIP-55 form of an address."""
    return str(to_checksum_address(data))


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
