"""Kills a Capsule again and again while it judges, and proves that nothing was lost and nothing done twice.

A real `capsule serve` on a real development chain, a campaign with simulated mines (small keys, everything else real).
The process is killed with SIGKILL at random instants, also while it starts, and started again; its children must be
gone each time. In the end every round must be settled exactly once: one signature a round and head in the database and
in the audit log, the same one on chain, the audit log intact, and the key of every model version there and opening it.

    scripts/kill_capsule.py --kills 200
    scripts/kill_capsule.py --kills 0 --campaigns 10 --rounds 10 --mines 3 --workers 2 --database postgresql://...
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from eth_account import Account
from kill_capsule_checks import check_market, survivors
from kill_capsule_market import Campaign, fund, in_background, open_campaign
from web3 import Web3

from capsule.home import open_home, open_state
from capsule.state import State
from sonar.chain.client import SonarClient
from sonar.chain.deploy import deploy
from sonar.config import Network
from sonar.devnet_services import START_SECONDS, start_chain
from sonar.processes import wait_until
from sonar.storage import open_store

_PASSPHRASE = "kill me"  # noqa: S105  (guards nothing)
_GONE_SECONDS = 5.0
"""How long the children of a killed Capsule may take to notice."""
_FINISH_SECONDS = 300.0
_WATCH_SECONDS = 10.0
"""How long something is waited for that a kill is to follow."""


class Served:
    """One `capsule serve` in a session of its own, so that what it starts can be told from all else."""

    def __init__(self, home: Path, network: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "capsule", "serve", "--home", str(home), "--network", str(network),
                   "--port", "0", "--poll", "0.1"]  # fmt: skip
        self._log = (home.parent / "serve.log").open("ab")
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True
        )

        self._url: str | None = None

    def listening(self) -> str:
        """Where it listens, once it does."""
        if self._url is None:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"capsule serve did not start: {Path(self._log.name).read_text()[-2000:]}")
            self._url = str(json.loads(line)["url"])
        return self._url

    def end(self, number: signal.Signals) -> int:
        """Sends the signal, and waits for the end of the process; the session's number."""
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return self.process.pid


@dataclasses.dataclass
class Watch:
    """What happens on the chain and in the database, so that a kill can come right after it."""

    chain: SonarClient
    state: State
    campaigns: list[Campaign]

    def until_next(self, what: str) -> None:
        """Returns when it happens next, or after a while."""
        looks = {
            "anything": lambda: 0,
            "round is full": self._full,
            "settlement is stored": lambda: sum(len(self.state.rounds(campaign.id)) for campaign in self.campaigns),
            "settlement is on chain": self.chain.used_nonce,
        }
        deadline, before = time.monotonic() + _WATCH_SECONDS, looks[what]()
        while what != "anything" and looks[what]() <= before and time.monotonic() < deadline:
            time.sleep(0.002)

    def _full(self) -> int:
        rounds = [self.chain.round(campaign.id) for campaign in self.campaigns]
        full = [one.count == len(campaign.mines) for one, campaign in zip(rounds, self.campaigns, strict=True)]
        return sum(one.number for one in rounds) + sum(full)


def main() -> None:
    """Runs the market, kills, checks; exits with 1 if anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="of the instants; printed, so that a run can be told of")
    parser.add_argument("--mines", type=int, default=10)
    parser.add_argument("--campaigns", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="the least number of rounds of each campaign")
    parser.add_argument("--workers", type=int, default=1, help="processes at once; more than one needs --database")
    parser.add_argument("--database", help="a PostgreSQL URL; SQLite without")
    parser.add_argument("--chain", default="anvil", choices=["anvil", "ganache"])
    parser.add_argument("--most-seconds", type=float, default=2.5, help="the longest life of a Capsule that listens")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.workers > 1 and chosen.database is None:
        parser.error("several workers need a --database")
    chosen.seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    with tempfile.TemporaryDirectory(prefix="sonar-kill-") as directory, ExitStack() as stack:
        report = _run(chosen, Path(directory), stack)
    if chosen.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:<16} {value}")
    raise SystemExit(1 if report["problems"] else 0)


def _run(chosen: argparse.Namespace, directory: Path, stack: ExitStack) -> dict[str, object]:
    begun = time.monotonic()
    _, rpc_url = start_chain(chosen.chain, 0, directory, stack)
    web3 = Web3(Web3.HTTPProvider(rpc_url))
    wait_until(web3.is_connected, timeout=START_SECONDS, what="the chain")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_CAPSULE")}
    environment |= {"SONAR_CAPSULE_PASSPHRASE": _PASSPHRASE}
    environment |= {} if chosen.database is None else {"SONAR_CAPSULE_DATABASE": chosen.database}
    home, deployer = directory / "capsule", Account.create()
    attester = _init(home, environment)
    for account in (deployer, attester):
        fund(web3, account)
    contract = deploy(web3, deployer)
    network = Network(
        rpc_url=rpc_url, chain_id=web3.eth.chain_id, contract=contract.address, start_block=contract.block,
        store=f"directory:{directory / 'store'}",
    )  # fmt: skip
    file = network.save(directory / "network.json")
    store = stack.enter_context(open_store(network.store))

    served = [Served(home, file, environment) for _ in range(chosen.workers)]
    stack.callback(lambda: [one.process.kill() for one in served])
    urls = [one.listening() for one in served]
    campaigns = [
        open_campaign(network, store, web3, urls[index % len(urls)], attester.address, mines=chosen.mines, seed=index)
        for index in range(chosen.campaigns)
    ]
    kills_left = [chosen.kills]
    threads = in_background(campaigns, lambda number: number < chosen.rounds or kills_left[0] > 0)

    starting = unsettled = under_way = 0
    state = stack.enter_context(closing(open_state(home, chosen.database, migrate=False)))
    watch = Watch(SonarClient.from_network(network, attester), state, campaigns)
    rng, problems = random.Random(chosen.seed), []  # noqa: S311  (instants, no secrets)
    while kills_left[0] > 0:
        victim = rng.randrange(len(served))
        # One in five is killed while it starts; the others in what they do, most of them soon after something happened.
        early = rng.random() < 0.2
        starting += early
        if not early:
            served[victim].listening()
            watch.until_next(
                rng.choice(["anything", "round is full", "settlement is stored", "settlement is on chain"])
            )
        time.sleep(rng.uniform(0, chosen.most_seconds if early else rng.choice([0.0, 0.05, 0.3, chosen.most_seconds])))
        session = served[victim].end(signal.SIGKILL)
        if left := _left_behind(session):
            problems.append(f"the killed Capsule left the processes {left} behind")
        unsettled += bool(watch.state.counts()["unsettled"])
        under_way += bool(watch.state.open_relays())
        served[victim] = Served(home, file, environment)
        kills_left[0] -= 1
        if not chosen.json and kills_left[0] % 10 == 0:
            print(f"{chosen.kills - kills_left[0]} kills", file=sys.stderr)
    deadline = time.monotonic() + _FINISH_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    problems += [campaign.problem for campaign in campaigns if campaign.problem]
    problems += ["mines still wait for a settlement"] * any(thread.is_alive() for thread in threads)
    _wait_until_final(home, chosen.database, deadline)
    for one in served:
        one.listening()
        session = one.end(signal.SIGTERM)
        if left := _left_behind(session):
            problems.append(f"the stopped Capsule left the processes {left} behind")
    found = check_market(home, _PASSPHRASE, chosen.database, network, store, [campaign.id for campaign in campaigns])
    counts = dataclasses.asdict(found)
    counts["problems"] = problems + found.problems
    client = SonarClient.from_network(network, attester)
    return {
        "seed": chosen.seed, "kills": chosen.kills, "while_starting": starting, "while_unsettled": unsettled,
        "while_sending": under_way, "workers": chosen.workers,
        "transactions": client.used_nonce(), "seconds": round(time.monotonic() - begun, 1), **counts,
    }  # fmt: skip


def _init(home: Path, environment: dict[str, str]) -> Account:
    command = [sys.executable, "-m", "capsule", "init", "--home", str(home), "--json", "--key-bits", "512",
               "--allow-insecure-small-key"]  # fmt: skip
    subprocess.run(command, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    opened = open_home(home, _PASSPHRASE, database=environment.get("SONAR_CAPSULE_DATABASE"))
    opened.state.close()
    return opened.attester


def _left_behind(session: int) -> list[int]:
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := survivors({session})) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _wait_until_final(home: Path, database: str | None, deadline: float) -> None:
    with closing(open_state(home, database, migrate=False)) as state:
        while (state.counts()["unsettled"] or state.open_relays()) and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
