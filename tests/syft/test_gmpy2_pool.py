"""The processes that share a large map: the same numbers, nothing lost when one ends, none left behind."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from sonar.syft import CiphertextError, EngineError, PublicKey
from sonar.syft.engines import gmpy2_engine
from sonar.syft.engines.gmpy2_engine import Gmpy2Engine

RNG = np.random.default_rng(1)
EXPONENTS = RNG.integers(-(2**15), 2**15, size=(40, 23))
OTHERS: set[psutil.Process] = set()
BASES = [int(x) * 2 + 1 for x in RNG.integers(1, 2**62, size=23)]


@pytest.fixture(autouse=True)
def others() -> set[psutil.Process]:
    """The processes of engines that other tests have made, and that are kept."""
    OTHERS.clear()
    OTHERS.update(_children())
    return OTHERS


@pytest.fixture
def pooled(monkeypatch) -> Iterator[Gmpy2Engine]:
    monkeypatch.setattr(gmpy2_engine, "_WORTH_A_PROCESS", 0)
    engine = Gmpy2Engine(workers=3)
    yield engine
    engine.close()


def test_processes_give_the_same_map_as_one(pooled, key):
    alone = Gmpy2Engine(workers=1).linear_map(BASES, EXPONENTS, key.n, bits=15)
    assert pooled.linear_map(BASES, EXPONENTS, key.n, bits=15) == alone
    before = _children()
    assert len(before) == 2
    assert pooled.linear_map(BASES, EXPONENTS, key.n, bits=15) == alone
    assert _children() == before, "the pool is started once"
    pooled.close()
    assert not _children()


def test_a_small_map_starts_no_process(key):
    engine = Gmpy2Engine(workers=2)
    engine.linear_map(BASES, EXPONENTS, key.n, bits=15)
    assert not _children()


def test_a_process_that_ends_is_told_and_replaced(pooled, key):
    expected = pooled.linear_map(BASES, EXPONENTS, key.n, bits=15)
    for child in _children():
        child.kill()
    with pytest.raises(EngineError, match="has ended: is there enough memory"):
        pooled.linear_map(BASES, EXPONENTS, key.n, bits=15)
    assert pooled.linear_map(BASES, EXPONENTS, key.n, bits=15) == expected


@pytest.mark.parametrize("place", [0, 22])
def test_a_base_without_an_inverse_is_refused_wherever_it_is_computed(place, pooled, key: PublicKey):
    bases = list(BASES)
    bases[place] = key.n
    with pytest.raises(CiphertextError, match="not coprime"):
        pooled.linear_map(bases, EXPONENTS, key.n, bits=15)


def test_a_map_that_is_stopped_leaves_no_process(pooled, key):
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pooled.linear_map(BASES, EXPONENTS, key.n, bits=15, progress=stop)
    assert not _children()


def test_progress_reaches_one_when_all_are_done(pooled, key):
    told: list[float] = []
    pooled.linear_map(BASES, EXPONENTS, key.n, bits=15, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_forked_process_has_its_own_helpers(key):
    """Both compute at the same time; a pipe that they shared would mix up their answers."""
    code = (
        "import os, signal; import numpy as np; from sonar.syft.engines import gmpy2_engine as g\n"
        "signal.alarm(60)\n"
        "g._WORTH_A_PROCESS = 0\n"
        f"n, engine = {key.n}, g.Gmpy2Engine(2)\n"
        "bases, ones = list(range(2, 42)), np.ones((30, 40), np.int64)\n"
        "want = {e: g.Gmpy2Engine(1).linear_map(bases, e * ones, n, bits=15) for e in (3, 5)}\n"
        "assert engine.linear_map(bases, 3 * ones, n, bits=15) == want[3]\n"
        "child = os.fork()\n"
        "e = 3 if child else 5\n"
        "good = all(engine.linear_map(bases, e * ones, n, bits=15) == want[e] for _ in range(8))\n"
        "engine.close()\n"
        "if not child: os._exit(0 if good else 1)\n"
        "assert good and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_that_ends_takes_its_processes_along(key):
    code = (
        "import psutil; from sonar.syft.engines import gmpy2_engine as g; import numpy as np\n"
        "g._WORTH_A_PROCESS = 0\n"
        f"g.Gmpy2Engine(2).linear_map([2, 3], np.ones((9, 2), np.int64), {key.n}, bits=3)\n"
        "print(psutil.Process().children()[0].pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not psutil.pid_exists(int(done.stdout))


def _children() -> list[psutil.Process]:
    found = [child for child in psutil.Process().children() if "sonar.syft.engines._worker" in child.cmdline()]
    return [child for child in found if child not in OTHERS]
