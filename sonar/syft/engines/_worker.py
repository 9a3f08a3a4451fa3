"""A process that computes maps: `python -m sonar.syft.engines._worker` reads jobs on stdin and answers on stdout.

Its parent has started it and speaks to it through pipes only. It ends when its stdin does, so it outlives a parent,
however that ends, by no more than the job that it is at.

A frame is a length of 8 bytes, little-endian, and as many bytes. A job is four frames: four numbers of 8 bytes (rows,
bases, bits, size of an element), the modulus, the bases, the exponents. An answer is one frame: a byte that says
whether all went well (0) or a base was not coprime to the modulus (1), and the elements.
"""

import os
import signal
import struct
import sys
from typing import IO, Final

import numpy as np

from sonar.syft.engines._subset_map import raw_map
from sonar.syft.engines.base import Exponents
from sonar.syft.errors import CiphertextError

__all__ = ["NOT_COPRIME", "OK", "pack", "read_frame", "send_job", "unpack", "write_frame"]

OK: Final = b"\x00"
NOT_COPRIME: Final = b"\x01"
_NUMBERS: Final = struct.Struct("<4Q")
_LENGTH: Final = struct.Struct("<Q")


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame, None at the end of the stream; raises EOFError where it ends within a frame."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) == _LENGTH.size:
        (size,) = _LENGTH.unpack(head)
        data = stream.read(size)
        if len(data) == size:
            return data
    raise EOFError("a pipe was closed within a frame")


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Sends a frame."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)


def pack(elements: list[int], size: int) -> bytes:
    """Elements as fixed-size little-endian bytes."""
    return b"".join(element.to_bytes(size, "little") for element in elements)


def unpack(data: bytes, size: int) -> list[int]:
    """The elements that `pack` wrote."""
    return [int.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)]


def send_job(stream: IO[bytes], bases: list[int], exponents: Exponents, n: int, bits: int) -> int:
    """Sends a job, and returns the size of an element in the answer."""
    size = (2 * n.bit_length() + 7) // 8
    write_frame(stream, _NUMBERS.pack(*exponents.shape, bits, size))
    write_frame(stream, pack([n], size))
    write_frame(stream, pack(bases, size))
    write_frame(stream, np.ascontiguousarray(exponents, dtype="<i8").tobytes())
    stream.flush()
    return size


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    while (head := read_frame(source)) is not None:
        rows, count, bits, size = _NUMBERS.unpack(head)
        frames = [read_frame(source) for _ in range(3)]
        n, bases, exponents = (frame or b"" for frame in frames)
        table = np.frombuffer(exponents, dtype="<i8").reshape(rows, count).astype(np.int64)
        try:
            answer = OK + pack(raw_map(unpack(bases, size), table, unpack(n, size)[0], bits), size)
        except CiphertextError:
            answer = NOT_COPRIME
        try:
            write_frame(sink, answer)
            sink.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and nobody wants the answer


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends this process
    _serve(sys.stdin.buffer, sys.stdout.buffer)
