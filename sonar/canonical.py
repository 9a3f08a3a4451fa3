"""Canonical JSON: the same value is always the same bytes, so that its digest can be committed to.

Keys sorted, no white space, UTF-8, finite numbers only, floats as Python's shortest round-trip form. A decoder refuses
bytes that are not exactly what the encoder would write.
"""

import json
from typing import Any

from pydantic_core import from_json

__all__ = ["dumps", "loads"]


def dumps(value: Any) -> bytes:
    """The canonical bytes of a JSON value; raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def loads(data: bytes) -> Any:
    """The value of canonical bytes; raises ValueError for anything that `dumps` would write differently."""
    # Not json.loads: its only guard is the recursion limit, which eth_account's import raises beyond any stack.
    value = from_json(data)
    if dumps(value) == data:
        return value
    raise ValueError("JSON is not canonical: sorted keys, no white space, shortest numbers, no duplicate keys")
