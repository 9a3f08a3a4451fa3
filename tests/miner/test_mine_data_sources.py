"""Every adapter alike: the same records give the same sums; what is empty, huge, malformed or hostile is refused."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from mine.data import Dataset, Kind, Source, file_state, gather, inspect, match
from mine.data.footprint import source_files
from mine.errors import DataError
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec

ROWS = [(0.5, 3, "yes"), (-1.25, 0, "no"), (2.0, 7, "no"), (1e3, -2, "yes"), (0.0, 1, "no")]
TABLE = "x,k,outcome,note\n" + "".join(f"{x!r},{k},{label},n{at}\n" for at, (x, k, label) in enumerate(ROWS))
MAKERS: dict[str, Callable[[Path], Source]] = {}


def maker(function: Callable[[Path], Source]) -> Callable[[Path], Source]:
    MAKERS[function.__name__] = function
    return function


def copied(folder: Path, name: str, how: str) -> Path:
    """The table, written by DuckDB."""
    plain, path = folder / "plain.csv", folder / name
    plain.write_text(TABLE)
    with duckdb.connect() as database:
        database.execute(
            f"COPY (SELECT x::DOUBLE AS x, k::INT AS k, outcome, note FROM read_csv('{plain}', all_varchar=true)) "
            f"TO '{path}' ({how})"
        )
    plain.unlink()
    return path


def sqlite_file(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    path = folder / "clinic.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE visits (x REAL, k INTEGER, outcome TEXT, note TEXT)")
        db.executemany("INSERT INTO visits VALUES (?, ?, ?, 'text')", rows)
    db.close()
    return path


@maker
def csv(folder):
    (folder / "t.csv").write_text(TABLE)
    return Source.of(folder / "t.csv")


@maker
def parquet(folder):
    return Source.of(copied(folder, "t.parquet", "FORMAT parquet"))


@maker
def several_parquet_files(folder):
    copied(folder, "a.parquet", "FORMAT parquet")
    return Source.of(str(folder / "*.parquet"))


@maker
def json_lines(folder):
    return Source.of(copied(folder, "t.jsonl", "FORMAT json"))


@maker
def a_sqlite_table(folder):
    return Source.of(sqlite_file(folder, ROWS), table="visits")


@maker
def a_sqlite_query(folder):
    return Source.of(sqlite_file(folder, [*ROWS, (9.0, 9, "yes")]), query="SELECT * FROM visits WHERE k < 9;")


@maker
def sql_over_parquet(folder):
    copied(folder, "t.parquet", "FORMAT parquet")
    return Source.of(folder, query="SELECT * FROM read_parquet('*.parquet')")


@maker
def sql_that_joins_files(folder):
    copied(folder, "t.parquet", "FORMAT parquet")
    (folder / "codes.csv").write_text("outcome,meaning\nyes,ill\nno,well\n")
    query = "SELECT t.* FROM 't.parquet' t JOIN read_csv(['codes.csv']) USING (outcome) ORDER BY note"
    return Source.of(folder, query=query)


def spec(**changes) -> Spec:
    values = {
        "name": "test", "features": ({"name": "x"}, {"name": "k", "type": "integer"}), "classes": ("no", "yes"),
        "min_records": 2, "payout": {"target": 900_000}, "target_column": "outcome",
    }  # fmt: skip
    return Spec.build(**{**values, **changes})


def gathered(source: Source, on_bad="refuse", of: Spec | None = None):
    dataset = inspect("d", source, "outcome")
    return gather(dataset, match(dataset, of or spec()), of or spec(), on_bad)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_same_records_give_the_same_sums_whatever_holds_them(make, tmp_path):
    source = make(tmp_path)
    dataset = inspect("d", source, "outcome")
    assert Dataset.parse(dataset.to_text()) == dataset
    assert dataset.labels == (("no", 3), ("yes", 2))
    assert [(c.name, c.type, c.minimum, c.maximum) for c in dataset.columns if c.name != "outcome"] == [
        ("x", "number", -1.25, 1000.0), ("k", "integer", -2.0, 7.0)
    ]  # fmt: skip
    assert dataset.left == ("note",)
    found, read = gather(dataset, match(dataset, spec()), spec())
    design = design_matrix(spec(), np.array([row[:2] for row in ROWS], dtype=float))
    one_hot = np.eye(2)[[int(row[2] == "yes") for row in ROWS]]
    np.testing.assert_allclose(found.gram, design.T @ design, rtol=1e-12)
    np.testing.assert_allclose(found.moment, design.T @ one_hot, rtol=1e-12)
    assert (read.rows, read.used, read.dropped) == (5, 5, ())
    assert read.fingerprint == dataset.fingerprint
    assert read.columns == ("x", "k", "outcome")


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.parquet", b"", "is empty"),
        ("t.parquet", b"PAR1" + b"\0" * 60, "not a readable Parquet file"),
        ("t.parquet", b"x,outcome\n1,yes\n", "not a readable Parquet file"),
        ("t.jsonl", b"", "is empty"),
        ("t.jsonl", b'[{"x": 1, "outcome": "yes"}]', "only the class"),
        ("t.jsonl", b"[1, 2, 3]", "no column 'outcome'"),
        ("t.jsonl", b'[{"x": 1, "outcome": "yes"}, {"x": 2, "outc', "not a readable file of JSON"),
        ("t.jsonl", b'{"x": ' + b"[" * 9999 + b"]" * 9999 + b"}\n", "not a readable file of JSON lines"),
        ("t.csv", "x,outcome\n1,yes\n".encode("utf-16"), "is not UTF-8"),
        ("t.csv", b"x,a\x1b[2Jb,outcome\n1,2,yes\n", "cannot be shown"),
        ("t.jsonl", b'{"x": 1, "outcome": "yes"}\n{"x": 2, "outc', "not a readable file of JSON lines"),
        ("t.jsonl", b'{"x": 1, "outcome": "yes"}\nnull and void\n', "not a readable file of JSON lines"),
        ("t.jsonl", b'{"x": 1, "outcome": "y\xff"}\n' * 3, "not a readable file of JSON lines"),
        ("t.jsonl", b'{"x": 1, "X": 2, "outcome": "yes"}\n', "only the class"),
        ("t.sqlite", b"", "no such table"),
        ("t.sqlite", b"SQLite format 3\0" + b"\xff" * 200, "cannot be read with SQLite"),
    ],
)
def test_a_malformed_file_is_refused_in_a_sentence(tmp_path, name, data, says):
    path = write(tmp_path / name, data)
    with pytest.raises(DataError, match=says) as caught:
        inspect("d", Source.of(path, table="visits" if name == "t.sqlite" else None), "outcome")
    assert len(str(caught.value)) < 1000


def test_a_table_without_records_is_refused(tmp_path):
    for source in (Source.of(sqlite_file(tmp_path, []), table="visits"),
                   Source.of(tmp_path, query="SELECT 1 AS x, 'yes' AS outcome WHERE false")):  # fmt: skip
        with pytest.raises(DataError, match="no records"):
            inspect("d", source, "outcome")


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM visits",
        "INSERT INTO visits VALUES (1, 2, 'yes', '')",
        "SELECT 1; DROP TABLE visits",
        "ATTACH 'other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "CREATE TABLE t (x)",
        "WITH t AS (SELECT 1) DELETE FROM visits",
        "UPDATE visits SET x = 0 RETURNING *",
        "SELECT load_extension('evil')",
    ],
)
def test_a_query_that_does_more_than_select_is_refused_by_sqlite(tmp_path, query):
    path = sqlite_file(tmp_path, ROWS)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"must be one SELECT|not authorized"):
        inspect("d", Source.of(path, query=query), "outcome")
    assert path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clinic.sqlite"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("COPY (SELECT 1) TO 'out.csv'", "must be one SELECT"),
        ("SELECT 1; SELECT 2", "must be one SELECT"),
        ("SET threads = 8", "must be one SELECT"),
        ("INSTALL httpfs", "must be one SELECT"),
        ("ATTACH 'x.db'", "must be one SELECT"),
        ("CREATE TABLE t (x INT)", "must be one SELECT"),
        ("SELEC 1", "cannot be understood"),
        ("SELECT x FROM nowhere", "nowhere does not exist"),
        ("SELECT x, x, outcome FROM 't.parquet'", "'x' twice"),
        ("SELECT * FROM read_csv('/etc/passwd')", "is all that the query may read"),
        ("SELECT * FROM read_text('../secret.csv')", "takes rows from read_text: only read_csv"),
        ("SELECT 1 AS x, (SELECT count(*) FROM read_blob('t.parquet')) AS outcome", "takes rows from read_blob"),
        ("SELECT * FROM glob('*')", "takes rows from glob"),
        ("SELECT * FROM sniff_csv('t.csv')", "takes rows from sniff_csv"),
        ("SELECT * FROM parquet_metadata('t.parquet')", "takes rows from parquet_metadata"),
        ("FROM query('SELECT 1 AS x')", "takes rows from query"),
        ("FROM main.read_text('t.parquet')", "takes rows from read_text"),
        ("SELECT * FROM read_csv(concat('t', '.csv'))", "has read_csv read what it computes: name each file"),
        ("SELECT * FROM read_parquet((SELECT 't.parquet'))", "has read_parquet read what it computes|cannot|subquer"),
        ('WITH "t.parquet" AS (SELECT 1 AS x, 2 AS outcome) FROM "t.parquet"', "calls a part of itself 't.parquet'"),
        ("SUMMARIZE 't.parquet'", "must be one SELECT"),
        ("SELECT * FROM secret", "secret does not exist"),
        ("SELECT * FROM '../secret.csv'", "is all that the query may read"),
        ("SELECT * FROM 'link.csv'", "is all that the query may read"),
        ("SELECT * FROM read_parquet('https://example.org/x.parquet')", "no file|is all that"),
    ],
)
def test_a_query_over_files_selects_and_stays_in_its_folder(tmp_path, query, says):
    folder = tmp_path / "files"
    folder.mkdir()
    copied(folder, "t.parquet", "FORMAT parquet")
    secret = write(tmp_path / "secret.csv", TABLE)
    (folder / "link.csv").symlink_to(secret)
    with pytest.raises(DataError, match=says):
        inspect("d", Source.of(folder, query=query), "outcome")
    assert sorted(path.name for path in folder.iterdir()) == ["link.csv", "t.parquet"]


def test_a_pattern_does_not_follow_a_link_out_of_its_folder(tmp_path):
    outside = copied(tmp_path, "secret.parquet", "FORMAT parquet")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.parquet").symlink_to(outside)
    with pytest.raises(DataError, match="leads by a link to"):
        inspect("d", Source.of(str(folder / "*.parquet")), "outcome")


BAD = [*ROWS, (None, 1, "yes"), (1.0, 2, "perhaps"), (1.0, 2, None), (float("inf"), 0, "no"), (1.0, 2.5, "no")]


def test_bad_records_are_dropped_and_counted_by_their_fault(tmp_path):
    found, read = gathered(Source.of(sqlite_file(tmp_path, BAD), table="visits"), "drop")
    assert (found.records, read.rows, read.used) == (5, 10, 5)
    assert dict(read.dropped) == {
        "missing": 1, "unknown class": 1, "no label": 1, "no number": 1, "no integer": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (BAD[5], "record 6 has nothing in 'x'"),
        (BAD[6], "record 6 has the class 'perhaps'"),
        (BAD[7], "record 6 has no label"),
        (BAD[8], "record 6 has no finite number in 'x'"),
        (BAD[9], "record 6 has a number that is not whole in 'k'"),
        ((1.0, 200, "no"), "record 6 has a value outside of the campaign's range in 'k'"),
    ],
)
def test_a_bad_record_has_the_data_set_refused_by_its_place(tmp_path, row, says):
    of = spec(features=({"name": "x"}, {"name": "k", "type": "integer", "maximum": 150.0}))
    source = Source.of(sqlite_file(tmp_path, [*ROWS * 9, row][-6:]), table="visits")
    dataset = inspect("d", source, "outcome")
    with pytest.raises(DataError, match=says) as caught:
        gather(dataset, match(dataset, of, {"k": "k"}), of)
    assert "1e" not in str(caught.value).replace(str(tmp_path), "")


def test_what_other_programs_write_for_nothing_is_missing(tmp_path):
    values = "(1.0, 'no'), ('nan'::DOUBLE, 'yes'), (2.0, 'yes'), (NULL, 'no')"
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT * FROM (VALUES {values}) t(x, outcome)) TO '{tmp_path}/t.parquet'")
    column = inspect("d", Source.of(tmp_path / "t.parquet"), "outcome").columns[0]
    assert (column.missing, column.bad, column.maximum) == (2, 0, 2.0)
    text = write(tmp_path / "t.csv", "x,outcome\n1,no\nnan,yes\n2,yes\n,no\n2,no\ntrue,no\n  ,no\nfour,no\n")
    column = inspect("d", Source.of(text), "outcome").columns[0]
    assert (column.missing, column.bad, column.maximum) == (3, 2, 2.0)


def test_truth_values_are_0_and_1(tmp_path):
    lines = [{"x": True, "y": 5, "outcome": "a"}, {"x": False, "y": None, "outcome": "b"}]
    path = write(tmp_path / "t.ndjson", "".join(json.dumps(line) + "\n" for line in lines))
    x, y = inspect("d", Source.of(path), "outcome").columns
    assert (x.name, x.type) == ("x", "boolean")
    assert (y.name, y.missing) == ("y", 1)


def test_columns_that_hold_no_numbers_are_left_alone(tmp_path):
    lines = [{"x": at, "when": "2024-01-01", "tags": ["a"], "at": {"b": 1}, "outcome": at % 2} for at in range(4)]
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    dataset = inspect("d", Source.of(path), "outcome")
    assert [column.name for column in dataset.columns] == ["x", "outcome"]
    assert set(dataset.left) == {"when", "tags", "at"}


@pytest.mark.parametrize("wide", [65, 2_100])
def test_a_table_of_very_many_columns_is_read(tmp_path, wide):
    names = [f"c{at}" for at in range(wide - 1)]
    rows = [",".join(str((at * 7 + row) % 5) for at in range(wide - 1)) + f",{row % 2}" for row in range(6)]
    path = write(tmp_path / "wide.csv", ",".join([*names, "outcome"]) + "\n" + "\n".join(rows) + "\n")
    dataset = inspect("d", Source.of(path), "outcome")
    assert len(dataset.columns) == wide
    of = spec(features=({"name": "c7"}, {"name": f"c{wide - 2}"}), classes=("0", "1"))
    found, _ = gather(dataset, match(dataset, of), of)
    expected = [[(49 + row) % 5, ((wide - 2) * 7 + row) % 5] for row in range(6)]
    np.testing.assert_allclose(found.gram[-1, :2], np.sum(expected, axis=0))


def test_more_columns_than_that_are_refused(tmp_path):
    path = write(tmp_path / "wide.csv", ",".join(f"c{at}" for at in range(10_000)) + ",outcome\n")
    with pytest.raises(DataError, match="10001 columns, above the limit of 4096: choose some with a query"):
        inspect("d", Source.of(path), "outcome")


def test_a_file_that_changes_while_it_is_read_is_not_trained_on(tmp_path):
    path = write(tmp_path / "t.csv", TABLE)
    dataset = inspect("d", Source.of(path), "outcome")

    def change(_done: float) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(DataError, match="changed while it was read"):
        gather(dataset, match(dataset, spec()), spec(), "refuse", change)


def test_a_database_that_is_written_to_meanwhile_is_read_as_it_was_at_one_moment(tmp_path):
    path = sqlite_file(tmp_path, ROWS)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        dataset = inspect("d", Source.of(path, table="visits"), "outcome")
        assert file_state(dataset) == dataset.state, "reading alone changes nothing"

        def change(_done: float) -> None:
            db.execute("INSERT INTO visits VALUES (1, 1, 'no', '')")
            db.commit()

        found, _ = gather(dataset, match(dataset, spec()), spec(), "refuse", change)
        assert found.records == len(ROWS)
        assert file_state(dataset) != dataset.state
        assert gather(dataset, match(dataset, spec()), spec())[0].records > len(ROWS)


def test_a_changed_file_has_another_state_and_a_new_fingerprint(tmp_path):
    path = write(tmp_path / "t.csv", TABLE)
    dataset = inspect("d", Source.of(path), "outcome")
    assert file_state(dataset) == dataset.state
    write(path, TABLE + "1,1,no,x\n")
    assert file_state(dataset) != dataset.state
    _, read = gather(dataset, match(dataset, spec()), spec())
    assert read.rows == 6
    assert read.fingerprint not in {dataset.fingerprint, ""}
    path.unlink()
    assert file_state(dataset) is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@db.example/clinic",
        "postgres://me:hunter2@db.example/clinic",
        "postgresql://db.example/clinic?user=me&password=hunter2",
        "postgresql://me:hunter2@[::1]:bad/clinic",
        "postgresql://me@db.example/clinic?sslpassword=hunter2",
        "postgresql://me:hun@ter2@db.example/clinic",
    ],
)
def test_a_password_in_a_url_is_refused_and_never_repeated(url):
    with pytest.raises(DataError, match="PGPASSFILE") as caught:
        Source.of(url, table="visits")
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://h/d?options=-csearch_path%3Dx", "postgresql://h/d?x=1", "postgresql://[/d"]
)
def test_a_url_that_says_more_than_where_is_refused(url):
    with pytest.raises(DataError, match=r"not supported|cannot be read"):
        Source.of(url, table="visits")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda folder: Source.of(folder / "none.csv"), "there is no file"),
        (lambda folder: Source.of(folder / "none*.parquet"), "no file fits"),
        (lambda folder: Source.of(write(folder / "t.csv", TABLE), query="SELECT 1"), "is no database"),
        (lambda folder: Source.of(sqlite_file(folder, ROWS)), "which records of the database"),
        (
            lambda folder: Source.of(sqlite_file(folder, ROWS), table="visits", query="SELECT 1"),
            "either a query or a table",
        ),
        (lambda folder: Source.of(folder, table="visits"), "is a folder, which has no table"),
        (lambda folder: Source.of(folder, query=" "), "1 to 100000 characters"),
        (lambda folder: Source.of("bad\nname.csv"), "cannot be a path"),
    ],
)
def test_a_source_that_cannot_be_is_refused(tmp_path, given, says):
    with pytest.raises(DataError, match=says):
        inspect("d", given(tmp_path), "outcome")


def test_a_source_is_known_by_what_the_owner_named(tmp_path):
    kinds = {
        "a.csv": Kind.CSV, "b.parquet": Kind.PARQUET, "c.ndjson": Kind.JSONL, "d.txt": Kind.CSV, "e.PQ": Kind.PARQUET,
    }  # fmt: skip
    assert {name: Source.of(tmp_path / name).kind for name in kinds} == kinds
    assert Source.of(tmp_path / "f.db", table="t").kind is Kind.SQLITE
    assert Source.of(tmp_path).kind is Kind.IMAGES
    assert Source.of(tmp_path, query="SELECT 1").kind is Kind.SQL
    remote = Source.of("postgresql://me@db.example:5433/clinic", table="s.visits")
    assert (remote.kind, remote.remote, remote.query) == (Kind.POSTGRES, True, 'SELECT * FROM "s"."visits"')


_PASS = """
import sys
from pathlib import Path
from mine.data import Source, gather, inspect, match
from sonar.protocol.spec import Spec
spec = Spec.parse(Path(sys.argv[2]).read_bytes())
dataset = inspect("rows", Source.of(sys.argv[1]), "target")
found, read = gather(dataset, match(dataset, spec), spec)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(found.records, int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells the most memory of a process alone"
)
def test_a_large_file_is_summed_up_in_little_memory(tmp_path):
    rows, names = 200_000, [f"c{at}" for at in range(30)]
    path = tmp_path / "rows.parquet"
    with duckdb.connect() as database:
        columns = ", ".join(f"random() AS {name}" for name in names)
        database.execute(f"COPY (SELECT {columns}, range % 2 AS target FROM range({rows})) TO '{path}'")
    of = spec(features=tuple({"name": name} for name in names), classes=("0", "1"), target_column="target")
    (tmp_path / "spec.json").write_bytes(of.to_bytes())
    done = subprocess.run([sys.executable, "-c", _PASS, str(path), str(tmp_path / "spec.json")],
                          capture_output=True, text=True, check=True)  # fmt: skip
    found, memory = map(int, done.stdout.split())
    assert found == rows
    assert memory < 400 << 20, "the values alone are 48 MB, and a file of any length takes no more"


def test_a_query_may_make_rows_and_name_its_parts(tmp_path):
    copied(tmp_path, "t.parquet", "FORMAT parquet")
    query = (
        "WITH kept AS (SELECT * FROM 't.parquet' WHERE k < 9), more AS (SELECT unnest([1, 2]) AS i FROM range(1)) "
        "SELECT kept.* FROM kept CROSS JOIN more WHERE i = 1"
    )
    source = Source.of(tmp_path, query=query)
    assert inspect("d", source, "outcome").records == len(ROWS)
    assert list(source_files(source)) == [tmp_path / "t.parquet"]


def test_a_pattern_in_a_query_is_what_is_watched(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        copied(tmp_path / "in", f"{name}.parquet", "FORMAT parquet")
    for pattern, count in (("in/*.parquet", 2), ("in/**/*.parquet", 3), ("in/[ab].parquet", 2), ("in/?.parquet", 2)):
        source = Source.of(tmp_path, query=f"SELECT * FROM '{pattern}'")
        assert inspect("d", source, "outcome").records == count * len(ROWS)
        assert len(list(source_files(source))) == count
    with pytest.raises(DataError, match="no file fits"):  # these are folders to one, and files to the other
        inspect("d", Source.of(tmp_path, query="SELECT * FROM read_parquet('in/**')"), "outcome")
    (tmp_path / "in" / "a\\b.parquet").symlink_to(tmp_path / "in" / "a.parquet")  # a folder's sign to DuckDB
    with pytest.raises(DataError, match="finds other files for DuckDB than for this program"):
        inspect("d", Source.of(tmp_path, query="SELECT * FROM 'in/?[!x]*.parquet'"), "outcome")
