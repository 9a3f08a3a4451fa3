"""How fast and in how much memory a mine sums up a Parquet file: beside numpy on the same rows in memory.

    .venv/bin/python scripts/bench_mine_data.py [--rows 5000000] [--json]

The rows are scikit-learn's breast cancer (569 patients, 30 features), over and over, each value moved by noise of a
tenth of its column's spread. Making the file, the mine's pass and numpy's run in a process each, so that the most
memory of one is not another's. numpy computes X'X and X'Y (31 features with the bias, 2 classes) in two ways: of rows
that are scaled already, and of raw rows, which it scales and clips first as the mine does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from threadpoolctl import threadpool_limits

from mine.data import Source, gather, inspect, match
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import Spec

NAMES = [f"f{place}" for place in range(30)]
ROWS = 5_000_000
GROUP = 122_880
"""Rows of a row group, as DuckDB writes them by itself."""
CHUNK = 4096
SEED = 0.42
SPEC = "spec.json"


def make(path: Path, rows: int) -> None:
    """Writes the rows as one Parquet file."""
    from sklearn.datasets import load_breast_cancer  # its memory is not the mine's

    data = load_breast_cancer()
    with duckdb.connect(":memory:", config={"memory_limit": "1GB", "temp_directory": ""}) as database:
        columns = ", ".join(f"{name} DOUBLE" for name in NAMES)
        database.execute(f"CREATE TABLE patients (id INTEGER, {columns}, target INTEGER)")
        marks = ", ".join("?" * (len(NAMES) + 2))
        database.executemany(
            f"INSERT INTO patients VALUES ({marks})",  # noqa: S608  (question marks)
            [(at, *row, target) for at, (row, target) in
             enumerate(zip(data.data.tolist(), data.target.tolist(), strict=True))],
        )  # fmt: skip
        database.execute("SELECT setseed(?)", [SEED])
        # Three uniform numbers less their mean have a spread of a half.
        noise = "(random() + random() + random() - 1.5) * 2"
        spread = data.data.std(axis=0)
        moved = ", ".join(f"{name} + {0.1 * by!r} * {noise} AS {name}"
                          for name, by in zip(NAMES, spread.tolist(), strict=True))  # fmt: skip
        database.execute(
            f"COPY (SELECT {moved}, target FROM range({rows}) JOIN patients ON id = range % {len(data.data)}) "  # noqa: S608
            f"TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE {GROUP})"
        )


def spec() -> Spec:
    """A campaign on these features, standardised as its owner would."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer().data
    constants = zip(NAMES, data.mean(axis=0).tolist(), data.std(axis=0).tolist(), strict=True)
    return Spec.build(
        name="breast cancer", classes=("0", "1"), payout={"target": 900_000},
        features=tuple({"name": name, "offset": offset, "scale": scale} for name, offset, scale in constants),
    )  # fmt: skip


def measure_mine(path: Path) -> dict[str, Any]:
    """The mine's pass over the file: seconds, records, the most memory in bytes and what it had before."""
    of = Spec.parse(path.with_name(SPEC).read_bytes())
    started = time.perf_counter()
    dataset = inspect("patients", Source.of(path), "target")
    looked = time.perf_counter() - started
    before = _memory()
    link = match(dataset, of)
    seconds, cpu, summing = _best(lambda: gather(dataset, link, of))
    found, provenance = gather(dataset, link, of)
    return {
        "seconds": seconds, "cpu_seconds": cpu, "summing_cpu_seconds": summing, "inspect_seconds": looked,
        "rows": provenance.rows, "records": found.records,
        "peak_bytes": _memory(), "peak_bytes_of_inspection": before, "trace": float(np.trace(found.gram)),
    }  # fmt: skip


def measure_numpy(path: Path) -> dict[str, Any]:
    """numpy's sums over the same rows in memory."""
    with duckdb.connect(":memory:") as database:
        table = database.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchnumpy()
    raw = np.column_stack([table.pop(name) for name in NAMES])
    targets = np.eye(2)[table.pop("target")]
    of = Spec.parse(path.with_name(SPEC).read_bytes())
    offset, scale = np.array([f.offset for f in of.features]), np.array([f.scale for f in of.features])
    scaled = np.ones((len(raw), len(NAMES) + 1))
    for start in range(0, len(raw), CHUNK):
        part = slice(start, start + CHUNK)
        scaled[part, :-1] = np.clip((raw[part] - offset) / scale, -CLIP, CLIP)

    def sums() -> None:
        scaled.T @ scaled
        scaled.T @ targets

    def scaled_sums() -> None:
        gram, moment, design = np.zeros((31, 31)), np.zeros((31, 2)), np.ones((CHUNK, 31))
        for start in range(0, len(raw), CHUNK):
            part = slice(start, start + CHUNK)
            rows = design[: len(raw[part])]
            np.clip((raw[part] - offset) / scale, -CLIP, CLIP, out=rows[:, :-1])
            gram[:] += rows.T @ rows
            moment[:] += rows.T @ targets[part]

    plain, whole = _best_threads(sums), _best_threads(scaled_sums)
    return {
        "rows": len(raw), "trace": float(np.trace(scaled.T @ scaled)),
        "sums_seconds": plain[0], "sums_cpu_seconds": plain[1],
        "scaled_sums_seconds": whole[0], "scaled_sums_cpu_seconds": whole[1],
    }  # fmt: skip


def run(rows: int, folder: Path) -> dict[str, Any]:
    """Makes the file and measures both; raises where they do not find the same."""
    path = folder / "patients.parquet"
    make(path, rows)
    path.with_name(SPEC).write_bytes(spec().to_bytes())
    mine, other = _apart("mine", path), _apart("numpy", path)
    if mine["records"] != rows or other["rows"] != rows or not np.isclose(mine["trace"], other["trace"], rtol=1e-9):
        raise AssertionError(f"the mine found {mine}, numpy {other}: times of different sums say nothing")
    return {
        "rows": rows, "file_bytes": path.stat().st_size, "mine": mine, "numpy": other,
        "rows_per_second": rows / mine["seconds"],
        "of_numpy_scaled": other["scaled_sums_seconds"] / mine["seconds"],
        "of_numpy_sums_only": other["sums_seconds"] / mine["seconds"],
    }  # fmt: skip


def _apart(what: str, path: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--measure", what, "--file", str(path)],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return dict(json.loads(done.stdout))


def _best(work: Callable[[], object], times: int = 5) -> tuple[float, float, float]:
    """The least seconds, processor seconds and those of this thread in some runs: others use the machine too."""
    found = []
    for _ in range(times):
        before = time.perf_counter(), time.process_time(), time.thread_time()
        work()
        after = time.perf_counter(), time.process_time(), time.thread_time()
        found.append([end - start for start, end in zip(before, after, strict=True)])
    seconds, cpu, own = map(min, zip(*found, strict=True))
    return seconds, cpu, own


def _best_threads(work: Callable[[], object]) -> tuple[float, float]:
    """The best of one thread and all: on cores that others use as well, OpenBLAS' threads wait for each other."""
    with threadpool_limits(limits=1, user_api="blas"):
        one = _best(work, 3)
    many = _best(work, 2)
    return min(one[0], many[0]), min(one[1], many[1])


def _memory() -> int:
    """The most memory of this process in bytes; what getrusage says begins with that of who started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=["mine", "numpy"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps({"mine": measure_mine, "numpy": measure_numpy}[given.measure](given.file)))
        return
    with tempfile.TemporaryDirectory(prefix="sonar-bench-") as folder:
        found = run(given.rows, Path(folder))
    if given.json:
        print(json.dumps(found, indent=2))
        return
    mine, other = found["mine"], found["numpy"]
    print(f"{found['rows']:,} rows of 30 features, {found['file_bytes'] / 1e6:,.0f} MB of Parquet")
    print(f"mine, scan to X'X and X'Y         {mine['seconds']:6.2f} s, {found['rows_per_second'] / 1e6:.2f} M rows/s, "
          f"at most {mine['peak_bytes'] / 1e6:.0f} MB in memory")  # fmt: skip
    print(f"numpy, scaled and summed          {other['scaled_sums_seconds']:6.2f} s: the mine has "
          f"{100 * found['of_numpy_scaled']:.0f} % of its rate")  # fmt: skip
    print(f"numpy, sums of what was scaled    {other['sums_seconds']:6.2f} s: the mine has "
          f"{100 * found['of_numpy_sums_only']:.0f} % of its rate")  # fmt: skip
    print(f"processor seconds: {mine['summing_cpu_seconds']:.2f} for the mine's sums, beside "
          f"{mine['cpu_seconds'] - mine['summing_cpu_seconds']:.2f} for its reading; numpy has "
          f"{other['scaled_sums_cpu_seconds']:.2f}")  # fmt: skip
    print(f"mine add, which looks at all once {mine['inspect_seconds']:6.2f} s")


if __name__ == "__main__":
    main()
