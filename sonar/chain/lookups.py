"""Facts about the chain that only a few readers need: which deployment this is, who signed an admission."""

from typing import TYPE_CHECKING

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_abi_to_4byte_selector
from hexbytes import HexBytes
from web3.exceptions import TransactionNotFound

from sonar.chain._artifact import arguments_type, artifact
from sonar.chain._rpc import rpc

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = ["admission_signature", "block_hash"]


def block_hash(client: "SonarClient", number: int) -> bytes:
    """The hash of a block; two chains with the same id and contract address differ in it."""
    with rpc(client.web3):
        return bytes(client.web3.eth.get_block(number)["hash"])


def admission_signature(client: "SonarClient", transaction: bytes) -> bytes | None:
    """The admission's signature in a createCampaign transaction; None if the contract was not called directly.

    Events do not carry it; whoever does not trust the node reads it here and verifies it.
    """
    with rpc(client.web3):
        try:
            found = client.web3.eth.get_transaction(HexBytes(transaction))
        except TransactionNotFound:
            return None
    entry = next(e for e in artifact()["abi"] if e["type"] == "function" and e["name"] == "createCampaign")
    data = bytes(HexBytes(found["input"]))
    if str(found.get("to") or "").lower() != client.address.lower() or data[:4] != function_abi_to_4byte_selector(
        entry
    ):
        return None
    try:
        return bytes(codec.decode(arguments_type(entry), data[4:])[2])
    except (DecodingError, OverflowError):
        return None
