"""Committees of Capsules on chain: deployed from the package's own bytecode, and read from code that is checked."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from eth_abi import abi as codec
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3

from sonar.chain._artifact import artifact, runtime_matches
from sonar.chain._rpc import await_receipt, connect_web3, find_receipt, rpc, send_raw, sign_transaction
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.units import Address

__all__ = ["Committee", "deploy_committee", "read_committee"]


@dataclass(frozen=True, slots=True)
class Committee:
    """A deployed `CapsuleCommittee`: its members, ascending, and how many of them must sign. Both are for good."""

    address: Address
    members: tuple[Address, ...]
    threshold: int


def deploy_committee(
    chain: Web3 | str, account: LocalAccount, members: Collection[Address], threshold: int, *, timeout: float = 60
) -> Committee:
    """Deploys a committee of these members, in any order, at the account's expense.

    Raises ContractRevertError for a member that stands there twice, too many of them, or a threshold that they cannot
    reach.
    """
    web3 = connect_web3(chain, timeout=10) if isinstance(chain, str) else chain
    ascending = sorted((to_checksum_address(member) for member in members), key=lambda member: int(member, 16))
    arguments = codec.encode(["address[]", "uint256"], [ascending, threshold])
    with rpc(web3):
        nonce = web3.eth.get_transaction_count(account.address, "pending")
    data = artifact("CapsuleCommittee")["bytecode"] + arguments.hex()
    signed = sign_transaction(web3, account, {"data": data, "value": 0}, nonce)
    send_raw(web3, signed)
    receipt = await_receipt(lambda: find_receipt(web3, signed.hash), signed.hash, timeout)
    address = receipt["contractAddress"]
    if receipt["status"] != 1 or address is None:
        raise TransactionFailedError(
            f"the deployment 0x{signed.hash.hex()} reverted: does this chain run paris bytecode?"
        )
    return read_committee(web3, Address(address))


def read_committee(web3: Web3, address: Address) -> Committee:
    """The committee at an address, as far as the node is believed; raises WrongChainError for any other code."""
    place = to_checksum_address(address)
    with rpc(web3):
        code = bytes(web3.eth.get_code(place))
    if not runtime_matches(code, "CapsuleCommittee"):
        what = "other code" if code else "no contract"
        raise WrongChainError(f"{what} is at {place}, not this version's CapsuleCommittee: check the address")
    contract: Any = web3.eth.contract(address=place, abi=artifact("CapsuleCommittee")["abi"])
    with rpc(web3):
        members = tuple(Address(to_checksum_address(member)) for member in contract.functions.members().call())
        return Committee(Address(place), members, int(contract.functions.threshold().call()))
