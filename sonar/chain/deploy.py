"""Puts the contract on a chain from the package's own bytecode, and tells whether an address holds it."""

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3

from sonar.chain._artifact import artifact, runtime_matches
from sonar.chain._rpc import await_receipt, connect_web3, find_receipt, rpc, send_raw, sign_transaction
from sonar.chain.errors import TransactionFailedError, WrongChainError
from sonar.units import Address

__all__ = ["Deployment", "deploy", "verify_deployment"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed contract: on which chain and where it is, and the block from which its events are read."""

    chain_id: int
    address: Address
    block: int
    transaction: bytes


def deploy(chain: Web3 | str, account: LocalAccount, *, timeout: float = 60) -> Deployment:
    """Deploys the contract to a chain (a connection or an RPC address) at the account's expense; checks the code."""
    web3 = connect_web3(chain, timeout=10) if isinstance(chain, str) else chain
    with rpc(web3):
        chain_id = web3.eth.chain_id
        nonce = web3.eth.get_transaction_count(account.address, "pending")
    signed = sign_transaction(web3, account, {"data": artifact()["bytecode"], "value": 0}, nonce)
    send_raw(web3, signed)
    receipt = await_receipt(lambda: find_receipt(web3, signed.hash), signed.hash, timeout)
    address = receipt["contractAddress"]
    if receipt["status"] != 1 or address is None:
        raise TransactionFailedError(
            f"the deployment 0x{signed.hash.hex()} reverted: does this chain run paris bytecode?"
        )
    verify_deployment(web3, Address(address))
    return Deployment(chain_id, Address(to_checksum_address(address)), int(receipt["blockNumber"]), signed.hash)


def verify_deployment(web3: Web3, address: Address) -> None:
    """Raises WrongChainError unless the code at `address` is this package's contract, immutables aside."""
    with rpc(web3):
        code = bytes(web3.eth.get_code(to_checksum_address(address)))
    if not code:
        raise WrongChainError(f"no contract is at {address}: check the address and the RPC address")
    if not runtime_matches(code):
        raise WrongChainError(f"the code at {address} is not this version's Sonar contract: check the address")
