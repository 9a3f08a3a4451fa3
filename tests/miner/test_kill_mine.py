"""Whole mines as processes, killed at random instants, on a real chain with a real Capsule."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GANACHE = ROOT / "node_modules" / ".bin" / "ganache"


@pytest.mark.long
@pytest.mark.skipif(not GANACHE.exists(), reason="Ganache is not installed: npm ci")
@pytest.mark.timeout(1800)
def test_mines_killed_at_random_instants_lose_nothing_and_do_nothing_twice(effort: Callable[[int, int, int], int]):
    kills = effort(20, 200, 200)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
    command = [sys.executable, "scripts/kill_mine.py", "--json", "--kills", str(kills)]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == [], done.stderr
    assert done.returncode == 0
    assert report["kills"] == kills
    assert report["rounds"] >= 6
    assert report["gradients"] >= 2 * report["rounds"]
