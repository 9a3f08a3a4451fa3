"""Mutations of valid inputs: of plain bytes, and of JSON, safetensors and ABI words with their structure kept.

A mutation takes its choices from a `random.Random`, or from Hypothesis's likeness of one, which can then shrink them.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

__all__ = ["Mutation", "abi_words", "json_text", "mutated", "safetensors"]

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""(choices, input, all seeds) -> another input."""

_LONGEST = 1 << 15
_MOST_MUTATIONS = 4
_NUMBERS = (0, 1, 2, 7, 8, 9, 127, 128, 255, 256, 1023, 1024, 1025, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1,
            2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**255, 2**256 - 1)  # fmt: skip
_BYTES = b"\x00\x01\x7f\x80\xff\n\r\"',:;{}[]%-+.eE0"
# What a JSON text may hold though no encoder of ours writes it; the names stand in for it while the tree is dumped.
_RAW = ("NaN", "Infinity", "-0", "1e400", "1.0", "1E2", "9" * 400, "-1e-400", '"\\ud800"', '"\\u0000"', "tru", "")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 2**256, -(2**63) - 1, "", "0", "0x",
    "a", "0x" + "00" * 32, "0x" + "zz" * 32, "\x00", "\x1b[2J", "\u202e", "é", "\U0001f4a3", "x" * 3000, [], {}, [[]],
    [None], {"": 0}, [0] * 300,
)  # fmt: skip


def mutated(random: Random, seeds: Sequence[bytes], mutations: Sequence[Mutation]) -> bytes:
    """An input made of one of the seeds by some of the mutations, or of nothing but chance."""
    if not random.randrange(40):
        return random.randbytes(random.choice((0, 1, 3, 8, 64, 700)))
    data = random.choice(seeds)
    if not random.randrange(200):
        return _deep(random, data, seeds)[:_LONGEST]
    for _ in range(random.randint(1, _MOST_MUTATIONS)):
        pool = mutations if mutations and random.randrange(3) else _PLAIN
        data = random.choice(pool)(random, data, seeds)[:_LONGEST]
    return data


def json_text(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """The JSON text with one of its values changed, removed, renamed, moved or written in another way."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _overwritten(random, data, ())
    raw = random.choice(_RAW)
    tree = _changed(random, tree, "\ue000raw\ue000")
    style = random.randrange(6)
    text = json.dumps(
        tree, sort_keys=style != 1, separators=(", ", ": ") if style == 0 else (",", ":"), ensure_ascii=style == 2
    )
    text = text.replace('"\ue000raw\ue000"', raw).replace('"\\ue000raw\\ue000"', raw)
    if style == 3 and text.startswith("{") and len(text) > 2:  # a key twice
        text = "{" + text[1:-1] + "," + text[1:]
    if style == 4:
        depth = random.choice((10, 300, 5000))
        text = "[" * depth + text + "]" * depth if random.randrange(2) else text.replace("null", "[" * depth, 1)
    return text.encode("utf-8", "surrogatepass")


def safetensors(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The safetensors file with its header changed and its length made to fit, or with its payload changed."""
    size = int.from_bytes(data[:8], "little")
    header, payload = data[8 : 8 + size], data[8 + size :]
    choice = random.randrange(4)
    if choice == 0:
        header = json_text(random, header, seeds)
    elif choice == 1:
        header = _inner(random, header, seeds)
    elif choice == 2:
        payload = random.choice(_PLAIN)(random, payload, seeds)
    else:
        header = header + b" " * random.choice((1, 7, 8, 2000))
    return len(header).to_bytes(8, "little") + header + payload


def abi_words(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """The bytes with one of their 32-byte words, counted from either end, exchanged for a number or another word."""
    words = len(data) // 32
    if not words:
        return data + random.choice(_NUMBERS).to_bytes(32)
    start = 32 * random.randrange(words) + (len(data) % 32 if random.randrange(2) else 0)
    other = 32 * random.randrange(words)
    word = random.choice(_NUMBERS).to_bytes(32) if random.randrange(3) else data[other : other + 32]
    return data[:start] + word + data[start + 32 :]


def _inner(random: Random, header: bytes, seeds: Sequence[bytes]) -> bytes:
    """The header with the JSON text that its metadata carries changed."""
    try:
        tree = json.loads(header)
        text = tree["__metadata__"]["sonar"]
        tree["__metadata__"]["sonar"] = json_text(random, text.encode(), seeds).decode("utf-8", "replace")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return json_text(random, header, seeds)
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _changed(random: Random, tree: Any, raw: str) -> Any:
    """The tree with one change at a place that is drawn on the way down."""
    if isinstance(tree, dict) and tree and random.randrange(8):
        key = random.choice(sorted(tree))
        rest = {name: value for name, value in tree.items() if name != key}
        what = random.randrange(10)
        if what == 0:
            return rest
        if what == 1:
            return {**rest, random.choice(("", "x", key + " ", key.upper(), "__proto__")): tree[key]}
        if what == 2:
            return {**tree, key: tree[random.choice(sorted(tree))]}
        if what == 3:
            return {**tree, "unknown": tree[key]}
        return {**tree, key: _changed(random, tree[key], raw)}
    if isinstance(tree, list) and tree and random.randrange(8):
        place = random.randrange(len(tree))
        what = random.randrange(8)
        if what == 0:
            return tree[:place] + tree[place + 1 :]
        if what == 1:
            return tree[:place] + [tree[place]] * random.choice((2, 70, 700)) + tree[place + 1 :]
        return [*tree[:place], _changed(random, tree[place], raw), *tree[place + 1 :]]
    if isinstance(tree, str) and tree and not random.randrange(3):
        return _overwritten(random, tree.encode("utf-8", "replace"), ()).decode("utf-8", "replace")
    if isinstance(tree, int) and not random.randrange(3):
        return tree + random.choice((1, -1, 2**32, -(2**32)))
    return raw if not random.randrange(6) else random.choice(_VALUES)


def _flipped(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x00"
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]


def _overwritten(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    place = random.randint(0, len(data))
    new = bytes(random.choice(_BYTES) for _ in range(random.choice((1, 1, 2, 4))))
    return data[:place] + new + data[place + (len(new) if random.randrange(2) else 0) :]


def _cut(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))] if random.randrange(2) else data[random.randint(0, len(data)) :]


def _without(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + data[start + random.choice((1, 2, 8, 32, 200)) :]


def _repeated(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(data))
    piece = data[start : start + random.choice((1, 4, 32, 500))]
    return data[:start] + piece * random.choice((2, 3, 40)) + data[start + len(piece) :]


def _spliced(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds) if seeds else data
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _with_number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    size = random.choice((1, 2, 4, 8))
    number = (random.choice(_NUMBERS) % (1 << (8 * size))).to_bytes(size, random.choice(("big", "little")))
    # Most length fields stand at the beginning.
    place = random.randint(0, min(len(data), 16)) if random.randrange(2) else random.randint(0, len(data))
    return data[:place] + number + data[place + size :]


def _deep(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Nested deeper than any recursion gets."""
    place = random.randint(0, len(data))
    return data[:place] + random.choice((b"[", b'{"a":', b"[[", b"{")) * 4000 + data[place:]


def _padded(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data + random.choice((b"\x00", b"\n", b" ", b"\xff")) * random.choice((1, 8, 1000))


_PLAIN: tuple[Mutation, ...] = (
    _flipped, _flipped, _overwritten, _cut, _without, _repeated, _spliced, _with_number, _padded,
)  # fmt: skip
