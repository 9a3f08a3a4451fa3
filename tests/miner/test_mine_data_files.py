"""Files as owners have them: packed, arrays of JSON, without a header, of other programs; read, or told of."""

import gzip
import json
import sqlite3

import numpy as np
import pytest

from mine.data import Kind, Source, inspect
from mine.errors import DataError


def packed(data: bytes) -> bytes:
    """The same bytes at any time."""
    return gzip.compress(data, mtime=0)


TABLE = "age,dose,outcome\n30,1.5,ill\n51,2.5,well\n44,3.5,ill\n"
ROWS = [{"age": 30, "dose": 1.5, "outcome": "ill"}, {"age": 51, "dose": 2.5, "outcome": "well"},
        {"age": 44, "dose": 3.5, "outcome": "ill"}]  # fmt: skip
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", TABLE),
        ("t.csv.gz", packed(TABLE.encode())),
        ("t.TSV.GZ", packed(TABLE.replace(",", "\t").encode())),
        ("two.csv.gz", packed(TABLE[:20].encode()) + packed(TABLE[20:].encode())),
        ("t.jsonl", LINES),
        ("t.jsonl.gz", packed(LINES.encode())),
        ("t.json", json.dumps(ROWS)),
        ("t.json", "\ufeff \n" + json.dumps(ROWS, indent=2)),
        ("t.json.gz", packed(json.dumps(ROWS).encode())),
    ],
)
def test_the_same_records_are_read_whatever_they_are_packed_in(tmp_path, name, data):
    dataset = inspect("d", Source.of(write(tmp_path / name, data)), "outcome")
    assert (dataset.records, dict(dataset.labels)) == (3, {"ill": 2, "well": 1})
    assert [(one.name, one.minimum, one.maximum) for one in dataset.columns] == [("age", 30, 51), ("dose", 1.5, 3.5)]


def test_packed_files_are_read_by_a_query_too(tmp_path):
    write(tmp_path / "t.csv.gz", packed(TABLE.encode()))
    dataset = inspect("d", Source.of(tmp_path, query="SELECT * FROM 't.csv.gz'"), "outcome")
    assert dataset.records == 3


def test_several_arrays_are_one_data_set_but_not_with_lines_among_them(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", json.dumps(ROWS))
    source = Source.of(str(tmp_path / "*.json"))
    assert inspect("d", source, "outcome").records == 6
    write(tmp_path / "c.json", LINES)
    with pytest.raises(DataError, match="is an array and the other has lines: add them one by one"):
        inspect("d", source, "outcome")


def many():
    rng = np.random.default_rng(1)
    rows = "".join(f"{age},{dose!r},{label}\n" for age, dose, label in
                   zip(range(2000), rng.normal(size=2000).tolist(), ["ill", "well"] * 1000, strict=True))  # fmt: skip
    return packed(TABLE[:17].encode() + rows.encode())


@pytest.mark.parametrize("spoil", ["cut", "checksum", "no gzip"])
def test_a_packed_file_that_is_not_whole_is_refused(tmp_path, spoil):
    data = many()
    spoilt = {"cut": data[: len(data) // 2], "checksum": data[:-8] + bytes(4) + data[-4:], "no gzip": TABLE.encode()}
    path = write(tmp_path / "t.csv.gz", spoilt[spoil])
    with pytest.raises(DataError, match="is cut off or no whole gzip file: copy it again"):
        inspect("d", Source.of(path), "outcome")


def test_a_packed_line_without_end_takes_no_more_memory_than_a_line_may(tmp_path):
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"age,dose,outcome\n1,")
        for _ in range(20):
            file.write(bytes(1 << 20).replace(b"\0", b"1"))
    with pytest.raises(DataError, match="not a readable CSV file") as caught:
        inspect("d", Source.of(path), "outcome")
    assert len(str(caught.value)) < 1000
    assert "111" not in str(caught.value).replace(str(path), "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("t.xlsx", "is a spreadsheet: save its sheet as CSV"),
        ("t.ods", "is a spreadsheet"),
        ("t.zip", "packed in a way that is not read: unpack it, or pack the one file with gzip"),
        ("t.csv.bz2", "packed in a way that is not read"),
        ("t.sav", "is of another program: export it as CSV or Parquet"),
        ("t.parquet.gz", "is packed: unpack it, only CSV and JSON"),
    ],
)
def test_a_file_of_a_kind_that_is_not_read_is_told_by_its_name(tmp_path, name, says):
    with pytest.raises(DataError, match=says):
        Source.of(write(tmp_path / name, TABLE))


@pytest.mark.parametrize(
    ("beginning", "says"),
    [
        (b"PK\x03\x04\x14\x00", "no CSV file but a ZIP archive or a spreadsheet"),
        (packed(b"a"), "no CSV file but packed with gzip: give its name the ending .gz"),
        (b"PAR1\x15", "no CSV file but a Parquet file"),
        (b"SQLite format 3\0", "no CSV file but an SQLite database"),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_beginning(tmp_path, beginning, says):
    with pytest.raises(DataError, match=says):
        inspect("d", Source.of(write(tmp_path / "t.csv", beginning)), "outcome")


@pytest.mark.parametrize("target", ["outcome", "1", "63.25"])
@pytest.mark.parametrize("text", ["63.25;Miller;1\n22;Smith;0\n", "63.25,1,1\n22,0,0\n", "-3,5;Miller;1\n"])
def test_a_file_without_a_header_is_told_and_no_record_shown(tmp_path, text, target):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match="seems to have no header row: its first line looks like a record") as caught:
        inspect("d", Source.of(path), target)
    told = str(caught.value).replace(str(path), "").replace(repr(target), "")
    assert not [cell for cell in ("63.25", "Miller", "3,5") if cell in told]


def test_words_that_may_be_a_records_are_not_shown(tmp_path):
    path = write(tmp_path / "t.csv", "Miller,female,ill\nSmith,male,well\n")
    with pytest.raises(DataError, match="no column 'outcome': its first line has 3 cells, none of them that"):
        inspect("d", Source.of(path), "outcome")
    with pytest.raises(DataError, match="its first line names 'age', 'dose', 'outcome'"):
        inspect("d", Source.of(write(path, TABLE)), "result")


def test_columns_that_are_named_by_numbers_are_columns(tmp_path):
    path = write(tmp_path / "t.csv", "0,1,2\n5,6,ill\n7,8,well\n")
    assert [one.name for one in inspect("d", Source.of(path), "2").columns] == ["0", "1"]


CAST = "SELECT age, dose::DOUBLE AS dose, outcome FROM read_csv('t.csv', all_varchar=true)"
WIDE = "SELECT * FROM read_csv('t.csv', auto_detect=false, columns={'age': 'INT', 'dose': 'TEXT', 'outcome': 'TEXT'})"
DATE = "SELECT age, year(strptime(dose, '%Y')) AS dose, outcome FROM read_csv('t.csv', all_varchar=true)"


@pytest.mark.parametrize(
    ("name", "text", "query", "says"),
    [
        ("t.csv", TABLE + "61,hunter2\n", None, "Expected Number of Columns: 3 Found: 2"),
        ("t.csv", TABLE + "61,hunter2\n", WIDE, "CSV Error on Line: "),
        ("t.csv", TABLE + "61,hunter2,ill\n", CAST, "CSV Error on Line: 5"),
        ("t.csv", TABLE + "61,hunter2,ill\n", DATE, "a value that the query's functions cannot take"),
        ("t.jsonl", LINES + '{"age": 1, "dose": "hunter2\n', None, "not a readable file of JSON lines"),
    ],
)
def test_no_error_repeats_what_stands_in_a_record(tmp_path, name, text, query, says):
    path = write(tmp_path / name, text)
    source = Source.of(path) if query is None else Source.of(tmp_path, query=query)
    with pytest.raises(DataError, match=says) as caught:
        inspect("d", source, "outcome")
    assert "hunter2" not in str(caught.value)


def test_a_file_is_known_by_its_name_whatever_it_is_packed_in(tmp_path):
    kinds = {"a.csv.gz": Kind.CSV, "b.json.gz": Kind.JSONL, "c.gz": Kind.CSV, "d.json": Kind.JSONL}
    assert {name: Source.of(tmp_path / name).kind for name in kinds} == kinds
    with sqlite3.connect(tmp_path / "e.db"):
        assert Source.of(tmp_path / "e.db", table="t").kind is Kind.SQLITE
