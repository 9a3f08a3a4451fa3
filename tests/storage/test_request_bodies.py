"""Request bodies of the embedded node: every way to cut them, and bytes that are none."""

from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfshttpclient import multipart

from sonar.storage._bodies import BadBodyError, BodyTooLargeError, body_pieces, form_file


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        if data:
            yield data[:size]
            data = data[size:]
    if data:
        yield data


def chunked(pieces: Iterator[bytes]) -> bytes:
    return b"".join(b"%x;note\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\nTrailer: x\r\n\r\n"


@given(st.binary(max_size=500), st.lists(st.integers(1, 60), max_size=50))
def test_a_body_comes_out_as_it_went_in(data: bytes, sizes: list[int]) -> None:
    plain = body_pieces(BytesIO(data + b"next"), headers(Content_Length=str(len(data))), 500)
    assert b"".join(plain) == data
    stream = BytesIO(chunked(cut(data, sizes)) + b"next")
    assert b"".join(body_pieces(stream, headers(Transfer_Encoding="chunked"), 500)) == data
    assert stream.read() == b"next"


@given(st.binary(max_size=500), st.lists(st.integers(1, 60), max_size=50))
def test_the_file_that_the_client_library_sends_comes_out_however_it_is_cut(data: bytes, sizes: list[int]) -> None:
    body, head = multipart.stream_bytes(data)
    assert b"".join(form_file(cut(b"".join(body), sizes), head["Content-Type"])) == data


def test_content_that_looks_like_a_boundary_is_content() -> None:
    body = b"--B\r\nA: b\r\n\r\n\r\n--\r\n--C\r\n\r\n--B--\r\n"
    assert b"".join(form_file(iter([body]), "multipart/form-data; boundary=B")) == b"\r\n--\r\n--C\r\n"


@given(st.binary(max_size=300))
def test_any_other_bytes_are_one_error(data: bytes) -> None:
    with pytest.raises(BadBodyError):
        list(form_file(iter([data]), "multipart/form-data; boundary=BOUNDARY"))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_chunks_are_one_error_or_a_body(data: bytes) -> None:
    with suppress(BadBodyError, BodyTooLargeError):
        assert len(b"".join(body_pieces(BytesIO(data), headers(Transfer_Encoding="chunked"), 300))) <= 300


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--B\r\n\r\nx\r\n--B--", "application/json"),
        (b"--B\r\n\r\nx\r\n--B--", "multipart/form-data"),
        (b"--B\r\nA: b\r\n\r\nx", "multipart/form-data; boundary=B"),
        (b"--B\r\nA: b\r\n\r\nx\r\n--B\r\nA: b\r\n\r\ny\r\n--B--", "multipart/form-data; boundary=B"),
        (b"--B\r\nA: " + b"b" * 9000 + b"\r\n\r\nx\r\n--B--", "multipart/form-data; boundary=B"),
    ],
)
def test_a_form_without_exactly_one_file_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(BadBodyError):
        list(form_file(iter([body]), kind))


@pytest.mark.parametrize("length", ["-1", "ten", "9" * 30, "\N{SUPERSCRIPT TWO}"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(BadBodyError):
        list(body_pieces(BytesIO(b"x"), headers(Content_Length=length), 100))


def test_a_body_is_cut_off_at_its_limit_without_reading_on() -> None:
    stream = BytesIO(bytes(10**6))
    with pytest.raises(BodyTooLargeError):
        list(body_pieces(stream, headers(Content_Length="1000000"), 1000))
    assert stream.tell() <= 64 * 1024


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(BadBodyError):
        list(body_pieces(BytesIO(b"abc"), headers(Content_Length="4"), 100))
