"""The gas benchmark on a real Anvil: its figures hold, come again at every run, and a lost one makes it fail."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "scripts" / "gas.json"
WORSENED = "settleRound, coin: 8"
GONE = "a call that nobody makes any more"
UNRECORDED = "close, coin"

pytestmark = pytest.mark.skipif(
    not shutil.which("node") or not list((ROOT / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil")),
    reason="Anvil or Node is not installed: npm ci",
)


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/bench_gas.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def recorded() -> dict[str, int]:
    return json.loads(FIGURES.read_text())


@pytest.fixture(scope="module")
def compared(recorded, tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """A run against the repository's figures, of which one was 3% better once, one was lost, and one was added."""
    figures = recorded | {WORSENED: int(recorded[WORSENED] / 1.03), GONE: 1}
    del figures[UNRECORDED]
    path = tmp_path_factory.mktemp("gas") / "figures.json"
    path.write_text(json.dumps(figures))
    return bench("--json", "--figures", path)


def test_a_worsened_figure_makes_it_fail_with_a_sentence_and_nothing_else_is_worse(compared, recorded):
    found = json.loads(compared.stdout)["measured"][WORSENED]
    assert compared.returncode == 1
    errors = re.findall(r"^Error: (.*)$", compared.stderr, re.MULTILINE)
    assert len(errors) == 3, compared.stderr
    worse, unrecorded, gone = sorted(errors, key=lambda error: [WORSENED, UNRECORDED, GONE].index(error_row(error)))
    assert f"takes {found:,} gas" in worse
    assert f"more than the recorded {int(recorded[WORSENED] / 1.03):,}" in worse
    assert "no recorded figure" in unrecorded
    assert "no longer measured" in gone


def error_row(error: str) -> str:
    return next((name for name in (WORSENED, UNRECORDED, GONE) if error.startswith(f"{name} ")), error)


def test_every_goal_is_met(compared):
    said = json.loads(compared.stdout)
    assert len(said["goals"]) >= 14
    for name, goal in said["goals"].items():
        assert said["measured"][name] <= goal, name


def test_a_settlement_costs_a_line(compared):
    said = json.loads(compared.stdout)
    base, slope = said["lines"]["coin"]
    for count in (2, 4, 8, 16, 32):
        assert said["measured"][f"settleRound, coin: {count}"] == pytest.approx(base + slope * count, rel=0.01)


def test_another_run_records_the_same_figures(compared, tmp_path):
    path = tmp_path / "figures.json"
    done = bench("--record", "--figures", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text()) == json.loads(compared.stdout)["measured"]


def test_the_document_has_the_recorded_figures(recorded):
    rows = re.findall(r"^\| ([^|]+?) \| ([\d,]+)(?: bytes)? \|", (ROOT / "docs" / "gas.md").read_text(), re.MULTILINE)
    assert {name: int(figure.replace(",", "")) for name, figure in rows if name in recorded} == recorded


def test_figures_that_are_none_are_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("[1, 2")
    done = bench("--figures", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a record of figures" in done.stderr
