"""One campaign from start to end on this machine, every actor its own process. Run it as `./scripts/demo`.

A data scientist, honest mines with disjoint and unlike shares and, after the first improvement, a poisoner (shuffled
labels) and a thief (other mines' sealed gradients). Exit code 0 only if everybody was paid as promised.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from demo_data import DataProblem, Split, Table, digits, pooled_accuracy, read_csv, split
from demo_report import Outcome, failures, first_paid_round, print_outcome, report
from rich.console import Console

from sonar import devnet
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignCreated, Event, GradientSubmitted, RoundSettled
from sonar.chain.records import Status
from sonar.devnet_services import CHAINS, default_chain, default_store
from sonar.errors import SonarError
from sonar.processes import Child, ProcessError, wait_until
from sonar.protocol.spec import Training
from sonar.units import CampaignId, ether, format_ppm
from sonar.wallet import load_account

TIMEOUT = 900
SCRIPTS = Path(__file__).resolve().parent
_POLICY = """\
# The demo's shares are small, and belong to nobody: records that show in a gradient harm no one.
[data]
min_records = 10
records_per_feature = 0
min_class_records = 0
# A round that is not full is waited for.
[work]
back_off = false
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse ends with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Run one campaign from start to end.")
    parser.add_argument("--embedded", action="store_true", help="no Node: in-process EVM and a directory store")
    parser.add_argument("--chain", choices=CHAINS, help="default: Ganache where Node 20+ is installed")
    parser.add_argument("--data", type=Path, metavar="FILE.csv", help="a CSV with numeric features and a class column")
    parser.add_argument("--target", metavar="COLUMN", help="the class column of --data")
    parser.add_argument("--mines", type=int, default=4, metavar="N", help="honest mines (default 4)")
    parser.add_argument("--target-score", type=float, metavar="0.9", help="default 0.95 for digits, 0.9 for --data")
    parser.add_argument("--bounty", default="1", metavar="ETH", help="default 1")
    parser.add_argument(
        "--round-size", type=int, metavar="N", help="1: the original rule, one gradient judged at a time"
    )
    parser.add_argument("--max-rounds", type=int, metavar="N", help="default 5; 18 with --round-size 1")
    parser.add_argument("--key-bits", type=int, default=3072, help="Paillier modulus (default 3072)")
    parser.add_argument("--seed", type=int, default=1, help="of the split into shares (default 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a report")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files and logs in DIR")
    parser.add_argument("--install-seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if (arguments.data is None) != (arguments.target is None):
        parser.error("--data and --target go together")
    if not 1 <= arguments.mines <= 32:
        parser.error(f"--mines {arguments.mines} is not between 1 and 32")
    if arguments.round_size != 1 and arguments.mines < 2:
        parser.error("one mine alone needs --round-size 1: a round keeps at least two")
    if arguments.target_score is None:
        arguments.target_score = 0.95 if arguments.data is None else 0.9
    return arguments


def plan_campaign(arguments: argparse.Namespace, table: Table, shares: Split, folder: Path) -> dict[str, Any]:
    """What the data scientist's process is told: her own tables and the campaign's terms."""
    single = arguments.round_size == 1
    size = arguments.round_size or arguments.mines + 2
    return {
        "name": table.name,
        "target_column": table.target,
        "classes": table.classes,
        "offset": shares.offset,
        "scale": shares.scale,
        "validation": str(shares.validation.write(folder / "validation.csv")),
        "test": str(shares.test.write(folder / "test.csv")),
        "bounty_wei": int(ether(arguments.bounty)),
        "target": arguments.target_score,
        "deadline": "1h",
        "min_records": min(len(share.labels) for share in shares.shares),
        "training": Training().model_dump(),
        "rounds": {
            "round_size": size,
            "round_seconds": 10,
            "settlement_seconds": 3600,
            "min_mines": 1 if single else 2,
            "max_rounds": arguments.max_rounds or (18 if single else 5),
        },
        "timeout": TIMEOUT,
    }


class Actors:
    """The processes of the campaign's actors; each is stopped by its own handle on the way out."""

    def __init__(self, net: devnet.Devnet, folder: Path, plan: dict[str, Any], stack: ExitStack) -> None:
        self.net, self.folder, self.plan, self.stack = net, folder, plan, stack
        self.children: dict[str, Child] = {}

    def start(self, name: str, *command: str) -> Child:
        """A process of its own for one actor."""
        child = Child(name, [sys.executable, *command], log=self.folder / f"{name}.log", env=self._env(name))
        self.stack.callback(child.stop)
        self.children[name] = child
        return child

    def script(self, name: str, script: str, account: str, *more: str) -> Child:
        """One of the demo's own scripts under an account's key."""
        return self.start(
            name, str(SCRIPTS / script), "--network", str(self.net.network_file),
            "--key-file", str(self.net.accounts[account]), *more,
        )  # fmt: skip

    def mine(self, name: str, data: Path, column: str) -> Child:
        """A mine: made, given its data, and left running."""
        self.run(name, "init", "--key-file", str(self.net.accounts[name]))
        (self.folder / name / "policy.toml").write_text(_POLICY)
        self.run(name, "add", "data", str(data), "--target", column)
        more = ["--allow-single"] if self.plan["rounds"]["min_mines"] == 1 else []
        return self.start(name, "-m", "mine", "run", "--home", str(self.folder / name), "--poll", "0.5", *more)

    def await_mines(self) -> None:
        """Returns once every mine watches the chain: a round's first seconds are then the same for all."""
        for child in self.children.values():
            wait_until(
                lambda log=child.log: "mining as" in log.read_text(),  # type: ignore[misc]
                timeout=120, what=f"{child.name}'s first look at the chain", child=child,
            )  # fmt: skip

    def run(self, name: str, *command: str) -> None:
        """One command of a mine; raises ProcessError when it fails."""
        first, *rest = command
        arguments = [sys.executable, "-m", "mine", first, "--home", str(self.folder / name), *rest]
        child = Child(f"{name} {first}", arguments, log=self.folder / f"{name}.log", env=self._env(name))
        try:
            if child.wait(60) != 0:
                raise ProcessError(f"{name}: `mine {first}` failed: {child.last_words()}")
        finally:
            child.stop()

    def check(self) -> None:
        """Raises ProcessError if an actor that should still run has failed."""
        for name, child in self.children.items():
            if child.poll() not in (None, 0):
                raise ProcessError(f"{name} failed: {child.last_words()}")
        if (dead := self.net.dead()) is not None:
            raise ProcessError(f"{dead.name} ended by itself: {dead.last_words()}")

    def _env(self, name: str) -> dict[str, str]:
        home = self.net.network_file.parent if name == "owner" else self.folder / name
        return {"SONAR_HOME": str(home), "SONAR_NETWORK": str(self.net.network_file), "OMP_NUM_THREADS": "1"}


def run_campaign(
    actors: Actors, client: SonarClient, names: dict[str, str], tables: list[Table], say: Console
) -> CampaignId:
    """Starts mines and owner, after the first improvement the adversaries; returns once the owner has her model."""
    folder, honest = actors.folder, len(tables) - 1
    paths = [table.write(folder / f"mine{number}.csv") for number, table in enumerate(tables, start=1)]
    plan_file = folder / "plan.json"
    plan_file.write_text(json.dumps(actors.plan))
    for number in range(1, honest + 1):
        actors.mine(f"mine{number}", paths[number - 1], actors.plan["target_column"])
    actors.await_mines()
    owner = actors.script(
        "owner", "demo_owner.py", "owner", "--plan", str(plan_file), "--result", str(folder / "result.json")
    )

    cursor = EventCursor(client, actors.net.network.start_block)
    campaign: CampaignId | None = None
    adversaries = False
    deadline = time.monotonic() + TIMEOUT
    while owner.poll() is None:
        actors.check()
        if time.monotonic() > deadline:
            raise ProcessError(f"the campaign was not over after {TIMEOUT} s; logs are in {folder}")
        for event in cursor.read():
            campaign = event.id if isinstance(event, CampaignCreated) else campaign
            tell(event, names, say)
            running = campaign is not None and client.campaign(campaign).status is Status.RUNNING
            if isinstance(event, RoundSettled) and event.advances and running and not adversaries:
                adversaries = True
                assert campaign is not None
                say.print("a poisoner (shuffled labels) and a thief join", style="yellow")
                actors.mine("poisoner", paths[-1], actors.plan["target_column"])
                actors.script("thief", "demo_thief.py", "thief", "--campaign", campaign.hex())
        time.sleep(0.2)
    actors.check()
    for event in cursor.read():
        tell(event, names, say)
    if campaign is None:
        raise ProcessError(f"the data scientist published no campaign: {owner.last_words()}")
    for number in range(1, honest + 1):
        actors.children[f"mine{number}"].stop()
        if client.credit(load_account(actors.net.accounts[f"mine{number}"]).address):
            actors.run(f"mine{number}", "withdraw")
    return campaign


def audit(campaign: CampaignId, net: devnet.Devnet) -> dict[str, Any]:
    """What `sonar audit`, a process without any key, finds from chain and store alone."""
    command = [sys.executable, "-m", "sonar", "audit", "0x" + campaign.hex(), "--json"]
    done = subprocess.run(
        [*command, "--network", str(net.network_file)], capture_output=True, text=True, timeout=300, check=False
    )
    if not done.stdout:
        raise ProcessError(f"the audit ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tell(event: Event, names: dict[str, str], say: Console) -> None:
    """One line of progress for an event."""
    match event:
        case CampaignCreated():
            say.print(f"campaign 0x{event.id.hex()[:8]}… starts at {format_ppm(event.admission.start_score)}")
        case GradientSubmitted():
            say.print(f"  round {event.round}: {names.get(event.mine, event.mine)} posts an encrypted gradient")
        case RoundSettled():
            verb = "rises to" if event.advances else "stays at"
            say.print(f"round {event.round} is settled: the score {verb} {format_ppm(event.score)}", style="green")


def run(arguments: argparse.Namespace, folder: Path, say: Console) -> int:
    """The whole demo in `folder`; returns the exit code."""
    table = digits() if arguments.data is None else read_csv(arguments.data, arguments.target)
    rng = np.random.default_rng(arguments.seed)
    shares = split(table, arguments.mines, rng, standardise=arguments.data is not None)
    plan = plan_campaign(arguments, table, shares, folder)
    tables = [*shares.shares[:-1], shares.shares[-1].shuffled_labels(rng)]
    say.print(
        f"{table.name}: {len(table.labels)} records, {len(table.columns)} features, {len(table.classes)} classes; "
        f"shares of {', '.join(str(len(share.labels)) for share in tables)} records"
    )

    chain = "embedded" if arguments.embedded else arguments.chain or default_chain()[0]
    store = "directory" if arguments.embedded else default_store()[0]
    honest = [f"mine{number}" for number in range(1, arguments.mines + 1)]
    options = devnet.DevnetOptions(
        home=folder / "sonar", chain=chain, store=store, key_bits=arguments.key_bits,
        accounts=("owner", *honest, "poisoner", "thief"),
    )  # fmt: skip
    started = time.monotonic()
    with ExitStack() as stack:
        net = stack.enter_context(devnet.start(options, say.print))
        devnet_seconds = time.monotonic() - started
        addresses = {name: load_account(path).address for name, path in net.accounts.items()}
        names = {addresses[name]: name for name in (*honest, "poisoner", "thief")}
        client = SonarClient.from_network(net.network)
        campaign_started = time.monotonic()
        campaign = run_campaign(Actors(net, folder, plan, stack), client, names, tables, say)
        campaign_seconds = time.monotonic() - campaign_started
        outcome = Outcome.read(client, campaign, net.network.start_block)
        audited = audit(campaign, net)
        identity = {"client": client.web3.client_version, "chain_id": client.chain_id, "contract": client.address}
        result = json.loads((folder / "result.json").read_text())

    pooled = pooled_accuracy(shares, table.classes, Training().l2)
    model = {
        "key_bits": arguments.key_bits,
        "test_accuracy": result["test_accuracy"],
        "pooled_test_accuracy": pooled,
    }
    seconds = {"install": arguments.install_seconds, "devnet": devnet_seconds, "campaign": campaign_seconds}
    print_outcome(outcome, names, say)
    say.print(
        f"held-out accuracy of the delivered model: {result['test_accuracy']:.4f} on {len(shares.test.labels)} records "
        f"(the same ridge model on all honest shares pooled: {pooled:.4f})"
    )
    say.print(f"devnet {devnet_seconds:.1f} s, campaign {campaign_seconds:.1f} s at {arguments.key_bits}-bit keys")
    if len(outcome.rounds) == first_paid_round(outcome):
        say.print("the campaign was over with its first improvement, so poisoner and thief had nothing to attack")
    counts = {verdict: audited[verdict] for verdict in ("holds", "differs", "unchecked")}
    say.print(f"audited from chain and store alone: {counts['holds']} checks hold")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report(outcome, names, identity, model, counts, seconds), indent=2) + "\n")
    problems = failures(outcome, [addresses[name] for name in honest], addresses["poisoner"], addresses["thief"])
    problems += [
        f"audit, {finding['check']}, {finding['place']}: {finding['sentence']}"
        for finding in audited["findings"]
        if finding["verdict"] != "holds"
    ]
    for problem in problems:
        say.print(f"FAILED: {problem}", style="red")
    return 1 if problems else 0


def main() -> int:
    """Runs the demo in a folder of its own, which is removed at the end unless it is asked for or needed."""
    arguments = parse_arguments()
    # No markup: a file's name may look like it.
    say, aside = (Console(highlight=False, soft_wrap=True, markup=False, stderr=stderr) for stderr in (False, True))
    try:
        folder = Path(tempfile.mkdtemp(prefix="sonar-demo-")) if arguments.keep is None else arguments.keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.json is not None:  # now, and not after the campaign
            arguments.json.open("a").close()
    except OSError as error:
        aside.print(f"Error: {error.filename} cannot be written: {error.strerror}: choose another path", style="red")
        return 3
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does, so that no process is left behind.
        signal.signal(number, signal.default_int_handler)
    try:
        code = run(arguments, folder, say)
    except (SonarError, DataProblem) as error:
        aside.print(f"Error: {error}", style="red")
        code = error.exit_code if isinstance(error, SonarError) else 3
    except KeyboardInterrupt:
        code = 130
    if arguments.keep is None:
        if code == 0 or not any(folder.iterdir()):
            shutil.rmtree(folder)
        else:
            print(f"logs: {folder}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
