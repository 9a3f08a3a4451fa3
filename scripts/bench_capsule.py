"""Measures a Capsule under work: judged gradients a second and what they cost, answers meanwhile, memory.

A real `capsule serve` on a development chain, campaigns on digits (65 x 10 weights), rounds of 8 gradients. The keys of
all rounds are made ahead. Then, wave after wave, the Capsule is stopped (SIGSTOP) while every campaign gets a full
round of gradients, and let go on: what is measured is its own work, from then until the last settlement is signed and
stored. In most waves a load generator asks for `info` and admissions meanwhile.

    scripts/bench_capsule.py                 # 1,000 gradients at 3072 bits: ten minutes
    scripts/bench_capsule.py --quick         # half a minute on keys too small for anything; its times mean nothing

No exit code depends on a time; it is 1 where a job was lost, an answer was not 200, or a round was not judged.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_capsule_market import Market
from bench_capsule_report import PARTS, ROUND, Report, Wave, machine, markdown, merged
from bench_capsule_served import Served, loading
from capsule_market import environment, set_stage

from capsule.home import open_home
from capsule.keypool import KeyPool
from capsule.secret import generate_key

_PASSPHRASE = "measure me"  # noqa: S105  (guards nothing)
_PATIENCE = 600.0
_NO_LIMIT = "1000000"
_SETTINGS = {
    "PORT": "0", "METRICS_PORT": "0", "POLL": "0.25", "KEYS_PER_HOUR": _NO_LIMIT, "REQUESTS_PER_MINUTE": _NO_LIMIT,
    "SIGNED_PER_MINUTE": _NO_LIMIT, "CAMPAIGNS_AT_ONCE": "8", "LOG_FORMAT": "json",
    # One is always left, so no key is made while anything is measured.
    "SPARE_KEYS": "1",
}  # fmt: skip


def main() -> None:
    """Measures, prints, and exits with 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small keys and few gradients, to see that it works")
    parser.add_argument("--key-bits", type=int, default=3072)
    parser.add_argument("--campaigns", type=int, default=16)
    parser.add_argument("--gradients", type=int, default=1000, help="at least so many in all")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="how long answers are measured without work")
    parser.add_argument("--chain", default="anvil", choices=["anvil", "ganache", "embedded"])
    parser.add_argument("--json", metavar="FILE", help="write every number; - for stdout")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.key_bits, chosen.campaigns, chosen.gradients, chosen.idle_seconds = 768, 2, 32, 1.0
    # Whoever ends this ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="sonar-bench-") as directory, ExitStack() as stack:
        report = _run(chosen, Path(directory), stack).data()
    if chosen.json == "-":
        print(json.dumps(report))
    else:
        print(markdown(report))
        if chosen.json:
            Path(chosen.json).write_text(json.dumps(report))
    raise SystemExit(1 if report["problems"] else 0)


def _run(chosen: argparse.Namespace, directory: Path, stack: ExitStack) -> Report:
    names = environment(_PASSPHRASE, _SETTINGS)
    stage = set_stage(chosen.chain, directory, stack, names, chosen.key_bits)
    market = Market(stage, ROUND)
    waves = -(-chosen.gradients // (chosen.campaigns * ROUND))
    rounds = waves * chosen.campaigns

    keys = rounds + chosen.campaigns + 1
    _say(f"making {keys} keys of {chosen.key_bits} bits")
    report = Report(machine(), chosen.key_bits, _make_keys(stage.home, keys, chosen.key_bits))
    served = Served(stage.home, stage.network_file, names)
    stack.callback(served.process.kill)
    _say(f"opening {chosen.campaigns} campaigns")
    with market.capsule(served.url) as capsule:
        for _ in range(chosen.campaigns):
            market.open(capsule)
    paths = [
        "/v1/info" if i % 2 else f"/v1/admissions/0x{c.opened.id.hex()}" for c in market.campaigns for i in range(2)
    ]
    idle: list[dict[str, Any]] = []
    with loading(served.url, chosen.rate, paths, idle):
        time.sleep(chosen.idle_seconds)
    report.idle = merged(idle)
    for number in range(waves):
        # One in four is without load.
        load = (served.url, chosen.rate, paths) if number % 4 else None
        report.waves.append(_wave(served, market, load))
        _say(f"wave {number + 1} of {waves}: {report.waves[-1].gradients / report.waves[-1].seconds:.1f} gradients/s")
    for campaign in market.campaigns:
        campaign.versions.read()
    report.rounds, report.advanced = (
        sum(getattr(c.versions, n) for c in market.campaigns) for n in ("rounds", "advanced")
    )
    if report.rounds != rounds:
        report.problems.append(f"{report.rounds} rounds are settled, not {rounds}")
    lost = {name: value for name, value in served.numbers().items() if name.startswith("jobs_lost") and value}
    statuses = [load["statuses"] for load in [*idle, *(w.load for w in report.waves if w.load)]]
    bad = {status for found in statuses for status in found if status != "200"}
    report.problems += [f"{name}: {value:.0f}" for name, value in lost.items()] + [f"answers {one}" for one in bad]
    served.end()
    return report


def _wave(served: Served, market: Market, load: tuple[str, float, list[str]] | None) -> Wave:
    before, expected = served.numbers(), served.judged() + len(market.campaigns)
    seen: list[dict[str, Any]] = []
    with ExitStack() as stack:
        with served.stopped():
            market.post()
            cpu = served.cpu()
        begun = time.perf_counter()
        if load is not None:
            stack.enter_context(loading(*load, seen))
        _await(lambda: served.judged() >= expected, "the rounds", 0.01)
        seconds, spent = time.perf_counter() - begun, served.cpu()
    after = served.numbers()
    _await(market.settled, "the settlements")
    service, judges = served.memory()
    return Wave(
        gradients=ROUND * len(market.campaigns),
        seconds=seconds,
        service_cpu=spent[0] - cpu[0],
        judge_cpu=spent[1] - cpu[1],
        parts={part: after[f"job_seconds_total/{part}"] - before[f"job_seconds_total/{part}"] for part in PARTS},
        service_memory=service,
        judge_memory=judges,
        load=seen[0] if seen else None,
    )


def _make_keys(home: Path, count: int, bits: int) -> float:
    """Makes so many spare keys; the seconds of processor time that one took."""
    opened, spent = open_home(home, _PASSPHRASE), 0.0
    pool = KeyPool(opened.state, opened.vault, lambda: generate_key(bits, allow_insecure_small_key=True))
    for _ in range(count):
        begun = time.process_time()
        key = generate_key(bits, allow_insecure_small_key=True)
        spent += time.process_time() - begun
        pool.add(key)
    opened.state.close()
    return spent / count


def _await(condition: Callable[[], bool], what: str, pause: float = 0.2) -> None:
    limit = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit(f"{what} did not come within {_PATIENCE:.0f} seconds")
        time.sleep(pause)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
