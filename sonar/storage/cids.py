"""CIDs as Sonar writes them: version 1, base32, SHA-256, one text per content.

A CID comes from an event, so it is a stranger's text that becomes a file name or an RPC argument: it is parsed
completely, and anything but the one spelling of an allowed CID is refused.
"""

import base64
import binascii
import re

from sonar.storage.errors import InvalidCidError
from sonar.units import Cid, Digest, digest_of

__all__ = ["RAW_BLOCK", "check_cid", "cid_of", "downgraded_cid", "raw_cid", "raw_digest", "upgraded_cid"]

RAW_BLOCK = 256 * 1024
"""The largest content, in bytes, that IPFS keeps in one raw block; its CID holds the content's own SHA-256."""

_LONGEST = 100
_RAW, _DAG_PB = b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"  # version, codec, sha2-256, 32 bytes
_LENGTH = len(_RAW) + 32
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VERSION_0 = re.compile(f"Qm[{_BASE58}]{{44}}")


def raw_cid(data: bytes) -> Cid:
    """The CID of `data` as one raw block."""
    return cid_of(digest_of(data))


def cid_of(digest: Digest) -> Cid:
    """The CID of the content with this SHA-256 as one raw block, which contents of up to RAW_BLOCK bytes are."""
    return _encode(_RAW + digest)


def upgraded_cid(text: str) -> Cid:
    """The version 1 of a version 0 CID, 'Qm...' in base 58; raises InvalidCidError."""
    if not _VERSION_0.fullmatch(text):
        raise InvalidCidError(f"{text[:_LONGEST]!r} is not a CID of version 0")
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.index(letter)
    data = number.to_bytes(34, "big")
    if not data.startswith(_DAG_PB[2:]):
        raise InvalidCidError(f"{text!r} is not the CID of a SHA-256")
    return _encode(_DAG_PB[:2] + data)


def downgraded_cid(cid: Cid) -> str | None:
    """The version 0 of a UnixFS node's CID, None for a raw block, which has none."""
    data = _decode(cid)
    if not data.startswith(_DAG_PB):
        return None
    number, text = int.from_bytes(data[2:], "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return text


def check_cid(text: str) -> Cid:
    """The text as a CID; raises InvalidCidError unless it is a base32 CIDv1 of a raw or UnixFS block."""
    _decode(text)
    return Cid(text)


def raw_digest(cid: Cid) -> Digest | None:
    """The SHA-256 of the content that a raw CID promises, None for a UnixFS node; raises InvalidCidError."""
    data = _decode(cid)
    return Digest(data[len(_RAW) :]) if data.startswith(_RAW) else None


def _encode(data: bytes) -> Cid:
    return Cid("b" + base64.b32encode(data).decode().rstrip("=").lower())


def _decode(text: str) -> bytes:
    if len(text) > _LONGEST:
        raise InvalidCidError(f"a CID of {len(text)} characters is too long: Sonar's have 59")
    # Upper case and padding are other spellings of the same content.
    if text.startswith("b") and text.isascii() and text == text.lower():
        body = text[1:].upper()
        try:
            data = base64.b32decode(body + "=" * (-len(body) % 8))
        except binascii.Error as error:
            raise _refusal(text) from error
        if len(data) == _LENGTH and data.startswith((_RAW, _DAG_PB)) and _encode(data) == text:
            return data
    raise _refusal(text)


def _refusal(text: str) -> InvalidCidError:
    return InvalidCidError(f"{text!r} is not a CID of Sonar: it must be a base32 CIDv1 of a SHA-256, raw or UnixFS")
