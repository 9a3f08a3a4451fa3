"""What `pysonar.estimate` tells before a campaign is paid for, against what it then was, through real processes."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import pysonar
from pysonar.estimating.gas import gas_price
from sonar import devnet
from sonar.chain.client import SonarClient
from sonar.chain.records import Status
from sonar.processes import wait_until
from sonar.units import Address

WITHIN = 0.2


def make_mine(net: devnet.Devnet, name: str, features: np.ndarray, labels: np.ndarray, folder: Path) -> list[str]:
    """A mine with its data; returns the command that runs it."""
    table, home = folder / f"{name}.csv", ["--home", str(folder / name)]
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{number}" for number in range(64)), "target"])
        writer.writerows([*row, label] for row, label in zip(features, labels, strict=True))
    for words in (["init", "--key-file", str(net.accounts[name])], ["add", "digits", str(table), "--target", "target"]):
        subprocess.run([sys.executable, "-m", "mine", *words, *home], check=True, capture_output=True)
    return ["-m", "mine", "run", *home, "--network", str(net.network_file)]


class Busyness:
    """How many times as long as an idle machine this one takes for what is computed, on average while it is asked."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._asked = 0.0

    def __call__(self, *, every: float = 1.0, work: float = 0.02) -> None:
        if time.monotonic() - self._asked < every:
            return
        wall, own = time.perf_counter(), time.thread_time()
        while time.thread_time() - own < work:
            pass
        self.found.append((time.perf_counter() - wall) / (time.thread_time() - own))
        self._asked = time.monotonic()

    def mean(self) -> float:
        return max(1.0, sum(self.found) / len(self.found))


def spent(client: SonarClient, before: dict[str, int], accounts: dict[str, Address]) -> dict[str, int]:
    """What each account holds less than before, in wei."""
    return {name: before[name] - client.balance(account) for name, account in accounts.items()}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_estimate_is_within_a_fifth_of_what_then_happens(spawn, tmp_path: Path) -> None:
    data = load_digits()
    order = np.random.default_rng(5).permutation(len(data.target))
    validation = data.data[order[:360]], data.target[order[:360]]
    options = devnet.DevnetOptions(
        home=tmp_path / "sonar", chain="embedded", store="directory", accounts=("owner", "mine1", "mine2"),
        key_bits=2048,
    )  # fmt: skip
    with devnet.start(options, lambda _: None) as net:
        mines = [
            spawn(name, *make_mine(net, name, data.data[rows], data.target[rows], tmp_path))
            for name, rows in zip(("mine1", "mine2"), np.array_split(order[360:], 2), strict=True)
        ]
        sonar = pysonar.connect(net.network_file, account=net.accounts["owner"])
        arguments = {
            "model": pysonar.LinearClassifier(64, 10, scale=16.0), "validation": validation,
            "bounty": pysonar.ether(1), "target": 1.0, "deadline": "1h",
            "rounds": {"round_size": 3, "round_seconds": 30, "max_rounds": 1},
        }  # fmt: skip
        earlier = gas_price(sonar.client)
        told = pysonar.estimate(**arguments, mines=2, rounds_run=1, sonar=sonar)
        assert told.key_bits == 2048
        # Blocks come meanwhile, and with every one that is nearly empty gas becomes cheaper.
        assert gas_price(sonar.client) <= told.gas_price <= earlier
        sessions = {name: pysonar.connect(net.network_file, account=net.accounts[name]) for name in ("mine1", "mine2")}
        accounts = {"owner": sonar.address, "capsule": sonar.oracle, **{k: s.address for k, s in sessions.items()}}
        before = {name: sonar.client.balance(account) for name, account in accounts.items()}
        started = time.monotonic()
        campaign = sonar.create_campaign(**arguments)
        busyness = Busyness()
        wait_until(
            lambda: busyness() or campaign.status is not Status.RUNNING, timeout=240, what="the end", child=mines[0]
        )
        seconds = time.monotonic() - started
        campaign.close()
        sonar.withdraw()
        for session in sessions.values():
            session.withdraw()
        paid = campaign.record.paid
        # What was kept is published once the settlement is final.
        wait_until(
            lambda: None not in sonar.capsule.round(campaign.id, 0).published, timeout=240, what="the kept gradients"
        )
        found = spent(sonar.client, before, accounts)
        stored = sum(path.stat().st_size for path in (net.directory / "store").rglob("*") if path.is_file())
        earned = {gradient.mine: gradient.payout for gradient in campaign.gradients()}
    assert paid > 0
    # Nobody knows before how busy the machine will be with other work; waiting takes no longer by that.
    waited = arguments["rounds"]["round_seconds"]
    assert told.seconds * (1 - WITHIN) <= seconds
    assert seconds <= (waited + (told.seconds - waited) * busyness.mean()) * (1 + WITHIN), busyness.found
    assert stored == pytest.approx(told.stored_bytes, rel=WITHIN)
    assert found["owner"] - paid == pytest.approx(told.owner_cost, rel=WITHIN)
    assert found["capsule"] == pytest.approx(told.settlement_cost, rel=WITHIN)
    for name in ("mine1", "mine2"):
        assert found[name] + earned[accounts[name]] == pytest.approx(told.mine_cost, rel=WITHIN)
