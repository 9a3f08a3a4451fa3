"""Entries of an append-only log, each bound to all before it by a SHA-256 hash: the Capsule's log and the mine's.

Entry k holds a sequence number k = 1, 2, ..., the time in microseconds since 1970, a kind, a body and the hash of entry
k - 1 (32 zero bytes before the first). With both numbers in 8 bytes, big-endian, and both texts in UTF-8 behind their
length in 8 bytes,

    hash = SHA-256(label || sequence || time || kind || body || previous)

where the label, which ends in a zero byte, tells one log's entries from another's.
"""

from hashlib import sha256
from typing import Final

__all__ = ["START", "entry_hash"]

START: Final = bytes(32)
"""The hash before the first entry."""


def entry_hash(label: bytes, sequence: int, moment: int, kind: str, body: str, previous: bytes) -> bytes:
    """The hash of an entry; raises ValueError for what no entry can hold."""
    if len(previous) != len(START):
        raise ValueError(f"a previous hash has {len(START)} bytes, not {len(previous)}")
    try:
        numbers = sequence.to_bytes(8, "big") + moment.to_bytes(8, "big")
    except OverflowError as error:
        raise ValueError(f"entry {sequence} of time {moment}: both are unsigned and of 64 bits") from error
    return sha256(label + numbers + _text(kind) + _text(body) + previous).digest()


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "big") + data
