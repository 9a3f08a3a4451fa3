"""The contracts' ABI: Python values to bytes and back, and the names behind selectors and topics.

Structs are dicts by field name, addresses are checksummed strings, bytes are bytes; a contract stands for its address.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from eth_abi import decode, encode
from eth_utils import keccak, to_checksum_address

__all__ = ["Catalogue", "Error", "Event", "Function", "constructor_data"]

_checksummed = lru_cache(maxsize=4096)(to_checksum_address)

_BUILT_IN = (
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)


class _Fields:
    """A list of named, typed values, as the ABI describes inputs, outputs and structs."""

    def __init__(self, fields: Sequence[Mapping[str, Any]]) -> None:
        self.fields = fields
        self.types = [_type(field) for field in fields]
        self.signature = f"({','.join(self.types)})"

    def encode(self, values: Sequence[Any]) -> bytes:
        if len(values) != len(self.fields):
            raise TypeError(f"{len(values)} values given, {self.signature} takes {len(self.fields)}")
        return encode(self.types, [_raw(field, value) for field, value in zip(self.fields, values, strict=True)])

    def decode(self, data: bytes) -> list[Any]:
        return [_plain(field, value) for field, value in zip(self.fields, decode(self.types, data), strict=True)]


class Function:
    """A function of a contract."""

    def __init__(self, abi: Mapping[str, Any]) -> None:
        self.name: str = abi["name"]
        self.reads_only = abi["stateMutability"] in ("view", "pure")
        self._inputs, self._outputs = _Fields(abi["inputs"]), _Fields(abi["outputs"])
        self.selector = keccak(text=self.name + self._inputs.signature)[:4]

    def encode(self, arguments: Sequence[Any]) -> bytes:
        """The data of a call."""
        return self.selector + self._inputs.encode(arguments)

    def decode(self, output: bytes) -> Any:
        """What a call answered: nothing, one value, or a tuple of several."""
        values = self._outputs.decode(output)
        return tuple(values) if len(values) > 1 else values[0] if values else None


class Error:
    """A custom error."""

    def __init__(self, abi: Mapping[str, Any]) -> None:
        self.name: str = abi["name"]
        self._inputs = _Fields(abi["inputs"])
        self.selector = keccak(text=self.name + self._inputs.signature)[:4]

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """The arguments out of revert bytes."""
        return tuple(self._inputs.decode(data[4:]))


class Event:
    """An event."""

    def __init__(self, abi: Mapping[str, Any]) -> None:
        self.name: str = abi["name"]
        self._names = [field["name"] for field in abi["inputs"]]
        self._indexed = [field for field in abi["inputs"] if field["indexed"]]
        self._data = _Fields([field for field in abi["inputs"] if not field["indexed"]])
        self.topic = keccak(text=self.name + _Fields(abi["inputs"]).signature)

    def decode(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """The arguments by name, in the event's own order. Of an indexed string there is only the hash."""
        values = {
            field["name"]: topic if _dynamic(field["type"]) else _Fields([field]).decode(topic)[0]
            for field, topic in zip(self._indexed, topics[1:], strict=True)
        }
        values |= zip((field["name"] for field in self._data.fields), self._data.decode(data), strict=True)
        return {name: values[name] for name in self._names}


class Catalogue:
    """The errors and events of all contracts, to name what comes out of calls through several of them."""

    def __init__(self, abis: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        entries = [entry for abi in (_BUILT_IN, *abis) for entry in abi]
        errors = (Error(entry) for entry in entries if entry["type"] == "error")
        events = (Event(entry) for entry in entries if entry["type"] == "event" and not entry["anonymous"])
        self._errors = {error.selector: error for error in errors}
        self._events = {event.topic: event for event in events}

    def error(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """The name and the arguments of an error; no name and the bytes themselves if there is none such."""
        error = self._errors.get(data[:4])
        return (error.name, error.decode(data)) if error else ("", (data,))

    def events(self, logs: Iterable[tuple[Sequence[bytes], bytes]]) -> dict[str, list[dict[str, Any]]]:
        """The known events among (topics, data), by name, in order."""
        found: dict[str, list[dict[str, Any]]] = {}
        for topics, data in logs:
            if topics and (event := self._events.get(topics[0])):
                found.setdefault(event.name, []).append(event.decode(topics, data))
        return found


def constructor_data(abi: Sequence[Mapping[str, Any]], arguments: Sequence[Any]) -> bytes:
    """The encoded arguments of a constructor, to follow the bytecode."""
    inputs = next((entry["inputs"] for entry in abi if entry["type"] == "constructor"), ())
    return _Fields(inputs).encode(arguments)


def _type(field: Mapping[str, Any]) -> str:
    if field["type"].startswith("tuple"):
        return f"({','.join(_type(part) for part in field['components'])}){field['type'][5:]}"
    return str(field["type"])


def _dynamic(kind: str) -> bool:
    return kind in ("string", "bytes") or kind.startswith("tuple") or kind.endswith("]")


def _item(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an array is made of."""
    return {**field, "type": field["type"][: field["type"].rindex("[")]}


def _raw(field: Mapping[str, Any], value: Any) -> Any:
    kind = field["type"]
    if kind.endswith("]"):
        return [_raw(_item(field), item) for item in value]
    if kind == "tuple":
        parts = field["components"]
        if isinstance(value, Mapping):
            if value.keys() != {part["name"] for part in parts}:
                raise TypeError(f"{sorted(value)} are not the fields of {field['internalType']}")
            value = [value[part["name"]] for part in parts]
        return [_raw(part, item) for part, item in zip(parts, value, strict=True)]
    return str(value) if kind == "address" else value


def _plain(field: Mapping[str, Any], value: Any) -> Any:
    kind = field["type"]
    if kind.endswith("]"):
        return [_plain(_item(field), item) for item in value]
    if kind == "tuple":
        return {part["name"]: _plain(part, item) for part, item in zip(field["components"], value, strict=True)}
    return _checksummed(value) if kind == "address" else value
