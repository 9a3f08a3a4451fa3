"""The native engine's modular product beside the least time in which its multiplications could be issued."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import bench_cases as cases
import numpy as np
from bench_rows import GOAL_BITS, Sizes, WrongResultError
from bench_timing import Row, Section, Timing, number, seconds

from sonar.syft.engines import why_unusable

GOAL = 0.7
LANES, LIMB_BITS = 8, 52
LATENCY = 4
"""Cycles of one multiplication on Intel's and AMD's cores alike (uops.info): what gives the clock."""
GROUPS, FEW, MANY = 4, 100, 1100


def product(bits: int, sizes: Sizes) -> Section:
    """Products of elements of Z_{n^2} in n-adic form: seconds of one, eight being computed at once."""
    section = Section("product", f"The native engine's modular product, {bits} bits, against the IFMA floor", bits)
    reason = why_unusable("native")
    if reason is not None:
        section.notes.append(f"the native engine cannot be used: {reason}")
        return section
    first = _multipliers(section)
    if first is None:
        return section
    ours = _one_product(bits, sizes)
    second = _multipliers(section)
    assert second is not None
    free, chained = min(first, second)
    limbs = _native().radix_bits(bits) // LIMB_BITS
    count = 10 * limbs * limbs
    floor = free * count / LANES
    section.notes.append(
        f"baseline: {count:,} vpmadd52 for eight products of {limbs} limbs by the schoolbook: three products of "
        "numbers and two reductions, two instructions for each pair of limbs; Karatsuba's method needs fewer"
    )
    section.notes.append(
        f"an instruction takes {seconds(free)} where none waits, {seconds(chained)} in a chain: "
        f"{number(chained / free / LATENCY)} a cycle at {number(LATENCY / chained / 1e9)} GHz"
    )
    goal = GOAL if bits == GOAL_BITS else None
    section.rows.append(Row("one product", "native, 1 thread", ours, Timing(floor, floor), goal))
    return section


def _one_product(bits: int, sizes: Sizes) -> Timing:
    """From the difference of many products and few on the same elements, so that packing them is in neither."""
    n = cases.secret_key(bits).public.n
    width = (2 * bits + 7) // 8
    native = _native()
    r_cubed = pow(2, 3 * native.radix_bits(bits), n * n)
    ring = native.ring(n.to_bytes((bits + 7) // 8, "little"), r_cubed.to_bytes(width, "little"))
    elements = [pow(3 + place, n, n * n) for place in range(GROUPS * LANES)]
    packed = b"".join(element.to_bytes(width, "little") for element in elements)
    timings = []
    for times in (FEW, MANY):
        # A step is a position, a factor and a digit of its exponent: the same product again and again.
        steps = np.tile(np.array([0, 0, 1], np.int32), times).tobytes()
        timing, found = sizes.repeat.best(native.weighted_products, ring, packed, 1, steps, 1)
        if int.from_bytes(found[:width], "little") != pow(elements[0], times, n * n):
            raise WrongResultError("the native engine's product is wrong: its time means nothing")
        timings.append(timing)
    few, many = timings
    products = (MANY - FEW) * len(elements)
    return Timing((many.wall - few.wall) / products, (many.cpu - few.cpu) / products)


def _multipliers(section: Section) -> tuple[float, float] | None:
    """Seconds of an IFMA instruction, free and in a chain; None, and a note, without a C compiler."""
    source = Path(__file__).with_name("bench_ifma.c")
    with tempfile.TemporaryDirectory() as place:
        program = f"{place}/ifma"
        compiling = ["cc", "-O2", "-mavx512f", "-mavx512ifma", "-o", program, str(source)]
        try:
            subprocess.run(compiling, check=True, capture_output=True, text=True)
            done = subprocess.run([program], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            section.notes.append(f"the floor is not known, as bench_ifma.c cannot be compiled and run: {error}")
            return None
    free, chained = (float(word) * 1e-9 for word in done.stdout.split())
    return free, chained


def _native() -> Any:
    from sonar.syft.engines import _native as module

    return module
