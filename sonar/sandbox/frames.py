"""What goes over the pipes to and from a process that works apart: small canonical JSON and raw bytes, both capped.

    length of the head, 4 bytes, little-endian | head, canonical JSON {"blobs": [sizes], "body": {...}} | blobs

Whoever reads knows how many bytes it takes at most before it reads one, and believes no length beyond that.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sonar import canonical
from sonar.sandbox.errors import FrameError

__all__ = ["MOST_BYTES", "MOST_WORDS", "Frame", "encode", "read"]

MOST_BYTES: Final = 1 << 30
"""The most that a frame's blobs hold together: a validation set and the opened gradients of the largest round."""
MOST_WORDS: Final = 1000
"""The most characters of a sentence in an answer."""
_MOST_HEAD: Final = 1 << 20
_MOST_BLOBS: Final = 256
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Frame:
    """A JSON object and byte strings; the bytes never show in a repr, since keys are among them."""

    body: dict[str, Any]
    blobs: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Frame({len(self.blobs)} blobs)"


def encode(frame: Frame) -> list[bytes]:
    """The bytes of a frame, in pieces; raises FrameError for one that `read` would refuse."""
    sizes = [len(blob) for blob in frame.blobs]
    head = canonical.dumps({"blobs": sizes, "body": frame.body})
    if len(head) > _MOST_HEAD or len(sizes) > _MOST_BLOBS or sum(sizes) > MOST_BYTES:
        raise FrameError(f"a frame of {len(head)} + {sum(sizes)} bytes in {len(sizes)} blobs is too large")
    return [_LENGTH.pack(len(head)), head, *frame.blobs]


def read(take: Callable[[int], bytes], most: int = MOST_BYTES) -> Frame:
    """The next frame; `take(n)` gives the next n bytes or raises. Raises FrameError for anything that is no frame."""
    (size,) = _LENGTH.unpack(take(_LENGTH.size))
    if size > _MOST_HEAD:
        raise FrameError(f"a frame's head of {size} bytes is above the limit of {_MOST_HEAD}")
    try:
        head = canonical.loads(take(size))
    except ValueError as error:
        raise FrameError("a frame's head is not canonical JSON") from error
    if not isinstance(head, dict) or head.keys() != {"blobs", "body"} or not isinstance(head["body"], dict):
        raise FrameError("a frame's head does not have exactly a body and the sizes of its blobs")
    return Frame(head["body"], tuple(take(size) for size in _checked(head["blobs"], most)))


def _checked(sizes: Any, most: int) -> Sequence[int]:
    if not isinstance(sizes, list) or len(sizes) > _MOST_BLOBS:
        raise FrameError(f"a frame has no list of at most {_MOST_BLOBS} sizes")
    if not all(type(size) is int and 0 <= size <= most for size in sizes) or sum(sizes) > most:
        raise FrameError(f"a frame's blobs are not of at most {most} bytes together")
    return sizes
