"""Puts the package's contracts on a chain from the shipped bytecode, and tells whether an address holds one.

What a constructor wrote into storage cannot be read back whole, and another one may leave the same code: so a
deployment is proved by its code and by the transaction that made it.
"""

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound

from sonar.chain._artifact import artifact
from sonar.chain._rpc import connect_web3, rpc
from sonar.chain._transactions import (
    SignedTransaction,
    await_receipt,
    find_receipt,
    send_raw,
    sign_transaction,
)
from sonar.chain.bytecode import SONAR, Blueprint
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.units import Address

__all__ = ["Deployment", "await_deployment", "deploy", "sign_deployment", "verify_deployment"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed contract: on which chain and where it is, and the block from which its events are read."""

    chain_id: int
    address: Address
    block: int
    transaction: bytes


def deploy(
    chain: Web3 | str, account: LocalAccount, blueprint: Blueprint = SONAR, *, timeout: float = 60
) -> Deployment:
    """Deploys a contract to a chain (a connection or an RPC address) at the account's expense, and verifies it."""
    web3 = connect_web3(chain, timeout=10) if isinstance(chain, str) else chain
    signed = sign_deployment(web3, account, blueprint)
    send_raw(web3, signed)
    return await_deployment(web3, signed.hash, blueprint, timeout)


def sign_deployment(
    web3: Web3, account: LocalAccount, blueprint: Blueprint, chain_id: int | None = None
) -> SignedTransaction:
    """The transaction that deploys a contract, for the chain `chain_id` (None: the node's); nothing is sent."""
    with rpc(web3):
        nonce = web3.eth.get_transaction_count(account.address, "pending")
    return sign_transaction(web3, account, {"data": blueprint.creation_code(), "value": 0}, nonce, chain_id)


def await_deployment(web3: Web3, transaction: bytes, blueprint: Blueprint, timeout: float) -> Deployment:
    """Waits for a deployment that was sent, and verifies it.

    Raises TransactionTimeoutError, TransactionFailedError if it reverted, or WrongChainError.
    """
    receipt = await_receipt(lambda: find_receipt(web3, transaction), transaction, timeout)
    address = receipt["contractAddress"]
    if receipt["status"] != 1 or address is None:
        raise TransactionFailedError(
            f"the deployment 0x{transaction.hex()} reverted: does this chain run paris bytecode?"
        )
    place = Address(to_checksum_address(address))
    verify_deployment(web3, place, blueprint, transaction=transaction)
    with rpc(web3):
        return Deployment(web3.eth.chain_id, place, int(receipt["blockNumber"]), transaction)


def verify_deployment(
    web3: Web3, address: Address, blueprint: Blueprint = SONAR, *, transaction: bytes | None = None
) -> None:
    """Raises WrongChainError unless `address` holds the contract, as far as the node is believed.

    Every byte of the code is compared, immutables too, and a committee's members. With the transaction that made it, so
    is the constructor: without, another one may have left anything in the contract's storage, for instance credit.
    """
    place = to_checksum_address(address)
    with rpc(web3):
        chain_id = web3.eth.chain_id
        code = bytes(web3.eth.get_code(place))
    if not code:
        raise WrongChainError(f"no contract is at {place} on chain {chain_id}: check the address and the RPC address")
    if difference := blueprint.difference(code, chain_id, Address(place)):
        raise WrongChainError(
            f"the code at {place} is not this version's {blueprint.contract} contract: {difference}; check the address"
        )
    if blueprint.members:
        _verify_members(web3, Address(place), blueprint)
    if transaction is not None:
        _verify_creation(web3, Address(place), blueprint, transaction)


def _verify_members(web3: Web3, address: Address, blueprint: Blueprint) -> None:
    contract: Any = web3.eth.contract(address=to_checksum_address(address), abi=artifact(blueprint.contract)["abi"])
    with rpc(web3):
        members = tuple(contract.functions.members().call())
    if members != blueprint.members:
        raise WrongChainError(f"the committee at {address} has other members: {', '.join(members) or 'none'}")


def _verify_creation(web3: Web3, address: Address, blueprint: Blueprint, transaction: bytes) -> None:
    name = f"transaction 0x{transaction.hex()}"
    with rpc(web3):
        try:
            found = web3.eth.get_transaction(HexBytes(transaction))
        except TransactionNotFound as error:
            raise WrongChainError(f"{name} is not on this chain: check it, and the RPC address") from error
        data = bytes(HexBytes(found["input"]))
    receipt = find_receipt(web3, transaction)
    made = receipt["contractAddress"] if receipt is not None and receipt["status"] == 1 else None
    if made is None or Address(to_checksum_address(made)) != address:
        raise WrongChainError(f"{name} did not deploy {address}: check it")
    if data != blueprint.creation_code():
        raise WrongChainError(
            f"{name} did not deploy {address} with this version's {blueprint.contract} constructor, so its storage may "
            "hold anything: do not use it"
        )
