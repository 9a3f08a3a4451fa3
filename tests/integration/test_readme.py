"""The README's own lines, run as they stand: the network, two data owners, the data scientist's example."""

import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignCreated
from sonar.chain.records import Status
from sonar.config import Network
from sonar.processes import wait_until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def shell_lines(first_word: str) -> list[list[str]]:
    """The README's indented commands that start with a word."""
    return [shlex.split(line) for line in re.findall(rf"^    ({first_word} .+)$", README, flags=re.MULTILINE)]


def python_examples() -> list[str]:
    """The README's Python blocks."""
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def hurry(client: SonarClient, mines: int, stop: threading.Event) -> None:
    """Lets a development chain's time pass to the end of a round as soon as all mines have posted."""
    cursor = EventCursor(client, 0)
    campaign = None
    while not stop.wait(0.3):
        for event in cursor.read():
            campaign = event.id if isinstance(event, CampaignCreated) else campaign
        if campaign is None or client.campaign(campaign).status is not Status.RUNNING:
            continue
        state = client.round(campaign)
        if state.open and state.count >= mines:
            client.web3.provider.make_request("evm_increaseTime", [state.closes_at - client.now() + 1])
            client.web3.provider.make_request("evm_mine", [])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_readmes_example_runs_as_it_stands(spawn, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SONAR_HOME", raising=False)
    monkeypatch.delenv("SONAR_NETWORK", raising=False)
    monkeypatch.chdir(tmp_path)
    (network_command,) = shell_lines("sonar")
    spawn("devnet", "-m", *network_command, "--chain", "embedded", "--store", "directory", "--rpc-port", "0",
          "--capsule-port", "0")  # fmt: skip
    wait_until(lambda: "ready" in (tmp_path / "devnet.log").read_text(), timeout=360, what="the devnet")

    files, example = python_examples()
    scope: dict[str, Any] = {}
    exec(compile(files, "README.md", "exec"), scope)
    commands = shell_lines("mine")
    assert [words[1] for words in commands] == [
        "init",
        "add",
        "run",
        "init",
        "add",
        "run",
        "status",
        "earnings",
        "withdraw",
    ]
    (line,) = re.findall(r"^    export SONAR_MINE_HOME=~/(.+)$", README, flags=re.MULTILINE)
    second = {"SONAR_MINE_HOME": str(tmp_path / line)}
    for which, home in ((commands[:3], {}), (commands[3:6], second)):
        for words in which[:2]:
            subprocess.run([sys.executable, "-m", *expand(words)], check=True, env={**os.environ, **home})
        spawn(f"mine-{len(home)}", "-m", *which[2], env=home)

    stop = threading.Event()
    client = SonarClient.from_network(Network.load())
    clock = threading.Thread(target=hurry, args=(client, 2, stop))
    clock.start()
    try:
        exec(compile(example, "README.md", "exec"), scope)
    finally:
        stop.set()
        clock.join()
    model = scope["model"]
    assert np.mean(model.predict(scope["X_val"]) == scope["y_val"]) > 0.85
    campaign = scope["campaign"]
    assert campaign.earnings()
    assert campaign.gradients()
    campaign.close()
    for words in commands[6:]:
        subprocess.run([sys.executable, "-m", *words], check=True)


def expand(words: list[str]) -> list[str]:
    """A command line with ~ as the shell would expand it."""
    return [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
