"""The chain that Brownie runs, spoken to through Brownie's own objects, because its coverage looks at nothing else."""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from brownie import accounts, project, web3
from brownie import chain as blocks
from brownie._config import CONFIG
from brownie.exceptions import TransactionError, VirtualMachineError
from brownie.network import state
from brownie.network.contract import ContractCall
from eth_utils import to_checksum_address

from chains.abi import Catalogue
from chains.base import Contract, Log, Reverted

__all__ = ["BrownieChain"]


class _Receipt:
    """A receipt that asks for the answer only when it is wanted: that takes a trace of the whole transaction."""

    def __init__(self, txid: str) -> None:
        self._txid = txid
        receipt = web3.eth.wait_for_transaction_receipt(txid)
        self.succeeded = receipt["status"] == 1
        self.gas_used = receipt["gasUsed"]
        self.logs = tuple(
            Log(to_checksum_address(log["address"]), tuple(bytes(topic) for topic in log["topics"]), bytes(log["data"]))
            for log in receipt["logs"]
        )

    @property
    def output(self) -> bytes:
        """The answer's bytes."""
        trace = _rpc("debug_traceTransaction", self._txid, {"enableMemory": True})["result"]
        if answer := trace.get("returnValue"):
            return bytes.fromhex(answer.removeprefix("0x"))
        last = trace["structLogs"][-1]
        if last["op"] != "RETURN":
            return b""
        size, offset = (int(word, 16) for word in last["stack"][-2:])
        return bytes.fromhex("".join(last["memory"]))[offset : offset + size]


@dataclass(slots=True)
class _Snapshot:
    """A snapshot of the node's, which has a new number each time it was gone back to."""

    number: int | str


class BrownieChain:
    """A chain as `chains.base.Chain` wants one."""

    def __init__(self) -> None:
        self.metered = not CONFIG.argv["coverage"]  # which runs code that was not optimized
        (self._project,) = project.get_loaded_projects()
        self.accounts = [account.address for account in accounts[:10]]
        self.chain_id = blocks.id
        self.catalogue = Catalogue(container.abi for container in self._project)
        self._is_anvil = "anvil" in web3.client_version.lower()
        if self._is_anvil:
            # Ganache was started so: blocks are a second apart, whatever the wall clock says.
            _rpc("anvil_setBlockTimestampInterval", 1)

    def deploy(self, contract: str, *arguments: Any, sender: str) -> Contract:
        """Deploys a contract of the project."""
        container = self._project[contract]
        try:
            deployed = accounts.at(sender).deploy(container, *arguments)
        except VirtualMachineError:
            code = container.deploy.encode_input(*arguments)
            self._fail({"from": sender, "data": "0x" + code.removeprefix("0x")})
        return Contract(self, contract, deployed.address, deployed.abi, _Receipt(deployed.tx.txid))

    def transact(self, sender: str, to: str, data: bytes = b"", value: int = 0, gas: int | None = None) -> _Receipt:
        """Sends a transaction."""
        request = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
        if gas is not None:
            request["gas"] = hex(gas)
        account = accounts.at(sender)
        try:
            txid = account.transfer(to, value, data=request["data"], gas_limit=gas, skip_undo=True).txid
        except VirtualMachineError:
            self._fail(request)
        except TransactionError as error:
            # After a restoring, a thread that Brownie left with an undone transaction may take this one, which has the
            # same nonce, for a dropped one. The node knows better.
            txid = str(error).split()[-1]
        receipt = _Receipt(txid)
        if not receipt.succeeded:
            self._fail(request)
        return receipt

    def call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        """Asks on the latest state."""
        self._show_to_coverage(to, data)
        return self._ask({"from": sender or self.accounts[0], "to": to, "data": "0x" + data.hex()})

    def balance(self, account: str | Contract) -> int:
        """Coin, in wei."""
        return int(web3.eth.get_balance(str(account)))

    def now(self) -> int:
        """The time of the latest block."""
        return int(blocks[-1].timestamp)

    def at(self, time: int) -> None:
        """Sets the next block's time."""
        now = self.now()
        assert time > now, f"{time} is not after {now}"
        # Not chain.mine: on Ganache it sets the wall clock, which the next block would ignore or overtake.
        if self._is_anvil:
            _rpc("evm_setNextBlockTimestamp", time)
        elif time > now + 1:
            _rpc("evm_mine", time - 1)

    def new_account(self) -> str:
        """An account with a random key."""
        return str(accounts.add().address)

    def snapshot(self) -> _Snapshot:
        """Remembers the state."""
        return _Snapshot(blocks._take_snapshot())

    def restore(self, snapshot: _Snapshot) -> None:
        """Goes back, and lets Brownie forget the transactions and contracts that are no more."""
        snapshot.number = blocks._revert(snapshot.number)

    def _fail(self, request: dict[str, Any]) -> NoReturn:
        """Raises what a failed transaction ended in: its block is the latest and changed nothing, so it fails again."""
        self._ask(request)
        raise AssertionError("a transaction failed that then succeeded as a call")

    def _ask(self, request: dict[str, Any]) -> bytes:
        answer = web3.provider.make_request("eth_call", [request, "latest"])
        if "error" not in answer:
            return bytes.fromhex(answer["result"][2:])
        raise Reverted(_revert_data(answer["error"]), self.catalogue)

    def _show_to_coverage(self, to: str, data: bytes) -> None:
        """Brownie's coverage sees a view only as a transaction, which its own call makes and takes back."""
        if not CONFIG.argv["always_transact"]:
            return
        view = state._find_contract(to).get_method_object("0x" + data.hex())
        if isinstance(view, ContractCall):
            with suppress(VirtualMachineError):  # the call itself comes next, and tells
                view(*view.decode_input("0x" + data.hex()))


def _rpc(method: str, *parameters: Any) -> dict[str, Any]:
    answer = web3.provider.make_request(method, list(parameters))
    assert "error" not in answer, answer
    return answer


def _revert_data(error: dict[str, Any]) -> bytes:
    assert re.search(r"revert|out ?of ?gas", error["message"], re.IGNORECASE), error
    return bytes.fromhex(error.get("data", "0x").removeprefix("0x"))
