#!/usr/bin/env python3
"""Feeds hostile bytes to every decoder of bytes from outside (tests/fuzz/hostile), two processes at a time.

usage: scripts/fuzz_decoders.py [--inputs N] [--seed S] [--target NAME ...] [--processes P] [--save DIR] [--json]
       scripts/fuzz_decoders.py --replay FILE

The same seed is the same run. Whatever is refused in a new place is mutated further. A decoder breaks its promise with
any error but its documented one, with too much time or memory, by ending the process, and by taking bytes that it would
write otherwise. Such an input is saved as DIR/TARGET.NUMBER; --replay reads it once more. Exit code 1: some was found.
"""

import argparse
import json
import mmap
import os
import secrets
import selectors
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))

from hostile.run import EPISODE, Finding, Run  # noqa: E402  (found by the line above)
from hostile.table import NAMES, every_target  # noqa: E402
from hostile.target import BrokenPromiseError, Target, check  # noqa: E402

_PATIENCE = 180.0
"""Seconds without an answer after which a worker is taken to hang at its present input."""
_LARGEST = 1 << 16


@dataclass
class Report:
    """What a run did so far."""

    seed: int
    inputs: int = 0
    seconds: float = 0.0
    targets: dict[str, Counter[str]] = field(default_factory=dict)
    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, places: dict[str, int]) -> None:
        """An episode's places."""
        self.targets.setdefault(name, Counter()).update(places)
        self.inputs += sum(places.values())

    def dumps(self) -> str:
        """The report as JSON."""
        per_target = {
            name: {"inputs": places.total(), "taken": places["taken"], "places": len(places)}
            for name, places in sorted(self.targets.items())
        }
        return json.dumps({
            "seed": self.seed, "inputs": self.inputs, "seconds": round(self.seconds, 1),
            "inputs_per_second": round(self.inputs / self.seconds), "targets": per_target, "found": self.found,
        }, indent=2)  # fmt: skip


def main() -> int:
    options = _options()
    if options.worker is not None:
        return _work(options)
    if options.replay is not None:
        return _replay(options.replay)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    report = Report(seed)
    started = time.monotonic()
    with TemporaryDirectory(prefix="sonar-fuzz-") as folder, ExitStack() as stack:
        workers = [
            stack.enter_context(_Worker(options, seed, number, Path(folder))) for number in range(options.processes)
        ]
        _follow(workers, report, options.save)
    report.seconds = time.monotonic() - started
    print(report.dumps() if options.json else _table(report))
    return 1 if report.found else 0


class _Worker:
    """One process: its answers as lines of JSON, and the input that it is reading, in shared memory."""

    def __init__(self, options: argparse.Namespace, seed: int, number: int, folder: Path) -> None:
        self._present = folder / f"present-{number}"
        self._present.write_bytes(bytes(_LARGEST + 64))
        self._command = [
            sys.executable, __file__, "--worker", f"{number}/{options.processes}", "--present", str(self._present),
            "--inputs", str(options.inputs), "--seed", str(seed),
            *(part for name in options.target for part in ("--target", name)),
        ]  # fmt: skip

    def __enter__(self) -> "_Worker":
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def present(self) -> tuple[str, bytes]:
        """The target and the input that the process has before it."""
        raw = self._present.read_bytes()
        name = raw[:32].rstrip(b"\0").decode()
        return name, raw[64 : 64 + int.from_bytes(raw[32:40], "big")]


def _follow(workers: list[_Worker], report: Report, save: Path) -> None:
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        while selector.get_map():
            ready = selector.select(_PATIENCE)
            for key, _ in ready:
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if line:
                    _take(json.loads(line), report, save)
                    continue
                selector.unregister(key.fileobj)
                if key.data.process.wait() != 0:
                    name, data = key.data.present()
                    if not name:
                        raise SystemExit("Error: a worker ended before its first input: its own words are above")
                    _keep(report, save, name, data, f"the process ended with {key.data.process.returncode}")
            if not ready:
                for key in list(selector.get_map().values()):
                    name, data = key.data.present()
                    _keep(report, save, name, data, f"no answer within {_PATIENCE:.0f} s")
                    key.data.process.kill()


def _take(answer: dict[str, object], report: Report, save: Path) -> None:
    name = str(answer["target"])
    report.add(name, answer["places"])  # type: ignore[arg-type]
    if "problem" in answer:
        _keep(report, save, name, bytes.fromhex(str(answer["data"])), str(answer["problem"]))
    if sum(report.targets[name].values()) % (20 * EPISODE) == 0:
        print(f"{report.inputs} inputs, {len(report.found)} found", file=sys.stderr)


def _keep(report: Report, save: Path, name: str, data: bytes, problem: str) -> None:
    save.mkdir(parents=True, exist_ok=True)
    file = save / f"{name}.{sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    report.found.append({"target": name, "problem": problem, "file": str(file)})
    print(f"FOUND {name}: {problem}\n      {file}", file=sys.stderr)


def _work(options: argparse.Namespace) -> int:
    """The episodes of one worker."""
    number, of = map(int, options.worker.split("/"))
    with options.present.open("r+b") as file, mmap.mmap(file.fileno(), 0) as present, every_target() as targets:
        chosen = [targets[name] for name in options.target or NAMES]
        for place, (target, episode, count) in enumerate(_episodes(chosen, options.inputs)):
            if place % of != number:
                continue
            present[:32] = target.name.encode().ljust(32, b"\0")

            def watch(data: bytes) -> None:
                present[32:40] = min(len(data), _LARGEST).to_bytes(8, "big")
                present[64 : 64 + min(len(data), _LARGEST)] = data[:_LARGEST]

            run = Run(target, options.seed, watch=watch)
            answer: dict[str, object] = {"target": target.name, "places": run.places}
            try:
                run.episode(episode, count)
            except Finding as finding:
                answer |= {"problem": finding.problem, "data": finding.data.hex()}
            print(json.dumps(answer), flush=True)
    return 0


def _episodes(targets: list[Target], inputs: int) -> list[tuple[Target, int, int]]:
    """Which targets get how many inputs: by their weights, all of them together exactly so many."""
    total = sum(target.weight for target in targets)
    shares = [int(inputs * target.weight / total) for target in targets]
    shares[0] += inputs - sum(shares)
    found = []
    for target, share in zip(targets, shares, strict=True):
        found += [
            (target, number, min(EPISODE, share - start)) for number, start in enumerate(range(0, share, EPISODE))
        ]
    return found


def _replay(file: Path) -> int:
    with every_target() as targets:
        try:
            print(check(targets[file.name.partition(".")[0]], file.read_bytes()))
        except BrokenPromiseError as error:
            print(f"FOUND {error}")
            return 1
    return 0


def _table(report: Report) -> str:
    lines = [f"{'target':20} {'inputs':>8} {'taken':>8} {'places':>7}"]
    for name, places in sorted(report.targets.items()):
        lines.append(f"{name:20} {places.total():8} {places['taken']:8} {len(places):7}")
    lines.append(f"{report.inputs} inputs in {report.seconds:.0f} s, {len(report.found)} found, seed {report.seed}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="a number; drawn unless given")
    parser.add_argument("--target", action="append", default=[], choices=NAMES, metavar="NAME")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--save", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--present", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
