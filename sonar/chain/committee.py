"""Committees of Capsules on chain: deployed from the package's own bytecode, and read from code that is checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import BadFunctionCallOutput

from sonar.chain import bytecode
from sonar.chain._artifact import artifact
from sonar.chain._rpc import connect_web3, rpc
from sonar.chain.deploy import deploy, verify_deployment
from sonar.chain.errors import ContractRevertError, WrongChainError
from sonar.errors import ConfigError
from sonar.units import Address

__all__ = ["Committee", "deploy_committee", "read_committee"]


@dataclass(frozen=True, slots=True)
class Committee:
    """A deployed `CapsuleCommittee`: its members, ascending, and how many of them must sign. Both are for good."""

    address: Address
    members: tuple[Address, ...]
    threshold: int


def deploy_committee(
    chain: Web3 | str, account: LocalAccount, members: Sequence[str], threshold: int, *, timeout: float = 60
) -> Committee:
    """Deploys a committee of these members, in any order, at the account's expense.

    Raises ConfigError for what cannot be a committee, and what `deploy` raises.
    """
    blueprint = bytecode.committee(members, threshold)
    made = deploy(chain, account, blueprint, timeout=timeout)
    return Committee(made.address, blueprint.members, threshold)


def read_committee(chain: Web3 | str, address: Address, *, transaction: bytes | None = None) -> Committee:
    """The committee at an address, as far as the node is believed; raises WrongChainError for any other code.

    Give the transaction that made it, or know who did: another constructor may have left the same code with more
    members than it names (see `verify_deployment`).
    """
    web3 = connect_web3(chain, timeout=10) if isinstance(chain, str) else chain
    place = to_checksum_address(address)
    members, threshold = _composition(web3, place)
    try:
        blueprint = bytecode.committee(members, threshold)
    except ConfigError as error:
        raise _no_committee(place) from error
    verify_deployment(web3, Address(place), blueprint, transaction=transaction)
    return Committee(Address(place), blueprint.members, threshold)


def _composition(web3: Web3, place: ChecksumAddress) -> tuple[tuple[str, ...], int]:
    contract: Any = web3.eth.contract(address=place, abi=artifact("CapsuleCommittee")["abi"])
    try:
        with rpc(web3):
            try:
                return tuple(contract.functions.members().call()), int(contract.functions.threshold().call())
            except BadFunctionCallOutput as error:
                raise _no_committee(place) from error
    except ContractRevertError as error:
        raise _no_committee(place) from error


def _no_committee(place: str) -> WrongChainError:
    return WrongChainError(f"what is at {place} does not answer like a CapsuleCommittee: check the address")
