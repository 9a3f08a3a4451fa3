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
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from bench_capsule_market import Market
from capsule_market import fund
from eth_account import Account
from prometheus_client.parser import text_string_to_metric_families
from web3 import Web3

from capsule.home import open_home
from capsule.keypool import KeyPool
from capsule.secret import generate_key
from sonar.chain.deploy import deploy
from sonar.config import Network
from sonar.devnet_services import START_SECONDS, start_chain
from sonar.processes import wait_until
from sonar.storage import open_store
from sonar.syft import get_engine
from sonar.units import Address

_PASSPHRASE = "measure me"  # noqa: S105  (guards nothing)
_ROUND = 8
_PATIENCE = 600.0
_HERE = Path(__file__).parent
_PARTS = ("decrypting", "ciphertexts", "judging", "total")
_NO_LIMIT = "1000000"


@dataclass
class Wave:
    """One full round of every campaign: seconds on the clock and of processor time, and memory after it in MiB."""

    gradients: int
    seconds: float
    service_cpu: float
    judge_cpu: float
    parts: dict[str, float]
    service_memory: float
    judge_memory: float
    load: dict[str, Any] | None = None


@dataclass
class Report:
    """Everything that was measured."""

    machine: dict[str, Any]
    key_bits: int
    key_seconds: float
    waves: list[Wave] = field(default_factory=list)
    idle: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0
    advanced: int = 0
    problems: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """For JSON, with what follows from the waves."""
        quiet, loaded = ([w for w in self.waves if (w.load is not None) == under] for under in (False, True))
        quiet = quiet[1:] or quiet  # the first wave warms up
        return {
            "machine": self.machine,
            "key_bits": self.key_bits,
            "gradients": sum(wave.gradients for wave in self.waves),
            "rounds": self.rounds,
            "advanced": self.advanced,
            "quiet": _throughput(quiet, self.key_seconds),
            "loaded": _throughput(loaded, self.key_seconds),
            "latency": {"idle": self.idle, "judging": _merged([w.load for w in loaded if w.load is not None])},
            "memory_mib": [
                {"gradients": total, "service": round(wave.service_memory, 1), "judges": round(wave.judge_memory, 1)}
                for total, wave in zip(np.cumsum([w.gradients for w in self.waves]).tolist(), self.waves, strict=True)
            ],
            "problems": self.problems,
        }


class Served:
    """One `capsule serve` with its metrics."""

    def __init__(self, home: Path, network: Path, spare_keys: int) -> None:
        names = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_CAPSULE")}
        settings = {
            "PASSPHRASE": _PASSPHRASE, "PORT": "0", "METRICS_PORT": "0", "POLL": "0.25", "KEYS_PER_HOUR": _NO_LIMIT,
            "SPARE_KEYS": str(spare_keys), "REQUESTS_PER_MINUTE": _NO_LIMIT, "SIGNED_PER_MINUTE": _NO_LIMIT,
            "CAMPAIGNS_AT_ONCE": "8", "LOG_FORMAT": "json",
        }  # fmt: skip
        names |= {f"SONAR_CAPSULE_{name}": value for name, value in settings.items()}
        self.log = home.parent / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "capsule", "serve", "--home", str(home), "--network", str(network)],
                env=names, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"capsule serve did not start: {self.log.read_text()[-2000:]}")
        told = json.loads(line)
        self.url, self._metrics = told["url"], told["metrics"]
        self._asking = httpx.Client(timeout=60)
        self._service = psutil.Process(self.process.pid)
        self._read, self._judged = self.log.stat().st_size, 0

    def numbers(self) -> dict[str, float]:
        """All metrics, 0 where there is none; a label's value follows the name after a slash."""
        text = self._asking.get(self._metrics).text
        return defaultdict(float) | {
            "/".join((sample.name.removeprefix("sonar_capsule_"), *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def judged(self) -> int:
        """How many rounds it has signed: from its log, because to ask for metrics costs time that would be measured."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            lines = log.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        self._judged += sum(b"judged round" in line for line in whole)
        return self._judged

    def cpu(self) -> tuple[float, float]:
        """Processor seconds so far, of the service and of its children."""
        own = self._service.cpu_times()
        return own.user + own.system, sum(t.user + t.system for t in (c.cpu_times() for c in self._service.children()))

    def memory(self) -> tuple[float, float]:
        """MiB held by the service, and by its children."""
        return tuple(  # type: ignore[return-value]
            sum(one.memory_info().rss for one in ones) / 2**20 for ones in ([self._service], self._service.children())
        )

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing of the Capsule runs meanwhile."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Ends it in order."""
        self._asking.close()
        self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def loading(url: str, rate: float, paths: list[str], into: list[dict[str, Any]]) -> Iterator[None]:
    """Asks so many times a second meanwhile; what it saw is appended."""
    command = [sys.executable, str(_HERE / "bench_capsule_load.py"), url, str(rate), "16", *paths]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield
        told, _ = process.communicate()
    into.append(json.loads(told))


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
        print(_markdown(report))
        if chosen.json:
            Path(chosen.json).write_text(json.dumps(report))
    raise SystemExit(1 if report["problems"] else 0)


def _run(chosen: argparse.Namespace, directory: Path, stack: ExitStack) -> Report:
    _, rpc_url = start_chain(chosen.chain, 0, directory, stack)
    web3 = Web3(Web3.HTTPProvider(rpc_url))
    wait_until(web3.is_connected, timeout=START_SECONDS, what="the chain")
    home, deployer = directory / "capsule", Account.create()
    attester = _init(home, chosen.key_bits)
    for account in (deployer, attester):
        fund(web3, account.address)
    contract = deploy(web3, deployer)
    network = Network(
        rpc_url=rpc_url, chain_id=web3.eth.chain_id, contract=contract.address, start_block=contract.block,
        store=f"directory:{directory / 'store'}",
    )  # fmt: skip
    file = network.save(directory / "network.json")
    market = Market(network, stack.enter_context(open_store(network.store)), web3, _ROUND)
    waves = -(-chosen.gradients // (chosen.campaigns * _ROUND))
    rounds = waves * chosen.campaigns

    keys = rounds + chosen.campaigns + 1
    _say(f"making {keys} keys of {chosen.key_bits} bits")
    report = Report(_machine(), chosen.key_bits, _make_keys(home, keys, chosen.key_bits))
    # One is always left, so no key is made while anything is measured.
    served = Served(home, file, spare_keys=1)
    stack.callback(served.process.kill)
    _say(f"opening {chosen.campaigns} campaigns")
    with market.capsule(served.url, attester.address) as capsule:
        for _ in range(chosen.campaigns):
            market.open(capsule)
        sealing_key = capsule.info().sealing_key
    paths = ["/v1/info" if i % 2 else f"/v1/admissions/0x{c.id.hex()}" for c in market.campaigns for i in range(2)]
    idle: list[dict[str, Any]] = []
    with loading(served.url, chosen.rate, paths, idle):
        time.sleep(chosen.idle_seconds)
    report.idle = _merged(idle)
    for number in range(waves):
        # One in four is without load.
        load = (served.url, chosen.rate, paths) if number % 4 else None
        report.waves.append(_wave(served, market, sealing_key, load))
        _say(f"wave {number + 1} of {waves}: {report.waves[-1].gradients / report.waves[-1].seconds:.1f} gradients/s")
    for campaign in market.campaigns:
        campaign.read()
    report.rounds, report.advanced = (sum(getattr(c, n) for c in market.campaigns) for n in ("rounds", "advanced"))
    if report.rounds != rounds:
        report.problems.append(f"{report.rounds} rounds are settled, not {rounds}")
    lost = {name: value for name, value in served.numbers().items() if name.startswith("jobs_lost") and value}
    statuses = [load["statuses"] for load in [*idle, *(w.load for w in report.waves if w.load)]]
    bad = {status for found in statuses for status in found if status != "200"}
    report.problems += [f"{name}: {value:.0f}" for name, value in lost.items()] + [f"answers {one}" for one in bad]
    served.end()
    return report


def _wave(served: Served, market: Market, sealing_key: bytes, load: tuple[str, float, list[str]] | None) -> Wave:
    before, expected = served.numbers(), served.judged() + len(market.campaigns)
    seen: list[dict[str, Any]] = []
    with ExitStack() as stack:
        with served.stopped():
            market.post(sealing_key)
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
        gradients=_ROUND * len(market.campaigns),
        seconds=seconds,
        service_cpu=spent[0] - cpu[0],
        judge_cpu=spent[1] - cpu[1],
        parts={part: after[f"job_seconds_total/{part}"] - before[f"job_seconds_total/{part}"] for part in _PARTS},
        service_memory=service,
        judge_memory=judges,
        load=seen[0] if seen else None,
    )


def _throughput(waves: list[Wave], key_seconds: float) -> dict[str, float]:
    """Rates and shares over these waves; nothing where there are none."""
    if not waves:
        return {}
    gradients, seconds = sum(w.gradients for w in waves), sum(w.seconds for w in waves)
    parts = {part: sum(w.parts[part] for w in waves) for part in _PARTS}
    cpu = sum(w.service_cpu + w.judge_cpu for w in waves)
    arithmetic = parts["decrypting"] + parts["ciphertexts"] + parts["judging"]
    return {
        "gradients_per_second": gradients / seconds,
        "job_seconds_per_gradient": parts["total"] / gradients,
        "decrypting_per_gradient": parts["decrypting"] / gradients,
        "ciphertexts_per_gradient": parts["ciphertexts"] / gradients,
        "judging_per_gradient": parts["judging"] / gradients,
        "service_cpu_per_gradient": sum(w.service_cpu for w in waves) / gradients,
        "judge_cpu_per_gradient": sum(w.judge_cpu for w in waves) / gradients,
        "key_seconds_per_gradient": key_seconds / _ROUND,
        "decrypting_of_jobs": parts["decrypting"] / parts["total"],
        "arithmetic_of_jobs": arithmetic / parts["total"],
        "arithmetic_of_all_cpu": arithmetic / cpu if cpu else 0.0,
    }


def _merged(loads: list[dict[str, Any]]) -> dict[str, Any]:
    """Percentiles in milliseconds over all these runs."""
    if not loads:
        return {}
    found: dict[str, list[float]] = {"info": [], "admissions": []}
    for load in loads:
        for path, values in load["latencies"].items():
            found["info" if path == "/v1/info" else "admissions"] += values
    told: dict[str, Any] = {
        name: {"requests": len(values)} | {f"p{p}": float(np.percentile(values, p)) * 1e3 for p in (50, 90, 99, 100)}
        for name, values in found.items()
        if values
    }
    return told | {"generator_late_ms": max(load["late"] for load in loads) * 1e3}


def _markdown(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"### A Capsule at work: digits, 65 x 10 weights, rounds of {_ROUND}, {report['key_bits']} bits",
        "",
        f"{machine['processor']}, {machine['cores']} cores, engine {machine['engine']}, load average before",
        f"{machine['load']:.1f}; {report['gradients']:,} gradients in {report['rounds']} rounds",
        f"({report['advanced']} advanced).",
        "",
        "| | without requests | with requests |",
        "|---|---|---|",
    ]
    quiet, loaded = report["quiet"], report["loaded"]
    names = {
        "gradients_per_second": ("judged gradients a second", "{:.1f}", 1),
        "job_seconds_per_gradient": ("processor time in jobs, ms a gradient", "{:.2f}", 1e3),
        "decrypting_per_gradient": ("decryption", "{:.2f}", 1e3),
        "ciphertexts_per_gradient": ("checks, product, encryption", "{:.2f}", 1e3),
        "judging_per_gradient": ("judging", "{:.2f}", 1e3),
        "judge_cpu_per_gradient": ("processor time of judge processes, ms a gradient", "{:.2f}", 1e3),
        "service_cpu_per_gradient": ("processor time of the service, ms a gradient", "{:.2f}", 1e3),
        "key_seconds_per_gradient": ("making the next key, ms a gradient (ahead, not in the rate)", "{:.2f}", 1e3),
        "decrypting_of_jobs": ("decryption, of that", "{:.0f}%", 100),
        "arithmetic_of_jobs": ("all arithmetic, of that", "{:.0f}%", 100),
        "arithmetic_of_all_cpu": ("all arithmetic, of the Capsule's processor time", "{:.0f}%", 100),
    }
    for name, (words, form, factor) in names.items():
        cells = [form.format(side[name] * factor) if side else "" for side in (quiet, loaded)]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "| answers, ms | requests | p50 | p90 | p99 | slowest |", "|---|---|---|---|---|---|"]
    for when, found in report["latency"].items():
        for name in ("info", "admissions"):
            if name in found:
                one = found[name]
                figures = " | ".join(f"{one[p]:.1f}" for p in ("p50", "p90", "p99", "p100"))
                lines.append(f"| {name}, {when} | {one['requests']} | {figures} |")
    lines += ["", "| after gradients | service, MiB | judge processes, MiB |", "|---|---|---|"]
    lines += [f"| {row['gradients']} | {row['service']} | {row['judges']} |" for row in report["memory_mib"]]
    lines += ["", *(f"PROBLEM: {problem}" for problem in report["problems"])]
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "engine": get_engine().name,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def _init(home: Path, bits: int) -> Any:
    small = ["--allow-insecure-small-key"] if bits < 2048 else []
    command = [sys.executable, "-m", "capsule", "init", "--home", str(home), "--json", "--key-bits", str(bits), *small]
    done = subprocess.run(
        command, env={**os.environ, "SONAR_CAPSULE_PASSPHRASE": _PASSPHRASE}, check=True, capture_output=True
    )
    return _Attester(Address(json.loads(done.stdout)["address"]))


@dataclass(frozen=True)
class _Attester:
    address: Address


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


def _await(condition: Any, what: str, pause: float = 0.2) -> None:
    limit = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit(f"{what} did not come within {_PATIENCE:.0f} seconds")
        time.sleep(pause)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
