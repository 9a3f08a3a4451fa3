"""How the cost grows with features, outputs, records and the key; and a stream of records beside numpy's product."""

import json
import os
import subprocess
import sys
from pathlib import Path

import bench_cases as cases
import numpy as np
from bench_cases import OUTPUTS, THIN
from bench_rows import FEATURES, Sizes, WrongResultError, gradient
from bench_timing import Row, Section, Timing, number, seconds

from sonar.syft import Obfuscator, Statistics
from sonar.syft.plan import Thin, plan_map

STREAM_GOAL = 0.5
STREAM_GOAL_MB = 300


def stream(bits: int, sizes: Sizes) -> Section:  # noqa: ARG001  (no key is in it)
    """Records streamed into statistics, in a process of its own."""
    section = Section("stream", f"{sizes.stream:,} records of 64 features and 10 targets into X'X and X'Y")
    section.notes.append(
        "baseline: numpy's X'[X Y] on one chunk of 65,536 records in memory, times the number of chunks"
    )
    for threads in range(1, min(2, cases.cores()) + 1):
        found = _streamed(sizes, threads)
        way = f"numpy, {threads} thread{'s'[threads == 1 :]}"
        section.notes.append(
            f"{way}: peak resident memory {number(found['peak_bytes'] / 1e6)} MB, goal under {STREAM_GOAL_MB} MB; "
            f"making the records took {seconds(found['making'])}, which is not counted"
        )
        ours, theirs = Timing(found["wall"], found["cpu"]), Timing(found["numpy_wall"], found["numpy_cpu"])
        section.rows.append(Row("`Statistics.of`", way, ours, theirs, STREAM_GOAL))
    return section


def _streamed(sizes: Sizes, threads: int) -> dict[str, float]:
    """What bench_stream.py measures where numpy's BLAS may use so many threads."""
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bench_stream.py")), str(sizes.stream), str(sizes.repeat.times)],
        env={**os.environ, **limits}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise WrongResultError(f"the process that streams records ended with {done.returncode}: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def features(bits: int, sizes: Sizes) -> Section:
    """The map alone, by the number of features."""
    section = Section("features", f"The map alone by features, {OUTPUTS} outputs, {bits} bits", bits)
    key = cases.secret_key(bits).public
    for count in sizes.growth_features:
        change = cases.affine(cases.statistics(count)).change
        ciphertexts, matrix = cases.ciphertexts(bits, count, THIN), cases.quantised(change)
        plan = plan_map(change, THIN.map_bits, THIN.factor_bits)
        for way in cases.widest():
            timing, _ = sizes.repeat.best(way.get().linear_map, ciphertexts, matrix, key.n, bits=THIN.map_bits)
            section.rows.append(Row(f"{count} features, square", str(way), timing))
            if isinstance(plan, Thin):
                timing, _ = sizes.repeat.best(plan.apply, way.get(), ciphertexts, key.n)
                section.rows.append(Row(f"{count} features, rank {plan.rank}", str(way), timing))
    return section


def outputs(bits: int, sizes: Sizes) -> Section:
    """A gradient, by the number of outputs: each block of them that fits one plaintext costs one map."""
    section = Section("outputs", f"Map and re-randomise by outputs, {FEATURES} features, {bits} bits", bits)
    for count in sizes.growth_outputs:
        change, values = cases.affine(cases.statistics(FEATURES, count)), cases.weights(FEATURES, count)
        for way in cases.widest():
            kept = Obfuscator(cases.secret_key(bits).public, engine=way.get())
            model = cases.model(kept, values)
            timing, _ = sizes.repeat.best(gradient, change, model, kept)
            blocks = model.layout.blocks
            section.rows.append(Row(f"{count} outputs, {blocks} block{'s'[blocks == 1 :]}", str(way), timing))
    return section


def records(bits: int, sizes: Sizes) -> Section:
    """A gradient, by the number of records: only the sums over them, which are not encrypted, grow."""
    section = Section("records", f"By records, {FEATURES} x {OUTPUTS} weights, {bits} bits", bits)
    values = cases.weights(FEATURES)
    for count in sizes.growth_records:
        design, targets = (np.resize(part, (count, part.shape[1])) for part in cases.digits())
        timing, gathered = sizes.repeat.best(_sums, design, targets)
        section.rows.append(Row(f"{count:,} records: their sums", "numpy", timing))
        change = cases.affine(gathered)
        for way in cases.widest():
            kept = Obfuscator(cases.secret_key(bits).public, engine=way.get())
            model = cases.model(kept, values)
            timing, _ = sizes.repeat.best(gradient, change, model, kept)
            section.rows.append(Row(f"{count:,} records: map, re-randomise", str(way), timing))
    return section


def keys(bits: int, sizes: Sizes) -> Section:  # noqa: ARG001  (it has sizes of its own)
    """A gradient, by the size of the key."""
    section = Section("keys", f"Map and re-randomise by key, {FEATURES} x {OUTPUTS} weights")
    change, values = cases.affine(cases.statistics(FEATURES)), cases.weights(FEATURES)
    for size in sizes.growth_bits:
        for way in cases.widest():
            kept = Obfuscator(cases.secret_key(size).public, engine=way.get())
            model = cases.model(kept, values)
            timing, _ = sizes.repeat.best(gradient, change, model, kept)
            section.rows.append(Row(f"{size} bits", str(way), timing))
    return section


def _sums(design: cases.Floats, targets: cases.Floats) -> Statistics:
    return Statistics.empty(FEATURES, OUTPUTS).add_batch(design, targets)
