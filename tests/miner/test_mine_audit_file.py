"""The audit log's file: nothing in it can be edited, cut or added unnoticed, and a power cut costs nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mine.audit import RESTARTED, AuditEntry, AuditFile, AuditHead
from mine.errors import AuditError

ENTRIES = 5
KEY = bytes(range(32))


def chain(length: int = ENTRIES, *, kind: str = "posted") -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(length):
        head = entries[-1].head if entries else AuditHead()
        entries.append(
            AuditEntry.after(head, 1_700_000_000 + number, kind, {"round": number, "gradient": bytes(2)}, KEY)
        )
    return entries


@pytest.fixture
def file(tmp_path: Path) -> AuditFile:
    log = AuditFile(tmp_path / "audit.jsonl", KEY)
    log.append(chain())
    return log


def first_difference(file: AuditFile, expected: AuditHead) -> int:
    with pytest.raises(AuditError) as caught:
        file.verify(expected)
    assert caught.value.line is not None
    assert f"line {caught.value.line} of the audit log" in str(caught.value)
    return caught.value.line


def test_an_entry_is_hashed_and_written_as_it_is_written_down():
    # Computed by hand with `printf ... | sha256sum` from the layout in sonar.hashchain, and the seal with
    # `openssl dgst -sha256 -mac HMAC -macopt hexkey:...` of its label and the hash's bytes.
    expected = "810c716dcd77f36c85422aa9795f678c21a0ddb6c3250544cfb0d82c6d24e6f0"
    entry = AuditEntry.after(AuditHead(), 0.000_002, "kind", {}, KEY)
    assert entry.hash.hex() == expected
    assert entry.line.decode() == (
        f'{{"facts":{{}},"hash":"{expected}","kind":"kind","previous":"{"0" * 64}",'
        '"seal":"2313d9c6d9c81e97d4a12f55c807fab432ddf75d83f82e16a6c1bb91b755c398","sequence":1,"time":2}'
    )


def test_what_was_appended_is_read_again_in_order(file):
    assert list(file.entries()) == chain()
    assert file.verify(chain()[-1].head) == chain()[-1].head == file.head()
    assert [entry.facts for entry in file.entries()][1] == '{"gradient":"0x0000","round":1}'


def test_an_empty_log_is_whole(tmp_path):
    assert (
        AuditFile(tmp_path / "none", KEY).verify(AuditHead()) == AuditHead() == AuditFile(tmp_path / "none", KEY).head()
    )


def test_entries_that_are_there_already_are_not_written_twice(file):
    before = file.path.read_bytes()
    assert not file.append(chain()[2:])
    assert file.path.read_bytes() == before
    file.append(chain(7)[3:])
    assert list(file.entries()) == chain(7)


def test_only_the_owner_of_the_home_may_read_it(file):
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="cannot be opened"):
        AuditFile(tmp_path / "audit.jsonl", KEY).append(chain())
    assert not (tmp_path / "elsewhere").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_change_of_a_byte_is_found_in_its_line(file, data):
    whole = b"".join(entry.line + b"\n" for entry in chain())
    place = data.draw(st.integers(0, len(whole) - 2))  # the last line's end is a torn line's
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    file.path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    assert first_difference(file, chain()[-1].head) == whole[:place].count(b"\n") + 1


@pytest.mark.parametrize("gone", range(ENTRIES))
def test_a_line_that_was_taken_out_is_found(file, gone):
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    assert first_difference(file, chain()[-1].head) == gone + 1


@pytest.mark.parametrize("first", range(ENTRIES - 1))
def test_two_lines_in_another_order_are_found(file, first):
    lines = file.path.read_bytes().splitlines(keepends=True)
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    file.path.write_bytes(b"".join(lines))
    assert first_difference(file, chain()[-1].head) == first + 1


def test_a_log_that_was_computed_anew_is_found_against_the_ledger(file):
    file.path.unlink()
    file.append(chain(kind="judged"))
    assert first_difference(file, chain()[-1].head) == ENTRIES


def test_a_log_that_was_computed_anew_and_is_longer_is_found_against_the_ledger(file):
    file.path.unlink()
    file.append(chain(9, kind="judged"))
    assert first_difference(file, chain()[-1].head) == ENTRIES


def test_what_others_added_is_found_against_the_ledger(file):
    file.append(chain(7))
    assert first_difference(file, chain()[-1].head) == ENTRIES + 1


def test_well_chained_entries_of_others_are_found_in_their_first_line(file):
    forged = AuditEntry.after(file.head(), 1_800_000_000, "judged", {"payout_wei": 10**18}, bytes(32))
    with file.path.open("ab") as stream:
        stream.write(forged.line + b"\n")
    assert first_difference(file, chain()[-1].head) == ENTRIES + 1
    for use in (file.head, lambda: list(file.entries()), lambda: file.newer(chain()[-1].head)):
        with pytest.raises(AuditError, match="entry 6 was not written by this mine's ledger"):
            use()


def test_what_a_ledger_does_not_know_yet_is_what_comes_after_its_last_entry(file):
    for known in range(1, ENTRIES + 1):
        assert file.newer(chain()[known - 1].head) == chain()[known:]
    assert file.newer(AuditHead()) == chain()
    with pytest.raises(AuditError, match="does not end with entry 3, as it was left, but with 5"):
        file.newer(chain(3, kind="judged")[-1].head)


def test_what_a_broken_log_still_tells_ends_before_the_first_line_that_differs(file):
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join([*lines[:3], lines[3].replace(b"posted", b"judged"), lines[4]]))
    assert file.salvage(chain()[0].head) == chain()[1:3]
    assert file.salvage(chain()[4].head) == []


def test_the_key_of_seals_is_in_no_repr(file):
    assert repr(file) == f"AuditFile({str(file.path)!r})"


def test_a_head_that_was_noted_before_must_be_in_the_log(file):
    assert file.verify(noted=chain()[2].hash).length == ENTRIES
    with pytest.raises(AuditError, match="is not among the 5"):
        file.verify(noted=bytes(range(32)))


def test_a_cut_tail_is_not_written_over(file):
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(AuditError, match="ends with entry 3, and the mine's next one is 6"):
        file.append(chain(6)[5:])
    assert file.path.read_bytes() == b"".join(lines[:3])


def test_another_last_entry_is_not_written_after(file):
    file.path.unlink()
    file.append(chain(kind="judged"))
    for entries in (chain(6)[4:], chain(6)[3:4]):
        with pytest.raises(AuditError, match=f"another entry {min(5, entries[-1].sequence)}"):
            file.append(entries)


@pytest.mark.parametrize("left", [1, 10, -1])
def test_a_torn_last_line_is_written_again(file, left):
    new = chain(6)[5]
    with file.path.open("ab") as torn:
        torn.write(new.line[:left])
    assert file.verify(chain()[-1].head) == chain()[-1].head
    assert file.append([new])
    assert list(file.entries()) == chain(6)


def test_a_torn_first_line_is_written_again(tmp_path):
    file = AuditFile(tmp_path / "audit.jsonl", KEY)
    file.path.write_bytes(b'{"facts"')
    assert file.append(chain())
    assert list(file.entries()) == chain()


def test_a_last_line_of_any_length_is_found_again(tmp_path):
    file = AuditFile(tmp_path / "audit.jsonl", KEY)
    head = AuditHead()
    for length in (1, 65_400, 65_536, 200_000, 3):
        entry = AuditEntry.after(head, 0, "kind", {"text": "x" * length}, KEY)
        file.append([entry])
        head = entry.head
        assert file.head() == head
    assert file.verify(head) == head


@pytest.mark.parametrize("data", [b"\n", b"{}\n", b"[" * 10_000 + b"\n", b"\xff\n", b"x" * (1 << 22), b"1e999\n"])
def test_bytes_that_are_no_entry_are_an_error_and_nothing_else(tmp_path, data):
    file = AuditFile(tmp_path / "audit.jsonl", KEY)
    file.path.write_bytes(data)
    if data.endswith(b"\n"):
        assert first_difference(file, chain()[-1].head) == 1
    for use in (lambda: file.append(chain()), file.head, lambda: file.verify(chain()[-1].head)):
        with pytest.raises(AuditError):
            use()


def test_text_that_is_none_is_written_as_text(tmp_path):
    file = AuditFile(tmp_path / "audit.jsonl", KEY)
    file.append(
        [AuditEntry.after(AuditHead(), 0, "kind", {os.fsdecode(b"\xff"): [os.fsdecode(b"a\xfe"), 10**30]}, KEY)]
    )
    (entry,) = file.entries()
    assert entry.facts == '{"\\\\udcff":["a\\\\udcfe",' + str(10**30) + "]}"


def test_only_the_entry_of_a_restart_begins_a_file_that_is_not_the_first(tmp_path):
    head = chain()[-1].head
    restarted, plain = (AuditEntry.after(head, 0, kind, {}, KEY) for kind in (RESTARTED, "posted"))
    file = AuditFile(tmp_path / "audit.jsonl", KEY)
    with pytest.raises(AuditError, match="ends with entry 0, and the mine's next one is 6"):
        file.append([plain])
    file.append([restarted])
    after = AuditEntry.after(restarted.head, 1, "posted", {}, KEY)
    file.append([after])
    assert file.verify(after.head).length == ENTRIES + 2
    file.path.write_bytes(restarted.line + b"\n")
    assert first_difference(file, after.head) == 2
    file.path.write_bytes(plain.line + b"\n")
    assert first_difference(file, plain.head) == 1
