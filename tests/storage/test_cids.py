"""CIDs: known ones, and strangers' texts that are none."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonar.storage import InvalidCidError, check_cid
from sonar.storage.cids import downgraded_cid, raw_cid, raw_digest, upgraded_cid
from sonar.units import digest_of

# What `ipfs add --cid-version=1` and `ipfs add` print for the empty file.
EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY_V0 = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
EMPTY_DAG = "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"


def text_of(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().rstrip("=").lower()


def test_the_cid_of_nothing_is_the_known_one() -> None:
    assert raw_cid(b"") == EMPTY_RAW
    assert upgraded_cid(EMPTY_V0) == EMPTY_DAG
    assert downgraded_cid(check_cid(EMPTY_DAG)) == EMPTY_V0
    assert downgraded_cid(raw_cid(b"")) is None


def test_a_raw_cid_promises_a_digest_and_a_unixfs_cid_does_not() -> None:
    assert raw_digest(raw_cid(b"abc")) == digest_of(b"abc")
    assert raw_digest(check_cid(EMPTY_DAG)) is None


@given(st.binary(max_size=100))
def test_every_raw_cid_is_valid(data: bytes) -> None:
    assert check_cid(raw_cid(data)) == raw_cid(data)


@given(st.text(max_size=120))
def test_other_text_is_refused_with_one_error(text: str) -> None:
    with pytest.raises(InvalidCidError):
        check_cid(text)


@pytest.mark.parametrize(
    "text",
    [
        EMPTY_V0,
        EMPTY_RAW.upper(),
        EMPTY_RAW[0] + EMPTY_RAW[1:].upper(),
        EMPTY_RAW + "=",
        EMPTY_RAW + "\n",
        " " + EMPTY_RAW,
        EMPTY_RAW[:-1],
        EMPTY_RAW[:-1] + "v",  # the same bytes, with a bit too many
        "z" + EMPTY_RAW[1:],
        text_of(b"\x01\x55\x00\x20" + bytes(32)),  # identity: the content itself
        text_of(b"\x01\x71\x12\x20" + bytes(32)),  # dag-cbor
        text_of(b"\x01\x55\x12\x20" + bytes(33)),
        text_of(b"\x02\x55\x12\x20" + bytes(32)),
    ],
)
def test_another_spelling_version_codec_or_hash_is_refused(text: str) -> None:
    with pytest.raises(InvalidCidError):
        check_cid(text)


@pytest.mark.parametrize("text", ["", "Qm", EMPTY_V0[:-1], EMPTY_V0[:-1] + "0", EMPTY_RAW, "Qm" + "z" * 44])
def test_only_a_sha256_cid_of_version_0_is_upgraded(text: str) -> None:
    with pytest.raises(InvalidCidError):
        upgraded_cid(text)
