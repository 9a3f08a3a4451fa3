"""HTTP request bodies, read piece by piece: by length or chunked, and the one file of a multipart form."""

from collections.abc import Iterator
from email.message import Message
from io import BufferedIOBase

__all__ = ["BadBodyError", "BodyTooLargeError", "body_pieces", "form_file"]

_PIECE = 64 * 1024
_LONGEST_LINE = 1024
_LONGEST_HEAD = 8 * 1024


class BadBodyError(Exception):
    """The body is not what its headers promise."""


class BodyTooLargeError(Exception):
    """The body is larger than allowed."""


def body_pieces(stream: BufferedIOBase, headers: Message, most: int) -> Iterator[bytes]:
    """The body in pieces of at most 64 KiB; raises BodyTooLargeError after `most` bytes, BadBodyError."""
    left = most
    for piece in (
        _chunks(stream) if "chunked" in headers.get("Transfer-Encoding", "").lower() else _plain(stream, headers)
    ):
        left -= len(piece)
        if left < 0:
            raise BodyTooLargeError(f"the body has more than {most} bytes")
        yield piece


def form_file(pieces: Iterator[bytes], content_type: str) -> Iterator[bytes]:
    """The content of the only file in a multipart/form-data body; raises BadBodyError for any other body."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary:
        raise BadBodyError(f"the body is {content_type!r}, not multipart/form-data with a boundary")
    mark = b"--" + boundary.encode("latin-1")
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if b"\r\n\r\n" in buffer or len(buffer) > _LONGEST_HEAD:
            break
    head, blank, rest = bytes(buffer).partition(b"\r\n\r\n")
    if not blank or not head.startswith(mark + b"\r\n") or len(head) > _LONGEST_HEAD:
        raise BadBodyError("the body does not begin with the head of a file")
    yield from _until(b"\r\n" + mark, rest, pieces)


def _until(mark: bytes, rest: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = rest
    while (place := held.find(mark)) < 0:
        yield held[: max(0, len(held) - len(mark) + 1)]
        held = held[max(0, len(held) - len(mark) + 1) :]
        piece = next(pieces, None)
        if piece is None:
            raise BadBodyError("the body ends inside the file")
        held += piece
    yield held[:place]
    tail = held[place + len(mark) :] + b"".join(pieces)
    if tail.strip() != b"--":
        raise BadBodyError("the body holds more than one file: add them one by one")


def _plain(stream: BufferedIOBase, headers: Message) -> Iterator[bytes]:
    text = headers.get("Content-Length", "0")
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise BadBodyError(f"{text!r} is not a Content-Length")
    yield from _exactly(stream, int(text))


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    while size := _size(stream):
        yield from _exactly(stream, size)
        if stream.readline(_LONGEST_LINE) != b"\r\n":
            raise BadBodyError("a chunk of the body does not end where it should")
    while stream.readline(_LONGEST_LINE) not in {b"\r\n", b""}:
        continue


def _size(stream: BufferedIOBase) -> int:
    text = stream.readline(_LONGEST_LINE).partition(b";")[0].strip()
    if not text or len(text) > 15 or not all(each in b"0123456789abcdefABCDEF" for each in text):
        raise BadBodyError("a chunk of the body has no size")
    return int(text, 16)


def _exactly(stream: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, _PIECE))
        if not piece:
            raise BadBodyError("the body ends early")
        size -= len(piece)
        yield piece
