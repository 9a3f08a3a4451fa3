"""Measures the encrypted arithmetic beside what it is compared with, both in the same run, and prints ratios.

    .venv/bin/python scripts/bench_engine.py [--quick] [--bits 2048 --bits 3072] [--only TABLE] [--json FILE]

No time decides anything: the exit code is 0 unless two sides of a comparison disagree about a result. Markdown on
stdout, talk on stderr. docs/benchmarks.md says what every table means.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench_growth as growth
import bench_native as native
import bench_rows as rows
from bench_cases import cores
from bench_timing import Section

from sonar.syft.engines import ENGINES, why_unusable

ROOT = Path(__file__).resolve().parent.parent
PER_KEY = {
    "mine": rows.mine,
    "map": rows.large_map,
    "encrypt": rows.encryption,
    "decrypt": rows.decryption,
    "ckks": rows.ckks,
    "product": native.product,
}
"""Tables that are made for every --bits."""
ONCE = {
    "stream": growth.stream,
    "features": growth.features,
    "outputs": growth.outputs,
    "records": growth.records,
    "keys": growth.keys,
}
"""Tables that are made once, for the first of the --bits."""
ENVIRONMENT = ("OPENBLAS_", "OMP_", "MKL_", "BLIS_", "SONAR_ENGINE")
"""Variables that choose how fast numpy and the engines are."""
PACKAGES = ("gmpy2", "phe", "tenseal", "numpy")


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse ends with code 2 on wrong usage."""
    parser = argparse.ArgumentParser(description="Measure the encrypted arithmetic beside what it is compared with.")
    parser.add_argument("--bits", type=int, action="append", help="Paillier modulus; may be given several times")
    parser.add_argument("--quick", action="store_true", help="small keys, few repetitions; the times mean nothing")
    tables = [*PER_KEY, *ONCE]
    parser.add_argument(
        "--only", action="append", choices=tables, metavar="TABLE",
        help=f"only this table, may be given several times: {', '.join(tables)}",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="also write JSON; - for stdout, with the tables on stderr")
    arguments = parser.parse_args()
    arguments.bits = arguments.bits or ([512, 768] if arguments.quick else [2048, 3072])
    if any(bits % 2 or bits < 512 or bits > 8192 for bits in arguments.bits):
        parser.error(f"--bits {arguments.bits}: give even numbers from 512 to 8192")
    return arguments


def machine() -> dict[str, Any]:
    """What the times belong to."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("describe", "--always", "--dirty"),
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "engines": {name: why_unusable(name) or "usable" for name in ENGINES},
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(ENVIRONMENT)},
        "load": _load(),
    }


def main() -> int:
    """Measures, prints and writes; returns the exit code."""
    arguments = parse_arguments()
    sizes = rows.QUICK if arguments.quick else rows.FULL
    out = sys.stderr if arguments.json == "-" else sys.stdout
    found = machine()
    print(_described(found), file=out, flush=True)
    if not arguments.quick and found["load"] is not None and found["load"] > 0.5:
        print(f"the load is {found['load']:.2f} already: times on a busy machine mean little", file=sys.stderr)
    jobs = [(name, make, bits) for bits in arguments.bits for name, make in PER_KEY.items()]
    jobs += [(name, make, arguments.bits[0]) for name, make in ONCE.items()]
    sections: list[Section] = []
    try:
        for name, make, bits in jobs:
            if arguments.only is None or name in arguments.only:
                print(f"measuring: {name}, {bits} bits", file=sys.stderr, flush=True)
                sections.append(make(bits, sizes))
                print(sections[-1].markdown(), file=out, flush=True)
    except rows.WrongResultError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    found["load_after"] = _load()
    if arguments.json:
        report = {"quick": arguments.quick, "machine": found, "tables": [section.data() for section in sections]}
        text = json.dumps(report, indent=2) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            Path(arguments.json).write_text(text)
    return 0


def _described(found: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {said or 'not installed'}" for name, said in found["packages"].items())
    lines = [
        f"- {found['date']}, commit {found['commit'] or 'unknown'}",
        f"- {found['processor']}, {found['cores']} cores, {found['system']}, load {found['load']}",
        f"- Python {found['python']}, {packages}",
        *(f"- engine {name}: {said}" for name, said in found["engines"].items()),
        *(f"- {name}={value}" for name, value in found["environment"].items()),
    ]
    return "\n".join([*lines, ""])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
