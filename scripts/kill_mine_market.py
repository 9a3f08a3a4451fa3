"""A market of real mines for `kill_mine.py`: campaigns that two mines of one data owner each can improve for long.

Features of very different sizes make one epoch a round get a little further each time, so that there is always a round
to train for. The rounds are full when every mine has posted: one lost gradient and the market stands still.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from capsule_market import Opened, Stage, fund, open_campaign
from eth_account import Account
from eth_account.signers.local import LocalAccount

from capsule.client import CapsuleClient
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.protocol.messages import Domain
from sonar.protocol.payloads import encode_validation
from sonar.protocol.spec import Feature, Payout, Rounds, Spec, Target, Training
from sonar.units import Address

__all__ = ["Mine", "make_mine", "open_market"]

Floats = npt.NDArray[np.float64]

_SIZES = np.array([1.0, 0.5, 0.2, 0.1])
_SLOPES = np.array([[0.3], [0.8], [-2.0], [4.0]])
_RECORDS = 200
_POLICY = """\
# Whatever the rounds bring: this mine is here to be killed.
[accept]
min_mines = 1
[money]
work_at_a_loss = true
leave_when_bond_is_lost = false
[work]
max_unpaid_rounds = 60000
back_off = false
"""


def _spec(mines: int, number: int) -> Spec:
    return Spec(
        name=f"a slope, {number}",
        metric="r2",
        features=tuple(Feature(name=f"f{i}") for i in range(4)),
        targets=(Target(name="height", scale=2.0),),
        training=Training(epochs=1, rate=0.05),
        rounds=Rounds(round_size=mines, min_mines=1, round_seconds=86_400, max_rounds=65_535, noise=0.0, min_gain=1),
        payout=Payout(target=999_999, bond=10**12),
    )


def _draw(rng: np.random.Generator, records: int) -> tuple[Floats, Floats]:
    features = rng.normal(size=(records, 4)) * _SIZES
    return features, features @ _SLOPES + rng.normal(scale=0.5, size=(records, 1))


_PRIVATE = """\
[privacy]
mode = "on"
epsilon = 1.0
budget = 1000.0
max_loss = 1.0
renew = true
"""
"""Data that grew are noised and paid for again, so that kills fall on that too."""


@dataclass
class Mine:
    """A mine's home and account, and its process while it runs."""

    home: Path
    account: LocalAccount
    network_file: Path
    csv: Path
    private: bool
    process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        """A `mine` command of this home."""
        return [sys.executable, "-m", "mine", *words, "--home", str(self.home)]

    @property
    def environment(self) -> dict[str, str]:
        """In which its commands run."""
        return {**os.environ, "SONAR_NETWORK": str(self.network_file), "OMP_NUM_THREADS": "1"}

    def call(self, *words: str) -> object:
        """What a command prints as JSON; raises SystemExit with what it says if it fails."""
        done = subprocess.run(
            self.command(*words, "--json"), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"mine {words[0]} failed: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def start(self) -> None:
        """Lets it run, in a session of its own so that what it starts can be told from all else."""
        with (self.home / "run.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run", "--poll", "0.05", "--allow-insecure-small-key"),
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def grow(self, rng: random.Random) -> None:
        """Adds a record to its data, while it does not run."""
        row = [repr(rng.gauss(0.0, float(size))) for size in (*_SIZES, 1.0)]
        grown = self.csv.with_suffix(".grown")
        grown.write_text(self.csv.read_text() + ",".join(row) + "\n")
        grown.replace(self.csv)

    def trained(self) -> int:
        """How many gradients its ledger knows."""
        with closing(sqlite3.connect(f"file:{self.home / 'mine.db'}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute("SELECT COUNT(*) FROM submissions").fetchone()[0])


def make_mine(stage: Stage, network_file: Path, directory: Path, number: int) -> Mine:
    """A funded mine with its own share of the data; the first one trains with noise."""
    csv = directory / f"mine{number}.csv"
    mine = Mine(directory / f"mine{number}", Account.create(), network_file, csv, private=number == 0)
    fund(stage.web3, mine.account.address)
    mine.home.mkdir(mode=0o700)
    key_file = directory / f"mine{number}.key"
    key_file.touch(0o600)
    key_file.write_text(bytes(mine.account.key).hex())
    mine.call("init", "--key-file", str(key_file))
    (mine.home / "policy.toml").write_text(_POLICY + (_PRIVATE if mine.private else ""))
    rows = np.hstack(_draw(np.random.default_rng(100 + number), _RECORDS)).tolist()
    csv.write_text("\n".join(["f0,f1,f2,f3,height", *(",".join(map(repr, row)) for row in rows)]) + "\n")
    mine.call("add", "slopes", str(csv), "--target", "height")
    return mine


def open_market(
    stage: Stage, url: str, directory: Path, *, campaigns: int, mines: int
) -> tuple[list[Mine], list[Opened]]:
    """The mines, and the campaigns that the Capsule at `url` has admitted."""
    network: Network = stage.network.model_copy(update={"capsule": stage.attester, "capsule_url": url})
    network_file = network.save(directory / "mines.json")
    made = [make_mine(stage, network_file, directory, number) for number in range(mines)]
    opened = []
    for number in range(campaigns):
        owner = Account.create()
        fund(stage.web3, owner.address)
        chain = SonarClient.from_network(network, owner)
        with CapsuleClient(
            url, Domain(chain.chain_id, chain.address), owner, attester=Address(stage.attester)
        ) as capsule:
            validation = encode_validation(*_draw(np.random.default_rng(number), 2000))
            opened.append(open_campaign(chain, stage.store, capsule, _spec(mines, number), validation))
    return made, opened
