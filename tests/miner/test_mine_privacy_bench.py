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
        [*command, "--json", str(report), "--plot", str(picture)], cwd=ROOT, capture_output=True, text=True, timeout=120
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
