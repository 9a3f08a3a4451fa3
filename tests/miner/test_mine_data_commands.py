"""`mine add` on every kind of source, as an owner types it, and what it says of what it found."""

import json
import sqlite3
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mine.cli import main
from mine.errors import PolicyError
from mine.home import Home
from mine.privacy.sketch import Contents


@pytest.fixture
def add(tmp_path):
    """Runs `mine add` on a fresh home."""
    home = tmp_path / "home"
    assert CliRunner().invoke(main, ["init", "--no-passphrase", "--home", str(home)]).exit_code == 0

    def run(*words: object):
        return CliRunner().invoke(main, ["add", *map(str, words), "--home", str(home)])

    run.home = home
    return run


@pytest.fixture
def remove(add):
    """Runs `mine remove` on the same home."""
    return lambda *words: CliRunner().invoke(main, ["remove", *words, "--home", str(add.home)])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("age,smoker,name,outcome\n30,yes,Ann,ill\n,no,Bob,well\n51,no,Cleo,\n44,yes,Dan,ill\n")
    return path


def test_add_tells_what_it_found_and_what_is_wrong(add, table):
    done = add("clinic", table, "--target", "outcome")
    assert done.exit_code == 0
    assert done.stdout == "clinic: 4 records, 2 numeric columns, 2 classes in 'outcome'\n"
    assert done.stderr.splitlines() == [
        "column 'age' has 1 record with nothing",
        "1 record has no label",
        "a campaign that needs these is refused, or such records are dropped, as on_bad_records in the policy says",
        "left alone, because they hold no numbers: 'name'",
    ]


def test_add_has_it_all_for_machines(add, table):
    done = add("clinic", table, "--target", "outcome", "--alias", "years=age", "--unit", "age=years", "--json")
    found = json.loads(done.stdout)
    assert found["columns"][0] == {
        "name": "age", "type": "integer", "unit": "years", "minimum": 30.0, "maximum": 51.0, "missing": 1, "bad": 0,
        "reading": "plain",
    }  # fmt: skip
    assert (found["kind"], found["aliases"], found["unlabelled"]) == ("csv", {"years": "age"}, 1)
    assert len(found["fingerprint"]) == 64


def test_a_query_a_table_a_folder_and_images_are_added(add, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    query = "SELECT * FROM read_csv('*.csv') WHERE outcome IS NOT NULL AND age IS NOT NULL"
    assert add("here", "--sql", query, "--target", "outcome").exit_code == 9, "one class alone is left"
    query = "SELECT age, outcome FROM 'visits.csv' WHERE outcome IS NOT NULL"
    assert add("query", ".", "--sql", query, "--target", "outcome").stdout.startswith("query: 3 records, 1 numeric")
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("CREATE TABLE t (x, cost)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(at, at * 1.5) for at in range(400)])
    assert add("costs", "c.db", "--table", "t", "--target", "cost").stdout == (
        "costs: 400 records, 1 numeric columns, numbers in 'cost'\n"
    )
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "pets" / label / "1.png")
    assert add("pets", "pets").stdout == "pets: 2 records, images, 2 classes in 'label'\n"
    with Home(add.home).ledger() as ledger:
        assert [one.name for one in ledger.datasets()] == ["costs", "pets", "query"]
        assert ledger.datasets()[2].source.location == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["clinic"], 2, "name the SOURCE"),
        (["clinic", "visits.csv", "--target", "outcome", "--alias", "age"], 2, "not of the form FEATURE=COLUMN"),
        (["clinic", "visits.csv", "--target", "outcome", "--alias", "years=size"], 9, "no column 'size'"),
        (["clinic", "visits.csv", "--target", "outcome", "--alias", "a=age", "--alias", "a=smoker"], 9, "two aliases"),
        (["clinic", "visits.csv", "--target", "outcome", "--unit", "name=years"], 9, "no column 'name'"),
        (["clinic", "visits.csv", "--target", "outcome", "--table", "t"], 9, "is no database"),
        (["clinic", "postgresql://me:secret@h/d", "--table", "t", "--target", "y"], 9, "PGPASSFILE"),
    ],
)
def test_what_cannot_be_added_is_said_in_a_sentence(add, table, monkeypatch, words, code, says):
    monkeypatch.chdir(table.parent)
    done = add(*words)
    assert done.exit_code == code
    assert says in done.output
    assert "secret" not in done.output


def test_a_data_set_is_removed_and_what_was_spent_on_its_records_is_not(add, table, remove):
    add("clinic", table, "--target", "outcome")
    campaign = bytes(32)
    with Home(add.home).ledger() as ledger:
        ledger.save_match(campaign, "clinic", {"years": "age"})
        contents = Contents(bytes(32), 4, np.arange(4, dtype=np.uint64), ())
        pool = ledger.recognise(contents, "clinic", (str(table),))
        ledger.release(contents.digest, bytes(32), Fraction(1, 8), b"noised", lambda _: None, delta=1e-6)
    done = remove("clinic")
    assert done.stdout == f"clinic: removed; its 4 records in {table} are untouched\n"
    assert (
        done.stderr == "what was told of it stays in its privacy budget, also when it is added again (`mine privacy`)\n"
    )
    with Home(add.home).ledger() as ledger:
        assert ledger.datasets() == []
        assert ledger.saved_match(campaign, "clinic") == {}
        assert [entry.kind for entry in ledger.audit_entries()][-1] == "dataset removed"
    add("other", table, "--target", "outcome")
    with Home(add.home).ledger() as ledger:
        assert ledger.recognise(contents, "other", (str(table),)) == pool
        assert ledger.spent(pool) == Fraction(1, 8)
    assert remove("clinic").output == "Error: there is no data set 'clinic': `mine status` lists them\n"
    assert json.loads(remove("other", "--json").stdout)["charged"] is True
    assert table.exists()


def test_who_removes_a_data_set_is_told_of_its_table_in_the_policy(add, table, remove):
    policy = Home(add.home).policy_file
    policy.write_text('[datasets.clinic]\npurposes = ["research"]\n')
    for name in ("clinic", "other"):
        add(name, table, "--target", "outcome")
    assert remove("clinic").stderr == (
        "take the table [datasets.clinic] out of the policy: it restricts nothing now, and the mine waits for that\n"
    )
    with pytest.raises(PolicyError, match="for a data set that is not there"):
        Home(add.home).policy(["other"])
    add("clinic", table, "--target", "outcome")
    policy.write_text("")
    assert remove("clinic").stderr == ""


def test_other_data_under_the_same_name_forgets_what_was_confirmed_of_the_first(add, table):
    add("clinic", table, "--target", "outcome")
    campaign = bytes(32)
    with Home(add.home).ledger() as ledger:
        ledger.save_match(campaign, "clinic", {"years": "age"})
        ledger.save_match(campaign, "other", {"years": "x"})
        assert ledger.saved_match(campaign, "clinic") == {"years": "age"}
    assert add("clinic", table, "--target", "outcome", "--replace").exit_code == 0
    with Home(add.home).ledger() as ledger:
        assert ledger.saved_match(campaign, "clinic") == {}
        assert ledger.saved_match(campaign, "other") == {"years": "x"}
