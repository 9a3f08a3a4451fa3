"""Sealed files and the rows in them: whatever goes in comes out, and nothing comes out of any other bytes."""

import io
import json
import struct
from pathlib import Path

import pytest
from custody import CHEAP
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.custody.rows import end_table, read_rows, read_text, write_row, write_text
from capsule.secret import CapsuleSecretError
from capsule.secret.stream import FRAME_BYTES, SealedReader, SealedWriter

GOLDEN = Path(__file__).parent / "golden" / "backup.json"
WORDS = "of the backup"

values = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
sizes = st.sampled_from([0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES]) | st.integers(0, 999)


def sealed(*parts: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, WORDS, cost=CHEAP)
    for part in parts:
        writer.write(part)
    writer.finish()
    return file.getvalue()


@settings(max_examples=50)
@given(written=st.lists(sizes, max_size=6), read=st.lists(sizes, max_size=6))
def test_what_was_written_is_read_however_it_is_cut(written: list[int], read: list[int]) -> None:
    data = [bytes([number % 251]) * size for number, size in enumerate(written)]
    whole = b"".join(data)
    reader, place = SealedReader(io.BytesIO(sealed(*data)), WORDS), 0
    for size in read:
        size = min(size, len(whole) - place)
        assert reader.read(size) == whole[place : place + size]
        place += size
    assert reader.read(len(whole) - place) == whole[place:]
    reader.finish()
    with pytest.raises(CapsuleSecretError):
        reader.read(1)


def test_what_is_left_unread_is_noticed() -> None:
    for size, left in ((1, 1), (FRAME_BYTES, 1), (2 * FRAME_BYTES, FRAME_BYTES)):
        reader = SealedReader(io.BytesIO(sealed(bytes(size + left))), WORDS)
        reader.read(size)
        with pytest.raises(CapsuleSecretError, match="cut or damaged"):
            reader.finish()


def test_an_unfinished_stream_does_not_end() -> None:
    file = io.BytesIO()
    writer = SealedWriter(file, WORDS, cost=CHEAP)
    writer.write(bytes(3 * FRAME_BYTES))
    reader = SealedReader(io.BytesIO(file.getvalue()), WORDS)
    assert reader.read(2 * FRAME_BYTES) == bytes(2 * FRAME_BYTES)
    with pytest.raises(CapsuleSecretError, match="cut or damaged"):
        reader.read(1)


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_noticed_before_the_end(data: st.DataObject) -> None:
    bad = bytearray(_SEALED)
    place = data.draw(st.integers(0, len(bad) - 1))
    bad[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CapsuleSecretError):
        _read_all(bytes(bad))


@settings(max_examples=200)
@given(length=st.integers(0, 300))
def test_any_cut_is_noticed(length: int) -> None:
    with pytest.raises(CapsuleSecretError):
        _read_all(_SEALED[: min(length, len(_SEALED) - 1)])


def _read_all(data: bytes) -> None:
    reader = SealedReader(io.BytesIO(data), WORDS)
    reader.read(len(_PLAINTEXT))
    reader.finish()


def test_the_golden_file_opens() -> None:
    golden = json.loads(GOLDEN.read_text())
    reader = SealedReader(io.BytesIO(bytes.fromhex(golden["file"])), golden["passphrase"])
    plaintext = bytes.fromhex(golden["plaintext"])
    assert reader.read(len(plaintext)) == plaintext
    reader.finish()


# ---- rows


@given(rows=st.lists(st.tuples(values, values, values), max_size=8), text=st.text())
def test_rows_and_texts_come_back_with_their_types(rows: list[tuple[object, ...]], text: str) -> None:
    file = io.BytesIO()
    write_text(file.write, text)
    for row in rows:
        write_row(file.write, row)  # type: ignore[arg-type]
    end_table(file.write)
    reader = _Exactly(file.getvalue())
    assert read_text(reader) == text
    found = list(read_rows(reader, 3))
    assert found == rows
    assert [[type(value) for value in row] for row in found] == [[type(value) for value in row] for row in rows]


@settings(max_examples=500)
@given(data=st.binary(max_size=64))
def test_other_bytes_are_no_rows(data: bytes) -> None:
    try:
        rows = list(read_rows(_Exactly(data), 2))
    except CapsuleSecretError:
        return
    again = io.BytesIO()
    for row in rows:
        write_row(again.write, row)
    end_table(again.write)
    assert _same(data, again.getvalue())


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_numbers_that_no_database_holds_are_not_written(value: int) -> None:
    with pytest.raises(OverflowError):
        write_row(io.BytesIO().write, (value,))


def test_a_length_beyond_any_value_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(CapsuleSecretError):
        list(read_rows(_Exactly(b"rb" + struct.pack(">Q", 1 << 40)), 1))


def _same(read: bytes, written: bytes) -> bool:
    """Whether bytes that were read as rows are those that rows are written as; NaN has many bytes."""
    return read.startswith(written) or b"f" in written


class _Exactly:
    """A reader of bytes in memory, which ends as a sealed one does."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise CapsuleSecretError("cut")
        return data


_PLAINTEXT = b"what is sealed"
_SEALED = sealed(_PLAINTEXT)
