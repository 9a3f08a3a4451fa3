"""Large secrets in one file: encrypted and authenticated as a stream, under a passphrase of its own.

    file  = header || stream header (24) || frame || frame || ...
    frame = length of the message as 4 big-endian bytes || message

The header is that of `capsule.secret.stretching` with the magic "sonar backup 1\\n"; messages are those of libsodium's
crypto_secretstream_xchacha20poly1305 under its key for "sonar backup", at most 64 KiB of plaintext each, the header as
associated data of each. The last message has the tag FINAL and ends the file, so a file that was cut, edited, reordered
or continued is noticed where it differs: nothing after that place is given out, and `finish` tells that it was the end.
"""

from typing import BinaryIO, Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from capsule.secret.errors import CapsuleSecretError
from capsule.secret.stretching import MODERATE, Stretched

__all__ = ["FRAME_BYTES", "SealedReader", "SealedWriter"]

FRAME_BYTES: Final = 64 << 10
_OVERHEAD: Final = sodium.crypto_secretstream_xchacha20poly1305_ABYTES
_FINAL: Final = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE: Final = sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_MAGIC: Final = b"sonar backup 1\n"
_PERSON: Final = b"sonar backup"


class SealedWriter:
    """Writes a sealed file; what is not finished does not open."""

    def __init__(self, file: BinaryIO, passphrase: str, *, cost: tuple[int, int] = MODERATE) -> None:
        stretched = Stretched.create(passphrase, cost, magic=_MAGIC)
        self._file, self._header, self._state = (
            file,
            stretched.header,
            sodium.crypto_secretstream_xchacha20poly1305_state(),
        )
        self._waiting = bytearray()
        file.write(
            stretched.header
            + sodium.crypto_secretstream_xchacha20poly1305_init_push(self._state, stretched.key(_PERSON))
        )

    def write(self, data: bytes) -> None:
        """Appends data of any length."""
        view = memoryview(data)
        while view:
            taken = min(len(view), FRAME_BYTES - len(self._waiting))
            self._waiting += view[:taken]
            view = view[taken:]
            if len(self._waiting) == FRAME_BYTES and view:
                self._send(_MESSAGE)

    def finish(self) -> None:
        """Ends the stream."""
        self._send(_FINAL)

    def _send(self, tag: int) -> None:
        message = sodium.crypto_secretstream_xchacha20poly1305_push(
            self._state, bytes(self._waiting), self._header, tag
        )
        self._waiting.clear()
        self._file.write(len(message).to_bytes(4, "big") + message)


class SealedReader:
    """Reads a sealed file; each byte that it gives was written by who knows the passphrase, in this order.

    Raises CapsuleSecretError for a wrong passphrase and for any other file.
    """

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file, self._state = file, sodium.crypto_secretstream_xchacha20poly1305_state()
        self._header = file.read(Stretched.size(_MAGIC))
        if not self._header.startswith(_MAGIC):
            raise CapsuleSecretError("the file is not a Capsule's backup: give one that `capsule backup` wrote")
        stretched = Stretched.of(passphrase, self._header, magic=_MAGIC, what="this backup")
        stream_header = file.read(sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
        if len(stream_header) != sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES:
            raise _damaged()
        sodium.crypto_secretstream_xchacha20poly1305_init_pull(self._state, stream_header, stretched.key(_PERSON))
        self._waiting, self._place, self._ended = b"", 0, False

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; raises CapsuleSecretError where the stream ends before."""
        parts = []
        while size > 0:
            if self._place == len(self._waiting):
                self._receive()
            part = self._waiting[self._place : self._place + size]
            self._place += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Raises CapsuleSecretError unless everything was read and the file ends here."""
        while not self._ended:
            if self._place != len(self._waiting):
                raise _damaged()
            self._receive()
        if self._place != len(self._waiting) or self._file.read(1):
            raise _damaged()

    def _receive(self) -> None:
        length = int.from_bytes(self._file.read(4), "big")
        if self._ended or not _OVERHEAD <= length <= FRAME_BYTES + _OVERHEAD:
            raise _damaged()
        message = self._file.read(length)
        if len(message) != length:
            raise _damaged()
        try:
            self._waiting, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(self._state, message, self._header)
        except (CryptoError, RuntimeError, ValueError):
            raise _damaged() from None
        self._place, self._ended = 0, tag == _FINAL


def _damaged() -> CapsuleSecretError:
    return CapsuleSecretError("the backup is cut or damaged: nothing was restored from it, use another one")
