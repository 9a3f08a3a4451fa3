"""The judge's benchmark, in its short run: every table is made, and the encrypted campaign is its plain twin."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/bench_judge.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_quick_run_makes_the_tables_that_are_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    names = ("rounds", "likeness", "sampling", "encrypted")
    done = bench("--quick", "--json", str(target), *(word for name in names for word in ("--only", name)))
    assert done.returncode == 0, done.stderr
    report = json.loads(target.read_text())
    tables = {table["name"]: table for table in report["tables"]}
    assert tuple(tables) == names
    assert report["quick"]
    for table in tables.values():
        assert f"### {table['title']}" in done.stdout
        assert table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert {row[3] for row in tables["encrypted"]["rows"]} == {"yes"}
    assert all(row[4] < 2 * row[5] for row in tables["likeness"]["rows"] if row[0] == "digits")
    assert all(row[3] > 0.6 for row in tables["rounds"]["rows"])
    # Four standard errors, the largest of the round's: one run in thousands misses by more.
    assert all(row[2] < 4 * row[1] for row in tables["sampling"]["rows"])


def test_poisoners_are_not_paid_and_replicas_earn_nothing_more() -> None:
    done = bench("--quick", "--json", "-", "--only", "poison", "--only", "replicas")
    assert done.returncode == 0, done.stderr
    poison, replicas = json.loads(done.stdout)["tables"]
    digits = [row for row in poison["rows"] if row[0] == "digits" and row[2] != "5 epochs, full batch"]
    assert max(row[6] for row in digits if "x 3" not in row[1]) < 0.05
    without_data = [row for row in poison["rows"] if "random" in row[1] and row[2] != "5 epochs, full batch"]
    assert max(row[6] for row in without_data) < 0.05
    for _, noise, scale, one, three in replicas["rows"]:
        if float(noise) <= 0.03 and scale == "1":
            assert three == pytest.approx(one, rel=0.05)


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--seeds", "0")])
def test_wrong_usage_ends_with_code_2(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
