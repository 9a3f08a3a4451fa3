"""eth-tester in this process, on py-evm: the reference EVM in Python, slow, with a network's own gas."""

from dataclasses import dataclass
from typing import Any

from eth.exceptions import Revert
from eth.vm.forks.paris import ParisVM
from eth.vm.spoof import SpoofTransaction
from eth_tester import PyEVMBackend
from eth_utils import to_canonical_address, to_checksum_address

from chains.abi import Catalogue, constructor_data
from chains.accounts import account_address, account_key
from chains.artifacts import Artifact
from chains.base import Contract, Log, Receipt, Reverted

__all__ = ["EthTesterChain"]

_GAS_LIMIT = 30_000_000
_PLENTY = 10**30
_GENESIS = 1_750_000_000


class _FreeParisVM(ParisVM):
    """Paris rules with gas for nothing, so that balances change by what the contracts do."""

    @staticmethod
    def create_header_from_parent(parent_header: Any, **fields: Any) -> Any:
        return ParisVM.create_header_from_parent(parent_header, **fields).copy(base_fee_per_gas=0)

    @classmethod
    def validate_header(cls, header: Any, parent_header: Any) -> None:
        """Nothing to check: this process made the header, and its base fee is wrong on purpose."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    block: Any
    accounts: int


class EthTesterChain:
    """A chain as `chains.base.Chain` wants one."""

    metered = True

    def __init__(self, artifacts: dict[str, Artifact]) -> None:
        self.catalogue = Catalogue(artifact.abi for artifact in artifacts.values())
        self._artifacts = artifacts
        self._numbers: dict[str, int] = {}
        self._made = 0
        self.accounts = [self.new_account() for _ in range(10)]
        account = {"balance": _PLENTY, "nonce": 0, "code": b"", "storage": {}}
        self._backend = PyEVMBackend(
            genesis_parameters=PyEVMBackend.generate_genesis_params({"timestamp": _GENESIS, "gas_limit": _GAS_LIMIT}),
            genesis_state={to_canonical_address(address): account for address in self.accounts},
            vm_configuration=((0, _FreeParisVM),),
        )
        self.chain_id: int = self._backend.chain.chain_id

    def deploy(self, contract: str, *arguments: Any, sender: str) -> Contract:
        """Deploys a contract of the project."""
        artifact = self._artifacts[contract]
        code = artifact.bytecode + constructor_data(artifact.abi, arguments)
        computation, receipt = self._send(sender, b"", code, 0, None)
        address = to_checksum_address(computation.msg.storage_address)
        return Contract(self, contract, address, artifact.abi, _receipt(receipt, b""))

    def transact(self, sender: str, to: str, data: bytes = b"", value: int = 0, gas: int | None = None) -> Receipt:
        """Signs a transaction and mines it in a block of its own."""
        computation, receipt = self._send(sender, to_canonical_address(to), data, value, gas)
        return _receipt(receipt, bytes(computation.output))

    def call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        """Asks on the latest state, in the latest block."""
        chain, caller = self._backend.chain, to_canonical_address(sender or self.accounts[0])
        state = chain.get_vm(chain.get_canonical_head()).state
        unsigned = chain.get_transaction_builder().create_unsigned_transaction(
            nonce=state.get_nonce(caller), gas_price=0, gas=_GAS_LIMIT, to=to_canonical_address(to), value=0, data=data
        )
        return self._output(state.apply_transaction(SpoofTransaction(unsigned, from_=caller)))

    def balance(self, account: str | Contract) -> int:
        """Coin, in wei."""
        return int(self._backend.get_balance(to_canonical_address(str(account))))

    def now(self) -> int:
        """The time of the latest block."""
        return int(self._backend.chain.get_canonical_head().timestamp)

    def at(self, time: int) -> None:
        """Sets the next block's time."""
        assert time > self.now(), f"{time} is not after {self.now()}"
        chain = self._backend.chain
        chain.header = chain.header.copy(timestamp=time)

    def new_account(self) -> str:
        """An account with a key."""
        self._made += 1
        address = account_address(self._made)
        self._numbers[address] = self._made
        return address

    def snapshot(self) -> _Snapshot:
        """Remembers the latest block."""
        return _Snapshot(self._backend.take_snapshot(), self._made)

    def restore(self, snapshot: _Snapshot) -> None:
        """Makes a block the latest one again."""
        self._backend.revert_to_snapshot(snapshot.block)
        self._made = snapshot.accounts

    def _send(self, sender: str, to: bytes, data: bytes, value: int, gas: int | None) -> tuple[Any, Any]:
        chain = self._backend.chain
        signed = (
            chain.get_transaction_builder()
            .create_unsigned_transaction(
                nonce=chain.get_vm().state.get_nonce(to_canonical_address(sender)),
                gas_price=0,
                gas=gas or _GAS_LIMIT,
                to=to,
                value=value,
                data=data,
            )
            .as_signed_transaction(account_key(self._numbers[sender]), chain_id=chain.chain_id)
        )
        _, receipt, computation = chain.apply_transaction(signed)
        chain.mine_block()
        self._output(computation)
        return computation, receipt

    def _output(self, computation: Any) -> bytes:
        if computation.is_success:
            return bytes(computation.output)
        data = computation.output if isinstance(computation.error, Revert) else b""
        raise Reverted(bytes(data), self.catalogue)


def _receipt(receipt: Any, output: bytes) -> Receipt:
    logs = tuple(
        Log(to_checksum_address(log.address), tuple(topic.to_bytes(32, "big") for topic in log.topics), log.data)
        for log in receipt.logs
    )
    # A block of its own: what the block used is what the transaction used.
    return Receipt(receipt.gas_used, output, logs)
