"""Every decoder of bytes from outside, against hostile ones: its documented error, soon, and nothing else.

A million inputs take minutes: `scripts/fuzz_decoders.py`.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile.mutations import mutated
from hostile.run import Finding, Run
from hostile.table import NAMES, every_target
from hostile.target import BrokenPromiseError, Target, check
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
FOUND = sorted((Path(__file__).parent / "found").iterdir())
"""Inputs with which a decoder once broke its promise: TARGET.NAME."""
_PHASES = (Phase.generate, Phase.shrink)


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    with every_target() as found:
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_refuses_hostile_bytes_with_its_documented_error(
    targets: dict[str, Target], name: str, effort: Callable[[int, int, int], int]
) -> None:
    target = targets[name]
    # A slow one gets fewer inputs, but some.
    count = max(20, round(effort(100, 1_000, 10_000) * target.weight))

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), phases=_PHASES)
    @given(st.randoms(use_true_random=False))
    def attack(random: object) -> None:
        data = mutated(random, target.seeds, target.mutations)  # type: ignore[arg-type]
        note(f"{len(data)} bytes: {data[:400]!r}")
        check(target, data)

    attack()


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_reads_what_its_encoder_writes(targets: dict[str, Target], name: str) -> None:
    # Else every mutation would end at the same first check.
    target = targets[name]
    ended = [check(target, seed) for seed in target.seeds]
    assert target.samples or set(ended) == {"taken"}


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_broke_a_decoder_once_does_so_no_more(targets: dict[str, Target], path: Path) -> None:
    check(targets[path.name.partition(".")[0]], path.read_bytes())


@pytest.mark.parametrize("name", ["model", "spec", "event-log"])
def test_the_same_seed_is_the_same_run_and_reaches_many_places(targets: dict[str, Target], name: str) -> None:
    runs = [Run(targets[name], seed) for seed in (1, 1, 2)]
    for run in runs:
        run.episode(0, 400)
    assert runs[0].places == runs[1].places != runs[2].places
    assert len(runs[0].places) >= 4


@pytest.mark.parametrize(
    ("decode", "problem"),
    [
        (lambda data: {}[data], "KeyError"),
        (lambda _: _refuse(""), "message of 0 characters"),
        (lambda data: _refuse("x" * 5000 + str(data)), "message of [0-9]{4,}"),
        (lambda _: _fill(), "MiB of memory"),
        (lambda _: _burn(), "s of processor time"),
        (lambda _: b"another", "would be written as"),
    ],
    ids=["another error", "no message", "a long message", "memory", "time", "not canonical"],
)
def test_a_decoder_that_breaks_its_promise_is_found(decode, problem: str) -> None:  # type: ignore[no-untyped-def]
    again = (lambda value: value) if problem == "would be written as" else None
    target = Target(
        "liar", decode, (ValueError,), (b"seed",), again=again, seconds=0.3 if "processor time" in problem else 30
    )
    with pytest.raises(Finding, match=problem) as found:
        Run(target, 5).episode(0, 200)
    with pytest.raises(BrokenPromiseError, match=problem):
        check(target, found.value.data)


def test_the_script_counts_its_inputs_and_saves_what_breaks_a_decoder(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/fuzz_decoders.py", "--save", str(tmp_path), "--json"]
    done = subprocess.run(
        [*command, "--inputs", "600", "--seed", "7", "--target", "model", "--target", "cid"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["inputs"] == 600
    assert report["seed"] == 7
    assert report["found"] == []
    assert {name: entry["inputs"] for name, entry in report["targets"].items()} == {"model": 300, "cid": 300}
    assert list(tmp_path.iterdir()) == []


def _refuse(message: str) -> None:
    raise ValueError(message)


def _fill() -> int:
    """More than this process ever held, written to."""
    return len(b"x" * (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + (200 << 20)))


def _burn() -> int:
    return sum(number % 3 for number in range(30_000_000))
