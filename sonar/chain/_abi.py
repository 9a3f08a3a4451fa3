"""How calls of the contract are written and their answers read, by its ABI.

web3's own contracts look all of this up, and check it, for each call anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi import abi
from eth_abi.codec import ABICodec
from eth_abi.exceptions import EncodingError
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector

from sonar.chain._artifact import arguments_type, artifact
from sonar.chain.errors import ChainError

__all__ = ["decode_answer", "encode_call"]


def encode_call(codec: ABICodec, function: str, arguments: Sequence[Any]) -> bytes:
    """A call's data; raises ChainError for values that the types do not hold, such as bytes that are too short."""
    asked = _function(function)
    try:
        return asked.selector + codec.encode(asked.inputs, arguments)
    except (EncodingError, TypeError, ValueError) as error:
        given = ", ".join("0x" + one.hex() if isinstance(one, bytes) else str(one) for one in arguments)[:200]
        raise ChainError(f"the contract's {function} does not take {given}: check each value") from error


def decode_answer(function: str, answer: bytes) -> Any:
    """What a view answered: a struct as a dictionary, nested ones too, or a single value.

    Raises DecodingError, OverflowError or UnicodeDecodeError for bytes that are none of its answers.
    """
    view = _function(function)
    (got,) = abi.decode([view.output], answer)
    return _named(view.components, got) if view.components else got


@dataclass(frozen=True, slots=True)
class _Function:
    """How a function is called, and how its answer reads; without components that is a single value or nothing."""

    selector: bytes
    inputs: list[str]
    output: str
    components: list[dict[str, Any]]


@cache
def _function(name: str) -> _Function:
    entry = next(e for e in artifact()["abi"] if e["type"] == "function" and e["name"] == name)
    output: dict[str, Any] = entry["outputs"][0] if entry["outputs"] else {"type": ""}
    selector = function_abi_to_4byte_selector(entry)
    return _Function(selector, arguments_type(entry), collapse_if_tuple(output), output.get("components", []))


def _named(components: list[dict[str, Any]], values: Any) -> dict[str, Any]:
    return {
        item["name"]: _named(item["components"], value) if item["type"] == "tuple" else value
        for item, value in zip(components, values, strict=True)
    }
