"""Ten million records streamed into X'X and X'Y, in a process of its own so that its peak memory is only its own.

Run by bench_engine.py; prints one JSON object.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_timing import Repeat, Timing, once

from sonar.syft import Statistics

FEATURES, OUTPUTS, CHUNK = 64, 10, 65_536
MOST_RUNS = 2


class Records:
    """Random records in chunks, made on the fly; `seconds` is what making them has taken."""

    def __init__(self, records: int) -> None:
        self._records = records
        self.seconds = Timing(0.0, 0.0)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(3)
        design, targets = np.empty((CHUNK, FEATURES)), np.empty((CHUNK, OUTPUTS))
        left = self._records
        while left:
            size = min(left, CHUNK)
            wall, cpu = time.perf_counter(), time.process_time()
            rng.random(out=design)
            rng.random(out=targets)
            design[:, -1] = 1
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            self.seconds = Timing(self.seconds.wall + wall, self.seconds.cpu + cpu)
            yield design[:size], targets[:size]
            left -= size


def peak_bytes() -> int:
    """The most memory that was resident in this process.

    Linux's ru_maxrss counts what the parent had when it started this process, so it is only for other systems.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(records: int, times: int) -> None:
    """Streams, then multiplies one chunk in memory as numpy does it at once; prints both times and the peak memory."""
    best, making = None, 0.0
    for _ in range(min(times, MOST_RUNS)):
        stream = Records(records)
        with_making, statistics = once(Statistics.of, stream, FEATURES, OUTPUTS)
        assert statistics.gram[-1, -1] == statistics.records == records, "the last column, ones, counts the records"
        timing = Timing(with_making.wall - stream.seconds.wall, with_making.cpu - stream.seconds.cpu)
        if best is None or timing.wall < best.wall:
            best, making = timing, stream.seconds.wall
    peak = peak_bytes()
    design, targets = next(iter(Records(CHUNK)))
    both = np.hstack([design, targets])
    numpy, _ = Repeat(times).best(np.matmul, design.T, both)
    print(
        json.dumps(
            {
                "wall": best.wall,
                "cpu": best.cpu,
                "making": making,
                "numpy_wall": numpy.wall * records / CHUNK,
                "numpy_cpu": numpy.cpu * records / CHUNK,
                "peak_bytes": peak,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
