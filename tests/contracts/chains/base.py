"""What the contract tests ask of a chain, whichever it is, and contracts that are spoken to through one.

    sonar = chain.deploy("Sonar", sender=owner)        # its receipt: sonar.deployment
    receipt = sonar.close(campaign, sender=owner)      # a transaction: receipt.events, .return_value, .gas_used
    sonar.getCampaign(campaign)["score"]               # a view: Python values
    sonar.close.encode(campaign)                       # the data, to be sent through another contract

Structs are dicts by field name, addresses are checksummed strings, bytes are bytes; a contract stands for its address.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from chains.abi import Catalogue, Function

__all__ = ["Chain", "Contract", "ContractReceipt", "Log", "Method", "Receipt", "Reverted"]


class Reverted(Exception):
    """A transaction or a call ended in a revert with `data`, or ran out of gas (no data)."""

    def __init__(self, data: bytes, catalogue: Catalogue) -> None:
        self.data = data
        self.error = catalogue.error(data)
        name, arguments = self.error
        super().__init__(f"{name or 'no known error'}{arguments}")


@dataclass(frozen=True, slots=True)
class Log:
    """An event as a transaction left it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a transaction; `gas_used` is what a network would charge only where `Chain.metered` says so."""

    gas_used: int
    output: bytes
    logs: tuple[Log, ...]


class ContractReceipt:
    """What came of a deployment or a known function, with names to it. Decodes only what is asked for."""

    def __init__(self, receipt: Receipt, function: Function | None, catalogue: Catalogue) -> None:
        self.receipt = receipt
        self.gas_used = receipt.gas_used
        self.logs = receipt.logs
        self._function = function
        self._catalogue = catalogue

    @property
    def output(self) -> bytes:
        """The answer's bytes."""
        return self.receipt.output

    @property
    def return_value(self) -> Any:
        """The answer; of a deployment there is none."""
        return self._function.decode(self.output) if self._function else None

    @cached_property
    def events(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The events of all known contracts, by name."""
        return self._catalogue.events((log.topics, log.data) for log in self.logs)


class Chain(Protocol):
    """A chain of one's own: every transaction is a block, failed ones too, a second after the one before; gas is free.

    Calls see the latest block's time. Accounts are checksummed addresses, for which the chain itself signs.
    """

    accounts: Sequence[str]
    """Ten, with plenty of coin."""
    chain_id: int
    catalogue: Catalogue
    metered: bool
    """Whether `gas_used` is what a network would charge."""

    def deploy(self, contract: str, *arguments: Any, sender: str) -> "Contract":
        """Deploys one of the project's contracts, by name."""

    def transact(self, sender: str, to: str, data: bytes = b"", value: int = 0, gas: int | None = None) -> Receipt:
        """Sends a transaction; raises Reverted."""

    def call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        """Asks on the latest state; raises Reverted."""

    def balance(self, account: "str | Contract") -> int:
        """Coin that an account holds, in wei."""

    def now(self) -> int:
        """The time of the latest block."""

    def at(self, time: int) -> None:
        """The next transaction's block has exactly this time, which is after now."""

    def new_account(self) -> str:
        """A further account, without coin."""

    def snapshot(self) -> object:
        """The present state and time, for `restore`."""

    def restore(self, snapshot: object) -> None:
        """Goes back; the snapshot serves again, later ones do not. A time set by `at` is forgotten."""


class Contract:
    """A deployed contract: its functions are attributes."""

    def __init__(
        self, chain: Chain, name: str, address: str, abi: Sequence[Mapping[str, Any]], receipt: Receipt
    ) -> None:
        self.chain = chain
        self.deployment = ContractReceipt(receipt, None, chain.catalogue)
        self.name = name
        self.address = address
        self._functions = {entry["name"]: Function(entry) for entry in abi if entry["type"] == "function"}

    def __getattr__(self, name: str) -> "Method":
        try:
            function = self.__dict__["_functions"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name', 'a contract')} has no function {name}") from None
        method = self.__dict__[name] = Method(self, function)
        return method

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"<{self.name} at {self.address}>"


class Method:
    """A function of a deployed contract."""

    def __init__(self, contract: Contract, function: Function) -> None:
        self._contract = contract
        self._function = function
        self.encode: Callable[..., bytes] = lambda *arguments: function.encode(arguments)

    def __call__(self, *arguments: Any, sender: str | None = None, value: int = 0, gas: int | None = None) -> Any:
        """A view's answer, or the receipt of a transaction, which needs a sender."""
        contract, data = self._contract, self._function.encode(arguments)
        chain = contract.chain
        if self._function.reads_only:
            return self._function.decode(chain.call(contract.address, data, sender))
        if sender is None:
            raise TypeError(f"{self._function.name} changes state: it needs a sender")
        receipt = chain.transact(sender, contract.address, data, value, gas)
        return ContractReceipt(receipt, self._function, chain.catalogue)
