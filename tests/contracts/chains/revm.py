"""revm in this process (PyPI `pyrevm`): some microseconds a transaction.

pyrevm keeps one transaction open for ever: storage is warm once it was touched, so `gas_used` is below what a network
charges. In all else that contracts can see, each transaction stands for itself.
"""

import re
from dataclasses import dataclass
from typing import Any

from eth_utils import to_checksum_address
from pyrevm import EVM, BlockEnv, CfgEnv, Env, JournalCheckpoint

from chains.abi import Catalogue, constructor_data
from chains.accounts import account_address
from chains.artifacts import Artifact
from chains.base import Contract, Log, Receipt, Reverted

__all__ = ["RevmChain"]

# pyrevm takes a name that it does not know, "Paris" too, for its newest rules.
_RULES = "Merge"
_GAS_LIMIT = 30_000_000
_PLENTY = 10**30
_GENESIS = 1_750_000_000
_ENDED = re.compile(r"(?:Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}|Halt \{ .* \})", re.DOTALL)


@dataclass(slots=True)
class _Snapshot:
    """A place in the journal, which needs a new mark each time it is gone back to, and the block."""

    mark: JournalCheckpoint
    number: int
    time: int
    accounts: int


class RevmChain:
    """A chain as `chains.base.Chain` wants one."""

    metered = False

    def __init__(self, artifacts: dict[str, Artifact], *, chain_id: int = 31_337) -> None:
        self.chain_id = chain_id
        self.catalogue = Catalogue(artifact.abi for artifact in artifacts.values())
        self._artifacts = artifacts
        self._evm = EVM(env=Env(cfg=CfgEnv(chain_id=chain_id)), gas_limit=_GAS_LIMIT, spec_id=_RULES)
        self._number, self._time = 0, _GENESIS
        self._next_time: int | None = None
        self._made = 0
        self.accounts = [self.new_account() for _ in range(10)]
        for account in self.accounts:
            self._evm.set_balance(account, _PLENTY)

    def deploy(self, contract: str, *arguments: Any, sender: str) -> Contract:
        """Deploys a contract of the project."""
        artifact = self._artifacts[contract]
        code = artifact.bytecode + constructor_data(artifact.abi, arguments)
        self._begin_block()
        try:
            address = self._evm.deploy(sender, code)
        except RuntimeError as error:
            raise self._reverted(error) from None
        return Contract(self, contract, to_checksum_address(address), artifact.abi, self._receipt(b""))

    def transact(self, sender: str, to: str, data: bytes = b"", value: int = 0, gas: int | None = None) -> Receipt:
        """Sends a transaction in a block of its own."""
        self._begin_block()
        return self._receipt(self._run(sender, to, data, value, gas))

    def call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        """Asks on the latest state, in the latest block, and forgets what the call did."""
        before = self._mark()
        try:
            return self._run(sender or self.accounts[0], to, data, 0, None)
        finally:
            self._undo(before)

    def balance(self, account: str | Contract) -> int:
        """Coin, in wei."""
        return int(self._evm.get_balance(str(account)))

    def now(self) -> int:
        """The time of the latest block."""
        return self._time

    def at(self, time: int) -> None:
        """Sets the next block's time."""
        assert time > self._time, f"{time} is not after {self._time}"
        self._next_time = time

    def new_account(self) -> str:
        """Nobody signs here: any address can send."""
        self._made += 1
        return account_address(self._made)

    def snapshot(self) -> _Snapshot:
        """Marks a place in the journal."""
        return _Snapshot(self._mark(), self._number, self._time, self._made)

    def restore(self, snapshot: _Snapshot) -> None:
        """Undoes the journal down to the mark."""
        self._undo(snapshot.mark)
        snapshot.mark = self._mark()
        self._number, self._time, self._made, self._next_time = snapshot.number, snapshot.time, snapshot.accounts, None
        self._set_block()

    def _mark(self) -> JournalCheckpoint:
        mark = self._evm.snapshot()
        self._evm.commit()  # keeps the mark, and leaves the level of the call stack that it stood for
        return mark

    def _undo(self, mark: JournalCheckpoint) -> None:
        self._evm.snapshot()  # the level of the call stack that `revert` leaves
        self._evm.revert(mark)

    def _begin_block(self) -> None:
        self._number += 1
        self._time = self._next_time or self._time + 1
        self._next_time = None
        self._set_block()

    def _set_block(self) -> None:
        self._evm.set_block_env(
            BlockEnv(number=self._number, timestamp=self._time, prevrandao=bytes(32), gas_limit=_GAS_LIMIT)
        )

    def _run(self, sender: str, to: str, data: bytes, value: int, gas: int | None) -> bytes:
        try:
            return bytes(self._evm.message_call(sender, to, data, value, gas))
        except RuntimeError as error:
            raise self._reverted(error) from None

    def _receipt(self, output: bytes) -> Receipt:
        result = self._evm.result
        logs = tuple(
            Log(to_checksum_address(log.address), tuple(bytes.fromhex(topic[2:]) for topic in log.topics), log.data[1])
            for log in result.logs
        )
        return Receipt(result.gas_used, output, logs)

    def _reverted(self, error: RuntimeError) -> Exception:
        """pyrevm tells the revert's bytes in words only; whatever else it says is the test's own mistake."""
        ended = _ENDED.fullmatch(str(error))
        return Reverted(bytes.fromhex(ended[1] or ""), self.catalogue) if ended else error
