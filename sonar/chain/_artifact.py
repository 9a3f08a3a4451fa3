"""The compiled contracts that ship as package data, and what only their ABIs know: selectors, event topics, errors."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from sonar.chain.errors import ChainError, ContractRevertError

__all__ = ["Artifact", "artifact", "decode_revert", "event_topic"]

_BUILT_IN = (
    {"name": "Error", "type": "error", "inputs": [{"name": "reason", "type": "string"}]},
    {"name": "Panic", "type": "error", "inputs": [{"name": "code", "type": "uint256"}]},
)

Artifact = Mapping[str, Any]
"""What `scripts/compile` wrote: abi, bytecode, deployedBytecode, immutableReferences by name, how it was compiled."""


@cache
def artifact(contract: str = "Sonar") -> Artifact:
    """A compiled contract; raises ChainError if the installation lacks it."""
    file = files("sonar.chain") / "data" / f"{contract}.json"
    try:
        loaded: Artifact = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ChainError(
            f"the installation lacks the compiled contract {contract}: run scripts/compile, or install again"
        ) from error
    return loaded


def arguments_type(entry: Mapping[str, Any]) -> list[str]:
    """The ABI types of an entry's inputs, tuples written out."""
    return [collapse_if_tuple(item) for item in entry["inputs"]]


def event_topic(entry: Mapping[str, Any]) -> bytes:
    """The first topic of an event's logs."""
    return keccak(text=f"{entry['name']}({','.join(arguments_type(entry))})")


@cache
def _errors() -> dict[bytes, Mapping[str, Any]]:
    known = (*artifact()["abi"], *artifact("CapsuleCommittee")["abi"])
    entries = [entry for entry in known if entry["type"] == "error"]
    return {function_abi_to_4byte_selector(entry): entry for entry in (*entries, *_BUILT_IN)}


def decode_revert(data: bytes) -> ContractRevertError:
    """The contract error that revert bytes stand for; bytes that no known error wrote are shown as they are."""
    entry = _errors().get(data[:4])
    if entry is None:
        return ContractRevertError("", {"data": data[:68]} if data else {})
    try:
        values = codec.decode(arguments_type(entry), data[4:])
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return ContractRevertError(entry["name"], {"data": data[:68]})
    arguments = {
        item["name"]: to_checksum_address(value) if item["type"] == "address" else value
        for item, value in zip(entry["inputs"], values, strict=True)
    }
    return ContractRevertError(entry["name"], arguments)
