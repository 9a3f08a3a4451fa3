"""Kills mines again and again while they train and post, and proves that nothing was lost and nothing done twice.

Real `mine run` processes, a real Capsule that judges, a real development chain; only the keys are short. Each round of
each campaign needs a gradient of every mine, so one lost gradient stops everything. The mines are killed with SIGKILL
at random instants, also while they start, and started again; their children must be gone each time. In the end every
gradient on chain must be in its mine's ledger as it is on chain and in its audit log once, the account must have sent
one transaction for each, the account of earnings must be that of the chain to the last wei, and the audit log whole.
The first mine trains with noise on data that grow: each version of them must have been paid for once.

    scripts/kill_mine.py --kills 200
"""

import argparse
import dataclasses
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from capsule_market import Stage, environment, set_stage
from kill_capsule import Served
from kill_capsule_checks import survivors
from kill_mine_checks import Findings, check_mine
from kill_mine_market import Mine, open_market

from sonar.chain.client import SonarClient
from sonar.units import CampaignId

_PASSPHRASE = "nobody kills me"  # noqa: S105  (guards nothing)
_GONE_SECONDS = 5.0
"""How long the children of a killed mine may take to notice."""
_FINISH_SECONDS = 60.0
_WATCH_SECONDS = 10.0
"""How long something is waited for that a kill is to follow."""


@dataclasses.dataclass
class Watch:
    """What happens on the chain and in a mine's ledger, so that a kill can come right after it."""

    stage: Stage
    chain: SonarClient
    ids: list[CampaignId]

    def until_next(self, what: str, mine: Mine) -> None:
        """Returns when it happens next, or after a while."""
        looks = {
            "anything": lambda: 0,
            "gradient is trained": mine.trained,
            "gradient is on chain": lambda: self.transactions(mine),
            "round is settled": self.rounds,
        }
        deadline, before = time.monotonic() + _WATCH_SECONDS, looks[what]()
        while what != "anything" and looks[what]() <= before and time.monotonic() < deadline:
            time.sleep(0.002)

    def transactions(self, mine: Mine) -> int:
        """How many of the mine's are mined."""
        return self.stage.web3.eth.get_transaction_count(mine.account.address)

    def rounds(self) -> int:
        """How many rounds are settled."""
        return sum(self.chain.round(campaign).number for campaign in self.ids)


def main() -> None:
    """Runs the market, kills, checks; exits with 1 if anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="of the instants; printed, so that a run can be told of")
    parser.add_argument("--mines", type=int, default=2)
    parser.add_argument("--campaigns", type=int, default=3)
    parser.add_argument("--chain", default="ganache", choices=["anvil", "ganache"])
    parser.add_argument("--most-seconds", type=float, default=2.5, help="the longest life of a mine that has begun")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
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
    names = environment(_PASSPHRASE)
    stage = set_stage(chosen.chain, directory, stack, names, key_bits=512)
    capsule = Served(stage, names)
    stack.callback(capsule.process.kill)
    mines, opened = open_market(stage, capsule.listening(), directory, campaigns=chosen.campaigns, mines=chosen.mines)
    ids = [one.id for one in opened]
    watch = Watch(stage, SonarClient.from_network(stage.network), ids)
    for mine in mines:
        mine.start()
        stack.callback(_end, mine, signal.SIGKILL)

    rng, found, starting = random.Random(chosen.seed), Findings(), 0  # noqa: S311  (instants, no secrets)
    for kill in range(chosen.kills):
        victim = rng.choice(mines)
        # One in five is killed while it starts; the others in what they do, most of them soon after something happened.
        early = rng.random() < 0.2
        starting += early
        if not early:
            watch.until_next(
                rng.choice(["anything", "gradient is trained", "gradient is on chain", "round is settled"]), victim
            )
        time.sleep(rng.uniform(0, chosen.most_seconds if early else rng.choice([0.0, 0.05, 0.3, chosen.most_seconds])))
        _kill(victim, found)
        if victim.private and rng.random() < 0.5:
            victim.grow(rng)
        victim.start()
        if not chosen.json and kill % 10 == 9:
            print(f"{kill + 1} kills, {watch.rounds()} rounds", file=sys.stderr)
    rounds = watch.rounds()
    # Two of each in the end, also where a busy machine let the mines live too short for one.
    enough = max(rounds + len(ids), 2 * len(ids))
    _wait(lambda: watch.rounds() >= enough, "another round of every campaign", found)
    for mine in mines:
        code = _end(mine, signal.SIGTERM)
        # One that is only just starting ends as any process does that has not said yet what SIGTERM is to do.
        found.expect(code in {0, -signal.SIGTERM}, f"{mine.home.name} ended with {code} on SIGTERM: {_log(mine)}")
    _wait(
        lambda: not any(_full(watch, campaign, chosen.mines) for campaign in ids),
        "the settlement of full rounds",
        found,
    )
    capsule.end(signal.SIGTERM)
    for mine in mines:
        check_mine(mine, stage.network, ids, found)
    if found.problems:  # the folder is about to go
        print("\n".join(f"{mine.home.name}: {_log(mine)}" for mine in mines), file=sys.stderr)
        print((directory / "serve.log").read_text(), file=sys.stderr)
    return {
        "seed": chosen.seed, "kills": chosen.kills, "while_starting": starting, "rounds": watch.rounds(),
        "seconds": round(time.monotonic() - begun, 1), **dataclasses.asdict(found),
    }  # fmt: skip


def _full(watch: Watch, campaign: CampaignId, mines: int) -> bool:
    return watch.chain.round(campaign).count == mines


def _kill(mine: Mine, found: Findings) -> None:
    assert mine.process is not None
    code = mine.process.poll()
    found.expect(code is None, f"{mine.home.name} ended by itself with {code}: {_log(mine)}")
    session = mine.process.pid
    _end(mine, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := survivors({session})) and time.monotonic() < deadline:
        time.sleep(0.05)
    found.expect(not left, f"the killed {mine.home.name} left the processes {left} behind")


def _end(mine: Mine, number: signal.Signals) -> int:
    assert mine.process is not None
    if mine.process.poll() is None:
        mine.process.send_signal(number)
    return mine.process.wait(60)


def _wait(done: Callable[[], bool], what: str, found: Findings) -> None:
    deadline = time.monotonic() + _FINISH_SECONDS
    while not done():
        if time.monotonic() > deadline:
            found.problems.append(f"{what} did not come within {_FINISH_SECONDS:.0f} seconds")
            return
        time.sleep(0.05)


def _log(mine: Mine) -> str:
    return (mine.home / "run.log").read_text()[-500:]


if __name__ == "__main__":
    main()
