"""Facts about the chain that only a few readers need: which deployment this is, who signed an admission."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3RPCError

from sonar.chain._artifact import arguments_type, artifact
from sonar.chain._rpc import rpc
from sonar.chain.errors import RpcUnavailableError
from sonar.units import Address

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = [
    "Block", "admission_signature", "block_hash", "code_digest", "find_block", "has_code", "settlement_signature",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place in the chain, and its time in seconds since the Unix epoch."""

    number: int
    hash: bytes
    parent: bytes
    time: int


def find_block(client: "SonarClient", number: int | None = None) -> Block | None:
    """The block with this number (None: the latest); None where the node has no such block, or not yet."""
    with rpc(client.web3):
        try:
            found = client.web3.eth.get_block("latest" if number is None else number)
        except BlockNotFound:
            return None
        except Web3RPCError:
            if number is not None and number > client.web3.eth.block_number:
                return None
            raise
        block = Block(int(found["number"]), bytes(found["hash"]), bytes(found["parentHash"]), int(found["timestamp"]))
    if number is not None and block.number != number:
        raise RpcUnavailableError(f"the node gave block {block.number} for {number}: is it honest?")
    return block


def block_hash(client: "SonarClient", number: int) -> bytes:
    """The hash of a block; two chains with the same id and contract address differ in it."""
    with rpc(client.web3):
        return bytes(client.web3.eth.get_block(number)["hash"])


def code_digest(client: "SonarClient") -> bytes:
    """SHA-256 of the code at the contract's address."""
    with rpc(client.web3):
        return sha256(bytes(client.web3.eth.get_code(to_checksum_address(client.address)))).digest()


def admission_signature(client: "SonarClient", transaction: bytes) -> bytes | None:
    """The admission's signature in a createCampaign transaction; None if the contract was not called directly.

    Events do not carry it; whoever does not trust the node reads it here and verifies it.
    """
    return _third(client, transaction, "createCampaign")


def settlement_signature(client: "SonarClient", transaction: bytes) -> bytes | None:
    """The settlement's signature in a settleRound transaction; None if the contract was not called directly."""
    return _third(client, transaction, "settleRound")


def has_code(client: "SonarClient", address: Address) -> bool:
    """Whether a contract is at an address."""
    with rpc(client.web3):
        return bool(client.web3.eth.get_code(to_checksum_address(address)))


def _third(client: "SonarClient", transaction: bytes, function: str) -> bytes | None:
    """The third argument of a call of the contract, which in both of these is the oracle's signature."""
    with rpc(client.web3):
        try:
            found = client.web3.eth.get_transaction(HexBytes(transaction))
        except TransactionNotFound:
            return None
        data, to = bytes(HexBytes(found["input"])), str(found.get("to") or "")
    entry = next(e for e in artifact()["abi"] if e["type"] == "function" and e["name"] == function)
    if to.lower() != client.address.lower() or data[:4] != function_abi_to_4byte_selector(entry):
        return None
    # As bytes, because CIDs are a stranger's text, which need not be UTF-8.
    kinds = [kind.replace("string", "bytes") for kind in arguments_type(entry)[:3]]
    try:
        return bytes(codec.decode(kinds, data[4:])[2])
    except (DecodingError, OverflowError):
        return None
