"""The Capsule's benchmark in its short run: every figure is there and fits the others. No time is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What a quick run writes; it ends with code 0 only if every round was judged and every request answered."""
    path = tmp_path_factory.mktemp("bench") / "report.json"
    command = [sys.executable, "scripts/bench_capsule.py", "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| judged gradients a second |" in done.stdout
    said: dict = json.loads(path.read_text())
    return said


def test_every_gradient_that_was_posted_is_judged(report):
    assert report["gradients"] == 32
    assert report["rounds"] == 4
    assert 0 < report["advanced"] <= 4
    assert report["problems"] == []


@pytest.mark.parametrize("side", ["quiet", "loaded"])
def test_the_parts_of_a_jobs_time_are_within_the_whole(report, side):
    found = report[side]
    parts = [found[f"{part}_per_gradient"] for part in ("decrypting", "ciphertexts", "judging")]
    assert min(parts) > 0
    assert sum(parts) <= found["job_seconds_per_gradient"] * 1.01
    assert found["decrypting_of_jobs"] < found["arithmetic_of_jobs"] <= 1.01
    assert 0 < found["arithmetic_of_all_cpu"] <= found["arithmetic_of_jobs"] * 1.2
    assert found["gradients_per_second"] > 0


def test_answers_are_measured_idle_and_while_judging(report):
    for when in ("idle", "judging"):
        for what in ("info", "admissions"):
            found = report["latency"][when][what]
            assert found["requests"] > 0
            assert 0 < found["p50"] <= found["p90"] <= found["p99"] <= found["p100"]


def test_memory_is_told_after_every_wave(report):
    assert [row["gradients"] for row in report["memory_mib"]] == [16, 32]
    assert all(row["service"] > 10 and row["judges"] > 10 for row in report["memory_mib"])
