"""The benchmark's short run: every table is there and well formed, and both sides agreed. No time is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sonar.syft.engines import ENGINES, why_unusable

ROOT = Path(__file__).parents[2]
PER_KEY = ["mine", "map", "encrypt", "decrypt", "ckks", "product"]
ONCE = ["stream", "features", "outputs", "records", "keys"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/bench_engine.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What a quick run writes; it ends with code 0 only if both sides of every comparison computed the same."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    done = bench("--quick", "--json", str(path))
    assert done.returncode == 0, done.stderr
    said = json.loads(path.read_text())
    for table in said["tables"]:
        assert f"### {table['title']}" in done.stdout
    return said


def test_every_table_is_made_for_every_key_size(report):
    found = [(table["name"], table["bits"]) for table in report["tables"]]
    assert [entry for entry in found if entry[0] in PER_KEY] == [(name, b) for b in (512, 768) for name in PER_KEY]
    assert [name for name, _ in found if name not in PER_KEY] == ONCE


def test_every_usable_engine_is_measured_beside_a_baseline(report):
    engines = {name for name in ENGINES if name != "phe" and why_unusable(name) is None}
    for table in report["tables"]:
        if table["name"] == "product" and not table["rows"]:
            continue  # no native engine, or no compiler for its floor; the notes say which
        expected = {"stream": {"numpy"}, "product": {"native"}}.get(table["name"], engines)
        assert {row["way"].split(",")[0] for row in table["rows"]} >= expected, table["name"]
        for row in table["rows"]:
            assert row["ours"]["wall"] > 0 or table["name"] == "product"
            assert (row["ratio"] is None) == (row["baseline"] is None)
            assert row["ratio"] is None or row["ratio"] > 0


def test_small_keys_are_held_to_no_goal(report):
    assert report["quick"]
    assert {row["goal"] for table in report["tables"] if table["bits"] for row in table["rows"]} == {None}


def test_the_machine_is_named(report):
    machine = report["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert set(machine["engines"]) == set(ENGINES)
    assert set(machine["packages"]) == {"gmpy2", "phe", "tenseal", "numpy"}
    assert machine["packages"]["phe"]


def test_one_table_can_be_asked_for_and_json_goes_to_stdout():
    done = bench("--quick", "--only", "encrypt", "--bits", "512", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert [table["name"] for table in json.loads(done.stdout)["tables"]] == ["encrypt"]
    assert "### Encryption of one plaintext, 512 bits" in done.stderr


@pytest.mark.parametrize("arguments", [("--bits", "511"), ("--bits", "9000"), ("--only", "nothing")])
def test_wrong_usage_ends_with_code_2_before_anything_is_measured(arguments):
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[1] in done.stderr
