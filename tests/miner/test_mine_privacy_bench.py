"""Real records through the real judge, with noise: the benchmark runs, and says what is true of it."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def test_the_benchmark_measures_breast_cancer_with_five_mines_and_draws_it(tmp_path: Path) -> None:
    report, picture = tmp_path / "report.json", tmp_path / "plot.svg"
    command = [sys.executable, "scripts/bench_privacy.py", "--quick", "--only", "breast cancer"]
    done = subprocess.run(
        [*command, "--json", str(report), "--plot", str(picture)], cwd=ROOT, capture_output=True, text=True, timeout=480
    )
    assert done.returncode == 0, done.stderr
    (curve,) = json.loads(report.read_text())["curves"]
    low, high = curve["points"]
    assert (low["epsilon"], high["epsilon"]) == (1.0, 10.0)
    assert curve["records"] == 569
    assert curve["five_mines"] > 0.9
    # 69 patients a mine: much noise costs much, which the estimate says before, and little noise little.
    assert high["accuracy"] > 0.5
    assert low["expected"] > 0.05 > high["expected"]
    assert "| 10 | " in done.stdout
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_the_benchmark_of_networks_measures_breast_cancer_with_and_without_noise() -> None:
    command = [sys.executable, "scripts/bench_network_privacy.py", "--case", "cancer", "--epsilon", "0.1", "1000"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--seeds", "1", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=480
    )
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(done.stdout)["cases"]
    assert (case["parameters"], case["records_of_a_mine"]) == (530, 92)
    lines = case["points"]
    much, little = lines["five mines, epsilon 0.1"], lines["five mines, epsilon 1000"]
    assert much["noise"] > 5 > 0.1 > little["noise"] > 0
    assert lines["five mines, no noise"]["accuracy"] > 0.9
    assert little["accuracy"] > 0.9
