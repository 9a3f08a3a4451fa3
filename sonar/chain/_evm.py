"""A development chain inside this process, on py-evm: mines each transaction at once, in blocks that follow the clock.

Knows nothing of HTTP and JSON: takes and gives Python values. Not safe for threads; the server holds a lock.
"""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, ReceiptAPI
from eth.chains.base import MiningChain
from eth.constants import POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
from eth.db import get_db_backend
from eth.exceptions import Revert
from eth.vm.forks.shanghai import ShanghaiVM
from eth.vm.spoof import SpoofTransaction
from eth_keys.datatypes import PrivateKey
from eth_typing import BlockNumber
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

__all__ = ["CHAIN_ID", "EmbeddedChain", "Mined", "Reverted", "TransactionRefused"]

# Importing py-evm raises the limit to 12,288 for the whole process, where nested JSON overflows a thread's stack and
# kills it. Contracts that call one another a thousand deep are not what this chain is for.
sys.setrecursionlimit(3_000)

CHAIN_ID = 131277322940537
GAS_LIMIT = 30_000_000
TIP = 10**9
_DEV_BALANCE = 10**24


class TransactionRefused(Exception):
    """The transaction cannot be taken: nonce, funds, gas or signature."""


class Reverted(Exception):
    """A call or estimate ended in a revert with `data`, or otherwise (`data` None)."""

    def __init__(self, data: bytes | None, problem: str) -> None:
        super().__init__(problem)
        self.data = data


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction with the block, the receipt and the gas that it came to."""

    transaction: Any
    block: BlockAPI
    receipt: ReceiptAPI
    contract: bytes | None


class _DevelopmentVM(ShanghaiVM):
    """Shanghai rules, but several blocks may fall into one second, so that the chain's clock stays the real one."""

    @classmethod
    def validate_header(cls, header: BlockHeaderAPI, parent_header: BlockHeaderAPI) -> None:
        """Nothing to check: this process made the header itself."""


class _DevelopmentChain(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration = ((BlockNumber(0), _DevelopmentVM),)

    def create_header_from_parent(self, parent_header: BlockHeaderAPI, **header_params: Any) -> BlockHeaderAPI:
        return super().create_header_from_parent(parent_header, **{"gas_limit": GAS_LIMIT, **header_params})


class EmbeddedChain:
    """One chain with `accounts` funded development accounts, whose random keys never leave this object."""

    def __init__(self, accounts: int = 10, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        keys = [PrivateKey(secrets.token_bytes(32)) for _ in range(accounts)]
        self._keys = {key.public_key.to_canonical_address(): key for key in keys}
        self._ahead = 0
        state: Any = {
            address: {"balance": _DEV_BALANCE, "storage": {}, "code": b"", "nonce": 0} for address in self._keys
        }
        genesis: Any = {
            "difficulty": POST_MERGE_DIFFICULTY,
            "mix_hash": POST_MERGE_MIX_HASH,
            "nonce": POST_MERGE_NONCE,
            "gas_limit": GAS_LIMIT,
            "timestamp": int(clock()),
        }
        # Any, because py-evm's interfaces type addresses, hashes and headers more narrowly than it needs them.
        self._chain: Any = _DevelopmentChain.from_genesis(get_db_backend(), genesis, state)
        self._blocks: list[tuple[BlockAPI, Mined | None]] = [(self._chain.get_block_by_header(self.head), None)]
        self._mined: dict[bytes, Mined] = {}
        self._numbers: dict[bytes, int] = {bytes(self.head.hash): 0}

    # ---- what was mined

    @property
    def head(self) -> BlockHeaderAPI:
        """The latest block's header."""
        head: BlockHeaderAPI = self._chain.get_canonical_head()
        return head

    @property
    def accounts(self) -> list[bytes]:
        """The development accounts, for which `send` signs."""
        return list(self._keys)

    def block(self, number: int) -> tuple[BlockAPI, Mined | None] | None:
        """A block and its transaction, if it has one."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def number_of(self, block: bytes) -> int | None:
        """The number of the block with this hash."""
        return self._numbers.get(block)

    def mined(self, transaction: bytes) -> Mined | None:
        """A mined transaction by its hash."""
        return self._mined.get(transaction)

    # ---- time and mining

    def advance_time(self, seconds: int) -> int:
        """Sets the chain's clock ahead; returns by how much it is ahead of the real one."""
        self._ahead += max(0, seconds)
        return self._ahead

    def pending_header(self) -> BlockHeaderAPI:
        """The header of a block made now."""
        parent = self.head
        now = max(parent.timestamp, int(self._clock()) + self._ahead)
        header: BlockHeaderAPI = self._chain.create_header_from_parent(parent, timestamp=now)
        return header

    def keep_time(self) -> None:
        """Adds an empty block if the clock has moved on, as a real chain does while nobody sends anything."""
        if self.pending_header().timestamp > self.head.timestamp:
            self.mine_empty()

    def mine_empty(self, timestamp: int | None = None) -> None:
        """Adds a block without transactions."""
        header = self.pending_header()
        self._chain.header = header if timestamp is None else header.copy(timestamp=max(header.timestamp, timestamp))
        self._add(self._chain.mine_block(mix_hash=secrets.token_bytes(32)), None)

    def send_raw(self, raw: bytes) -> bytes:
        """Mines a signed transaction in its own block and returns its hash; raises TransactionRefused."""
        header = self.pending_header()
        builder = self._chain.get_vm(header).get_transaction_builder()
        try:
            transaction = builder.decode(raw)
        except Exception as error:  # rlp, eth_utils and py-evm each have their own roots for bad bytes
            raise TransactionRefused(f"not a signed transaction: {type(error).__name__}") from error
        if transaction.chain_id not in (None, CHAIN_ID):
            raise TransactionRefused(f"the transaction is signed for chain {transaction.chain_id}, this is {CHAIN_ID}")
        return self._mine(transaction, header)

    def send(self, sender: bytes, to: bytes, value: int, data: bytes, gas: int | None) -> bytes:
        """Signs for a development account and mines; raises TransactionRefused, or Reverted if the estimate does."""
        key = self._keys.get(sender)
        if key is None:
            raise TransactionRefused(f"0x{sender.hex()} is not one of this chain's development accounts")
        limit = gas if gas is not None else min(GAS_LIMIT, self.estimate(sender, to, value, data) * 5 // 4)
        header = self.pending_header()
        vm = self._chain.get_vm(header)
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=vm.state.get_nonce(sender),
            max_priority_fee_per_gas=TIP,
            max_fee_per_gas=2 * self.base_fee + TIP,
            gas=limit,
            to=to,
            value=value,
            data=data,
            access_list=(),
        )
        return self._mine(unsigned.as_signed_transaction(key), header)

    # ---- state and calls

    @property
    def base_fee(self) -> int:
        """The base fee of the block that is being made, in wei per gas."""
        return int(self.pending_header().base_fee_per_gas or 0)

    def state(self, number: int | None = None) -> Any:
        """The state after a block; the latest for None."""
        header = self.pending_header() if number is None else self._blocks[number][0].header
        return self._chain.get_vm(header).state

    def call(self, sender: bytes, to: bytes, value: int, data: bytes, number: int | None = None) -> bytes:
        """What a call returns, in a block made now (None) or on the state after an old block; raises Reverted."""
        computation = self._try(sender, to, value, data, GAS_LIMIT, number)
        return bytes(computation.output)

    def estimate(self, sender: bytes, to: bytes, value: int, data: bytes) -> int:
        """Gas with which the transaction succeeds now; raises Reverted if it does not at any."""
        used = self._intrinsic(to, data) + self._try(sender, to, value, data, GAS_LIMIT).get_gas_used()
        # A sub-call gets at most 63/64 of what is left, so what was used may be a little short of what is needed.
        for limit in (used, used * 65 // 64 + 2_500, used * 5 // 4, used * 2):
            try:
                self._try(sender, to, value, data, min(limit, GAS_LIMIT))
            except (Reverted, TransactionRefused):
                continue
            return min(limit, GAS_LIMIT)
        return GAS_LIMIT

    def _intrinsic(self, to: bytes, data: bytes) -> int:
        """The gas that the transaction costs before its first instruction."""
        builder = self._chain.get_vm(self.head).get_transaction_builder()
        empty = builder.create_unsigned_transaction(nonce=0, gas_price=0, gas=GAS_LIMIT, to=to, value=0, data=data)
        return int(empty.intrinsic_gas)

    def _try(
        self, sender: bytes, to: bytes, value: int, data: bytes, gas: int, number: int | None = None
    ) -> ComputationAPI:
        with self._free_state(number) as state:
            builder = self._chain.get_vm(self.head).get_transaction_builder()
            transaction = builder.create_unsigned_transaction(
                nonce=state.get_nonce(sender), gas_price=0, gas=gas, to=to, value=value, data=data
            )
            try:
                computation: ComputationAPI = state.apply_transaction(SpoofTransaction(transaction, from_=sender))
            except ValidationError as error:
                raise TransactionRefused(_refusal(error)) from error
        if computation.is_error:
            if isinstance(computation.error, Revert):
                raise Reverted(bytes(computation.output), "execution reverted")
            raise Reverted(None, f"execution failed: {type(computation.error).__name__}")
        return computation

    @contextmanager
    def _free_state(self, number: int | None) -> Iterator[Any]:
        """A state that may be changed, with gas for nothing, and that nobody sees again."""
        header = self.pending_header() if number is None else self._blocks[number][0].header
        vm = self._chain.get_vm(header)
        yield vm.build_state(
            self._chain.chaindb.db, header.copy(base_fee_per_gas=0), vm.chain_context, vm.previous_hashes
        )

    def _mine(self, transaction: Any, header: BlockHeaderAPI) -> bytes:
        if transaction.hash in self._mined:
            raise TransactionRefused("already known")
        self._chain.header = header
        try:
            _, receipt, _ = self._chain.apply_transaction(transaction)
        except ValidationError as error:
            raise TransactionRefused(_refusal(error)) from error
        block = self._chain.mine_block(mix_hash=secrets.token_bytes(32))
        mined = Mined(transaction, block, receipt, None if transaction.to else _created(transaction))
        self._mined[transaction.hash] = mined
        self._add(block, mined)
        return bytes(transaction.hash)

    def _add(self, block: BlockAPI, mined: Mined | None) -> None:
        self._numbers[bytes(block.hash)] = len(self._blocks)
        self._blocks.append((block, mined))


def _created(transaction: Any) -> bytes:
    return keccak(rlp.encode([transaction.sender, transaction.nonce]))[-20:]


def _refusal(error: ValidationError) -> str:
    """py-evm's reason in the words that other nodes use and clients look for."""
    text = str(error)
    found = text.lower()
    if "nonce" in found:
        numbers = [int(word.strip(",.")) for word in text.split() if word.strip(",.").isdigit()]
        low = len(numbers) == 2 and numbers[1] < numbers[0]
        return f"nonce too {'low' if low else 'high'}: {text}"
    if "balance" in found or "funds" in found or "afford" in found:
        return f"insufficient funds for gas * price + value: {text}"
    return text
