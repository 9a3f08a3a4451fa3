"""Whole Capsules as processes on a real chain: killed at random instants, and two of them on one PostgreSQL."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes import ANVIL

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not ANVIL.is_file(), reason="Anvil is not installed: npm ci")


def run(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "scripts/kill_capsule.py", "--json", *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_CAPSULE")}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["problems"] == [], report
    assert done.returncode == 0
    return report


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_capsule_killed_at_random_instants_settles_every_round_once(effort: Callable[[int, int, int], int]) -> None:
    kills = effort(20, 200, 200)
    report = run("--kills", kills, "--mines", 10)
    assert report["kills"] == kills
    assert report["rounds"] == report["signatures"] >= 3
    assert report["while_unsettled"] > 0


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_workers_on_one_postgresql_settle_a_hundred_rounds_of_ten_campaigns_once(postgres_url: str) -> None:
    market = ("--kills", 0, "--campaigns", 10, "--rounds", 10, "--mines", 3)
    report = run(*market, "--workers", 2, "--database", postgres_url)
    assert report["rounds"] == report["signatures"] == report["transactions"] == 100
