"""A whole market on this machine, for the notebooks: `sonar devnet`, and data owners who run `mine`.

Everything is a process of its own, as where it is run for real, and listens on loopback only. Files are in a temporary
directory that goes when the market is closed; so do the processes, at the latest with the notebook's own.
"""

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

import pysonar
from sonar.devnet import DevnetOptions, start
from sonar.processes import Child


class Market:
    """A development network with an account for its data scientist, and for each data owner who will `join` it."""

    def __init__(self, *owners: str) -> None:
        self._stack = ExitStack()
        atexit.register(self.close)
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sonar-notebook-")))
        # 2048 bits, the least that there is, so that two cores do in a minute what many machines share elsewhere.
        options = DevnetOptions(
            self._folder, chain="embedded", store="directory", accounts=("scientist", *owners), key_bits=2048
        )
        self._network = self._stack.enter_context(start(options, lambda line: print(line, flush=True)))

    def connect(self) -> pysonar.Sonar:
        """The data scientist's session: what `pysonar.connect()` gives where a network's file is in its usual place."""
        return pysonar.connect(
            self._network.network_file,
            account=self._network.accounts["scientist"],
            directory=self._folder / "campaigns",
        )

    def join(self, tables: Mapping[str, pd.DataFrame], target: str, policy: str = "") -> None:
        """What data owners do: each makes a mine, adds a CSV file, writes the rules, and lets it run."""
        with ThreadPoolExecutor(2) as hands:
            list(hands.map(lambda owner: self._set_up(owner, tables[owner], target, policy), tables))
        for owner in tables:
            command = [sys.executable, "-m", "mine", "run", "--poll", "0.5"]
            log = self._folder / f"{owner}.log"
            self._stack.callback(Child(owner, command, log=log, env=self._environment(owner)).stop)

    def ask(self, owner: str, *command: str) -> str:
        """What a data owner reads who types `mine COMMAND`."""
        return self._mine(owner, *command)

    def close(self) -> None:
        """Stops everybody and removes the files."""
        self._stack.close()

    def _set_up(self, owner: str, table: pd.DataFrame, target: str, policy: str) -> None:
        table.to_csv(self._folder / f"{owner}.csv", index=False)
        self._mine(owner, "init", "--key-file", str(self._network.accounts[owner]))
        self._mine(owner, "add", owner, str(self._folder / f"{owner}.csv"), "--target", target)
        if policy:
            (self._folder / owner / "policy.toml").write_text(policy)

    def _mine(self, owner: str, *command: str) -> str:
        words = [sys.executable, "-m", "mine", *command]
        done = subprocess.run(words, env=self._environment(owner), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"`mine {' '.join(command)}` of {owner} failed: {done.stderr.strip()}")
        return done.stdout

    def _environment(self, owner: str) -> dict[str, str]:
        # One core each: several of them share this machine.
        return {
            **os.environ,
            "SONAR_MINE_HOME": str(self._folder / owner),
            "SONAR_NETWORK": str(self._network.network_file),
            "OMP_NUM_THREADS": "1",
        }
