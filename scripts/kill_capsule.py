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
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from capsule_market import Stage, environment, set_stage
from kill_capsule_checks import check_market, survivors
from kill_capsule_market import Campaign, in_background, start_campaign

from capsule.home import open_state
from capsule.state import State
from sonar.chain.client import SonarClient

_PASSPHRASE = "kill me"  # noqa: S105  (guards nothing)
_GONE_SECONDS = 5.0
"""How long the children of a killed Capsule may take to notice."""
_FINISH_SECONDS = 1200.0
_WATCH_SECONDS = 10.0
"""How long something is waited for that a kill is to follow."""


class Served:
    """One `capsule serve` in a session of its own, so that what it starts can be told from all else."""

    def __init__(self, stage: Stage, names: dict[str, str]) -> None:
        command = [sys.executable, "-m", "capsule", "serve", "--home", str(stage.home),
                   "--network", str(stage.network_file), "--port", "0", "--poll", "0.1"]  # fmt: skip
        self._log = (stage.home.parent / "serve.log").open("ab")
        self.process = subprocess.Popen(
            command, env=names, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True
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

    stage: Stage
    chain: SonarClient
    state: State
    campaigns: list[Campaign]

    def until_next(self, what: str) -> None:
        """Returns when it happens next, or after a while."""
        looks = {
            "anything": lambda: 0,
            "round is full": self._full,
            "settlement is stored": lambda: sum(len(self.state.rounds(campaign.id)) for campaign in self.campaigns),
            "settlement is on chain": self.transactions,
        }
        deadline, before = time.monotonic() + _WATCH_SECONDS, looks[what]()
        while what != "anything" and looks[what]() <= before and time.monotonic() < deadline:
            time.sleep(0.002)

    def transactions(self) -> int:
        """How many of the Capsule's are mined."""
        return self.stage.web3.eth.get_transaction_count(self.stage.attester)

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
    names = environment(_PASSPHRASE, {} if chosen.database is None else {"DATABASE": chosen.database})
    stage = set_stage(chosen.chain, directory, stack, names, key_bits=512)
    served = [Served(stage, names) for _ in range(chosen.workers)]
    stack.callback(lambda: [one.process.kill() for one in served])
    urls = [one.listening() for one in served]
    campaigns = [
        start_campaign(stage, urls[index % len(urls)], mines=chosen.mines, seed=index)
        for index in range(chosen.campaigns)
    ]
    kills_left = [chosen.kills]
    threads = in_background(campaigns, lambda number: number < chosen.rounds or kills_left[0] > 0)

    starting = unsettled = under_way = 0
    state = stack.enter_context(closing(open_state(stage.home, chosen.database, migrate=False)))
    watch = Watch(stage, SonarClient.from_network(stage.network), state, campaigns)
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
        served[victim] = Served(stage, names)
        kills_left[0] -= 1
        if not chosen.json and kills_left[0] % 10 == 0:
            print(f"{chosen.kills - kills_left[0]} kills", file=sys.stderr)
    deadline = time.monotonic() + _FINISH_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    problems += [campaign.problem for campaign in campaigns if campaign.problem]
    problems += ["mines still wait for a settlement"] * any(thread.is_alive() for thread in threads)
    _wait_until_final(stage.home, chosen.database, deadline)
    for one in served:
        one.listening()
        session = one.end(signal.SIGTERM)
        if left := _left_behind(session):
            problems.append(f"the stopped Capsule left the processes {left} behind")
    found = check_market(
        stage.home, _PASSPHRASE, chosen.database, stage.network, stage.store, [campaign.id for campaign in campaigns]
    )
    counts = dataclasses.asdict(found)
    counts["problems"] = problems + found.problems
    return {
        "seed": chosen.seed, "kills": chosen.kills, "while_starting": starting, "while_unsettled": unsettled,
        "while_sending": under_way, "workers": chosen.workers,
        "transactions": watch.transactions(), "seconds": round(time.monotonic() - begun, 1), **counts,
    }  # fmt: skip


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
