"""The native engine against plain integers, at sizes, lane counts and extremes that the contract's one key has not."""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from math import gcd, prod
from pathlib import Path

import numpy as np
import pytest
from gmpy2 import next_prime, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from sonar.syft import CiphertextError
from sonar.syft.engines import native_engine, why_unusable
from sonar.syft.engines.native_engine import NativeEngine

_REASON = why_unusable("native")
if _REASON is not None:
    _SAYING = f"the native engine cannot be used: {_REASON}"
    if os.environ.get("SONAR_REQUIRE_NATIVE"):
        pytest.fail(f"{_SAYING}, and SONAR_REQUIRE_NATIVE is set", pytrace=False)
    pytest.skip(_SAYING, allow_module_level=True)

from sonar.syft.engines import _native  # noqa: E402 - it exists only where the engine does

# Around every boundary of limbs (52 bits, less 8 to spare) and of strips, and the sizes of keys.
_SIZES = [
    *range(16, 24), 60, 63, 64, 65, 96, 252, 255, 256, 303, 304, 305, 355, 356, 357, 407, 408, 409, 410, 459, 460, 461,
    511, 512, 513, 824, 825, 1024, 1032, 1033, 1536, 2047, 2048, 2049, 2072, 2073, 3072, 3112, 3113, 4095, 4096,
]  # fmt: skip
_LANES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17]
_KINDS = ("random", "all ones", "sparse", "just above a power of two")


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("bits", _SIZES)
def test_products_are_right_for_every_size_of_modulus(bits, workers):
    rng = random.Random(bits)
    engine = NativeEngine(workers)
    for kind in _KINDS:
        n = _modulus(rng, bits, kind)
        left, right = _edges(rng, n), _edges(rng, n)
        rng.shuffle(right)
        assert engine.multiply(left, right, n) == [a * b % n**2 for a, b in zip(left, right, strict=True)]
        plaintexts = [0, 1, -1, n, n - 1, -n, n**3, *(rng.randrange(-n, n) for _ in left)][: len(left)]
        assert engine.add_plaintexts(left, plaintexts, n) == [
            c * (1 + n * m) % n**2 for c, m in zip(left, plaintexts, strict=True)
        ]


@pytest.mark.parametrize("count", _LANES)
def test_products_are_right_for_every_number_of_lanes(count):
    rng = random.Random(count)
    n = _modulus(rng, 520)
    left, right = [_below(rng, n**2) for _ in range(count)], [_below(rng, n**2) for _ in range(count)]
    expected = [a * b % n**2 for a, b in zip(left, right, strict=True)]
    assert NativeEngine(1).multiply(left, right, n) == expected
    assert NativeEngine(64).multiply(left, right, n) == expected
    factors = [left, right]
    assert NativeEngine(3).weighted_products(factors, [3, 40], n) == [
        powmod(a, 3, n**2) * powmod(b, 40, n**2) % n**2 for a, b in zip(left, right, strict=True)
    ]


def test_elements_outside_the_group_are_reduced():
    n = _modulus(random.Random(1), 128)
    left, right = [-1, n**2, n**2 + 5, 1 << 3000], [7, 7, 7, -(1 << 3000)]
    expected = [a * b % n**2 for a, b in zip(left, right, strict=True)]
    assert NativeEngine(1).multiply(left, right, n) == expected


@pytest.mark.parametrize("bits", [16, 17, 100, 304, 305, 512, 1024, 2048, 3072, 4096])
def test_powers_of_a_fixed_base_are_right_for_every_size(bits):
    rng = random.Random(bits)
    for kind in _KINDS:
        n = _modulus(rng, bits, kind)
        for exponent_bits in (64, 192, 64 * -(-bits // 128)):
            base = _unit(rng, n)
            top = 1 << exponent_bits
            exponents = [0, 1, 2, top - 1, top // 2, *(rng.randrange(top) for _ in range(6))]
            powers = NativeEngine(2).fixed_base(base, exponent_bits, n).powers(exponents)
            assert powers == [powmod(base, e, n**2) for e in exponents]


@pytest.mark.parametrize(
    ("bits", "exponent_bits"),
    [(300, 64), (300, 128), (300, 320), (300, 1024), (300, 4096), (300, 16384), (1024, 65536), (2048, 16384)],
)
def test_combs_of_any_length_keep_their_lifts_in_bounds(bits, exponent_bits):
    # The two last ones have so many steps that lifts which are only doubled would not fit.
    rng = random.Random(exponent_bits)
    n = _modulus(rng, bits, "all ones")
    for base in (n * n - 1 - n, n * n // 3 * 2 + 1):
        if gcd(base, n) != 1:
            continue
        comb = NativeEngine(1).fixed_base(base, exponent_bits, n)
        exponents = [(1 << exponent_bits) - 1, rng.randrange(1 << exponent_bits)]
        assert comb.powers(exponents) == [powmod(base, e, n**2) for e in exponents]
        assert comb.powers([]) == []


def test_a_comb_takes_at_most_a_megabyte_at_2048_bits():
    n = _modulus(random.Random(2), 2048)
    ring = _ring(n)
    comb = _native.comb(ring, (5).to_bytes(512, "little"), 128, _inverter(n), 1)
    assert _native.comb_bytes(comb) <= 1 << 20


@pytest.mark.parametrize("bits", [16, 19, 64, 303, 305, 512, 1024, 2048, 3072])
def test_the_map_is_right_for_every_size_of_modulus(bits):
    rng = random.Random(bits)
    for kind in _KINDS:
        n = _modulus(rng, bits, kind)
        for rows, count in ((0, 1), (1, 1), (3, 2), (8, 9), (11, 17)):
            bases = [_unit(rng, n) for _ in range(count)]
            _check_map(rng, n, bases, rows, 2, 6)


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 60), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_map_is_right_for_every_shape(rows, count, bits, workers, rng):
    n = _modulus(rng, rng.choice([16, 100, 256]), rng.choice(_KINDS))
    _check_map(rng, n, [_unit(rng, n) for _ in range(count)], rows, workers, bits)


@pytest.mark.parametrize("value", [0, 1, -1, 2**40, -(2**40), 2**40 - 1, 2**60 - 1, -(2**60 - 1)])
@pytest.mark.parametrize("bits", [0, 15])
def test_the_map_is_right_for_exponents_beyond_its_bits(bits, value):
    rng = random.Random(value)
    n = _modulus(rng, 256)
    bases = [_unit(rng, n) for _ in range(5)]
    for exponents in (np.full((9, 5), value), np.diag([value, 1, 0, -1, value])):
        expected = _powers(bases, exponents, n)
        assert NativeEngine(2).linear_map(bases, exponents.astype(np.int64), n, bits=bits) == expected


def test_the_map_is_right_with_many_groups_and_slices_of_rows():
    # Forty rows of 61 planes at 4096 bits are more accumulators than are held at a time.
    rng = random.Random(3)
    n = _modulus(rng, 4096)
    bases = [_unit(rng, n) for _ in range(3)]
    exponents = np.zeros((600, 3), np.int64)
    exponents[:, 0] = np.arange(600)
    exponents[::7, 2] = -(2**58)
    told: list[float] = []
    rows = NativeEngine(2).linear_map(bases, exponents, n, bits=60, progress=told.append)
    powers = {e: powmod(bases[2], e, n**2) for e in (0, -(2**58))}
    power = 1
    for row, found in enumerate(rows):
        assert found == power * powers[int(exponents[row, 2])] % n**2
        power = power * bases[0] % n**2
    assert told[-1] == 1.0


@pytest.mark.parametrize("bits", [304, 408])
@pytest.mark.parametrize("count", [4000, 20_000, 500_000])
def test_the_map_is_right_for_any_number_of_bases(bits, count):
    # These moduli leave no bit to spare in their limbs, and this base has the largest lift: the sum outgrows the limbs.
    n = (1 << bits) - 1
    base = n * n - 1 - n
    rows = NativeEngine(2).linear_map([base] * count, np.ones((1, count), np.int64), n, bits=1)
    assert rows == [powmod(base, count, n * n)]


def test_the_map_does_not_care_how_exponents_lie_in_memory():
    rng = random.Random(4)
    n = _modulus(rng, 200)
    bases = [_unit(rng, n) for _ in range(6)]
    wide = np.array([[rng.randint(-8, 7) for _ in range(12)] for _ in range(10)], np.int64)
    unaligned = np.frombuffer(b"\0" + wide[:, :6].tobytes(), np.int64, offset=1).reshape(10, 6)
    for exponents in (wide[:, ::2], wide[::-1, :6], np.asfortranarray(wide[:, :6]), wide.T[:6].T, unaligned):
        assert NativeEngine(1).linear_map(bases, exponents, n, bits=3) == _powers(bases, exponents, n)


def test_a_base_that_is_not_coprime_is_refused_wherever_it_is():
    p, q = 10007, 10009
    for place in range(11):
        bases = [2] * 11
        bases[place] = 3 * p
        with pytest.raises(CiphertextError, match="not coprime to the modulus: refuse"):
            NativeEngine(2).linear_map(bases, np.ones((2, 11), np.int64), p * q, bits=2)
        with pytest.raises(CiphertextError, match="not coprime to the modulus: refuse"):
            NativeEngine(2).check(bases, p * q)
    with pytest.raises(CiphertextError, match="not coprime"):
        NativeEngine(1).fixed_base(q, 64, p * q)
    for count in _LANES:
        NativeEngine(2).check([2] * count, p * q)


@pytest.mark.parametrize(
    "exponents",
    [
        [1, 2**720, 2**1440, 2**2160],
        [0, 0, 0, 0],
        [1, 0, 0, 1],
        [2**40 + 3, 5, 2**64 - 1, 3],
        [(1 << 900) - 1, (1 << 901) // 3, 12345678901234567890, 63],
    ],
)
@pytest.mark.parametrize("bits", [16, 1024])
def test_weighted_products_are_right_for_long_and_sparse_exponents(bits, exponents):
    rng = random.Random(bits)
    n = _modulus(rng, bits)
    factors = [_edges(rng, n) for _ in exponents]
    expected = [
        prod(powmod(x, e, n**2) for x, e in zip(row, exponents, strict=True)) % n**2
        for row in zip(*factors, strict=True)
    ]
    assert NativeEngine(2).weighted_products(factors, exponents, n) == expected


@given(st.integers(0, 2**300), st.integers(1, 6))
def test_exponents_are_sums_of_odd_digits(exponent, width):
    digits = native_engine._sliding(exponent, width)
    assert sum(digit << position for position, digit in digits) == exponent
    assert all(digit % 2 == 1 and digit < 2**width for _, digit in digits)
    positions = [position for position, _ in digits]
    assert all(after - before >= width for before, after in pairwise(positions))


@pytest.mark.parametrize(
    ("bits_p", "bits_q"),
    [(8, 8), (8, 9), (16, 300), (300, 16), (44, 2048), (256, 256), (255, 257), (304, 304), (305, 303), (512, 530),
     (530, 512), (1024, 1024), (1032, 1033), (1536, 1536), (2048, 200), (4096, 44)],
)  # fmt: skip
def test_decryption_is_right_for_primes_of_every_length(bits_p, bits_q):
    rng = random.Random(bits_p * 5000 + bits_q)
    p, q = _prime(rng, bits_p), _prime(rng, bits_q)
    if p == q:
        q = int(next_prime(q))
    n = p * q
    if gcd(n, (p - 1) * (q - 1)) != 1:
        pytest.skip("Paillier needs gcd(n, phi(n)) = 1")
    plaintexts = [0, 1, 2, n - 1, n // 2, p, q, p * (q - 1), *(rng.randrange(n) for _ in range(3))]
    ciphertexts = [(1 + n * m) * powmod(_unit(rng, n), n, n**2) % n**2 for m in plaintexts]
    ciphertexts += [1, n + 1, n * n - 1]
    plaintexts += [0, 1, 0]
    for workers in (1, 3):
        assert NativeEngine(workers).decrypt(ciphertexts, p, q) == plaintexts


@pytest.mark.parametrize("count", _LANES)
def test_decryption_is_right_for_every_number_of_lanes(count):
    p, q = 2**89 - 1, 2**107 - 1
    n = p * q
    ciphertexts = [(1 + n * m) * powmod(m + 2, n, n * n) % n**2 for m in range(count)]
    assert NativeEngine(2).decrypt(ciphertexts, p, q) == list(range(count))


@pytest.mark.parametrize("operation", ["linear_map", "decrypt"])
def test_progress_is_told_in_between_and_stops_threads_that_are_at_work(operation):
    rng = random.Random(6)
    n = _modulus(rng, 2048)
    bases = [_unit(rng, n) for _ in range(160)]
    p, q = _prime(rng, 1024), _prime(rng, 1024)
    told: list[float] = []
    at_work: list[int] = []

    def stop(fraction: float) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(fraction)
        at_work.append(_threads())
        if len(told) == 2:
            raise InterruptedError("enough")

    def work(size: int) -> None:
        if operation == "decrypt":
            NativeEngine(2).decrypt([3] * size, p, q, progress=stop)
        else:
            exponents = np.random.default_rng(6).integers(-(2**40), 2**40, (size, len(bases)))
            NativeEngine(2).linear_map(bases, exponents, n, bits=40, progress=stop)

    before = _threads()
    size = 2000
    while True:
        # On a fast machine it takes more work for something to be told twice, the last time at its end.
        told.clear()
        at_work.clear()
        with suppress(InterruptedError):
            work(size)
        if len(told) == 2 and told[1] < 1:
            break
        size *= 2
    assert 0 <= told[0] <= told[1]
    assert at_work == [before + 1] * 2
    deadline = time.monotonic() + 60
    while _threads() != before:  # The kernel counts a thread for a moment after it was joined.
        assert time.monotonic() < deadline, "threads are left"
        time.sleep(0.001)


@pytest.fixture
def pythons_ctrl_c() -> Iterator[None]:
    """Python's own handler, whatever a library that other tests have loaded has put in its place."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_ctrl_c")
def test_ctrl_c_ends_a_long_operation():
    rng = random.Random(7)
    p, q = _prime(rng, 1024), _prime(rng, 1024)
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        NativeEngine(2).decrypt([3] * 100_000, p, q)
    timer.join()
    assert time.monotonic() - start < 5


@pytest.mark.usefixtures("pythons_ctrl_c")
def test_ctrl_c_ends_the_making_of_tables():
    n = _modulus(random.Random(7), 8192)
    ring, element_bytes = _ring(n), 2048
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    timer.start()
    inverted: list[bytes] = []
    with pytest.raises(KeyboardInterrupt):
        _native.comb(ring, (5).to_bytes(element_bytes, "little"), 8192, inverted.append, 2)
    timer.join()
    assert not inverted  # It was still at the powers that come first.


def test_other_threads_run_meanwhile_and_many_may_compute_at_once():
    rng = random.Random(8)
    n = _modulus(rng, 512)
    base = _unit(rng, n)
    comb = NativeEngine(2).fixed_base(base, 256, n)
    exponents = [rng.getrandbits(256) for _ in range(100)]
    expected = [powmod(base, e, n**2) for e in exponents]
    wrong: list[int] = []

    def compute() -> None:
        if comb.powers(exponents) != expected:
            wrong.append(1)

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


_EXIT_WHILE_COMPUTING = """
import sys, threading, time
from sonar.syft.engines.native_engine import NativeEngine

begun = threading.Event()

def progress(fraction):
    begun.set()
    {progress}

def compute():
    NativeEngine(2).decrypt([3] * 20_000, 2**1279 - 1, 2**2203 - 1, progress=progress)

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.5)

threading.Thread(target=compute, daemon=True).start()
begun.wait()
sys.modules["slow"] = Slow()  # It goes while the interpreter is finalised, and lets the thread ask for the lock.
"""


@pytest.mark.parametrize("progress", ["pass", "time.sleep(0.2)"])
def test_the_process_exits_as_it_should_while_a_daemon_thread_computes(progress):
    script = _EXIT_WHILE_COMPUTING.format(progress=progress)
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (child.returncode, child.stderr) == (0, "")


def test_a_forked_process_computes_as_well():
    rng = random.Random(9)
    n = _modulus(rng, 1024)
    bases = [_unit(rng, n) for _ in range(20)]
    exponents = np.full((20, 20), 3, np.int64)
    expected = NativeEngine(3).linear_map(bases, exponents, n, bits=2)
    child = os.fork()
    if child == 0:
        os._exit(0 if NativeEngine(3).linear_map(bases, exponents, n, bits=2) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_cannot_run_says_why(monkeypatch):
    assert NativeEngine.unusable() is None
    monkeypatch.setattr(native_engine, "_EXTENSION", "sonar.syft.engines._absent")
    assert native_engine._load() == (
        None, "its extension module is not built: installing Sonar where there is a C++ compiler builds it"
    )  # fmt: skip
    monkeypatch.setattr(native_engine, "_unloaded", "of the weather")
    assert NativeEngine.unusable() == "of the weather"


def test_an_extension_that_does_not_load_gives_the_loaders_reason(monkeypatch, tmp_path):
    (tmp_path / "_broken.abi3.so").write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(native_engine, "_EXTENSION", "_broken")
    module, reason = native_engine._load()
    assert module is None
    assert reason is not None
    assert reason.startswith("its extension module cannot be loaded: ")
    assert "_broken.abi3.so" in reason


def test_an_extension_of_other_sources_is_refused(monkeypatch):
    monkeypatch.setattr(_native, "API", 0)
    assert native_engine._load() == (
        None, "its extension module has API 0 instead of 1: build it again, from these sources"
    )  # fmt: skip
    monkeypatch.delattr(_native, "API")
    assert native_engine._load()[0] is None


def test_a_build_that_fails_leaves_no_earlier_extension(tmp_path):
    root = Path(native_engine.__file__).parents[3]
    engines = tmp_path / "sonar/syft/engines"
    shutil.copytree(root / "sonar/syft/engines/src", engines / "src")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    name = Path(_native.__file__).name
    for stale in (engines / name, tmp_path / "build/lib/sonar/syft/engines" / name):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.touch()
    for how in (["--inplace"], ["--build-lib", "build/lib"]):
        build = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", *how], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "CC": "no-such-compiler", "CXX": "no-such-compiler"}, check=False,
        )  # fmt: skip
        assert build.returncode == 0, build.stderr
        assert "the native engine is not built" in build.stderr
    assert not list(tmp_path.rglob("_native*.so"))


def test_more_workers_than_the_extension_takes_are_as_good_as_its_most():
    assert NativeEngine(5000).multiply([3], [5], 10007 * 10009) == [15]
    with pytest.raises(ValueError, match="0 workers"):
        NativeEngine(0)


def test_a_ring_leaves_nothing_of_its_modulus_in_memory():
    p = int(next_prime(3**646))
    ring = _ring(p)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    handle = pointer(ring, b"sonar.syft.engines._native.Ring")
    secret = (-pow(p, -1, 1 << 52) % (1 << 52)).to_bytes(8, "little")
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        place = int.from_bytes(os.pread(memory.fileno(), 8, handle), "little")
        assert secret in os.pread(memory.fileno(), 128, place)
        del ring
        assert secret not in os.pread(memory.fileno(), 128, place)


def test_steps_that_change_while_they_are_used_do_no_harm():
    ring = _ring(_N)
    steps = np.zeros((4000, 3), np.int32)
    steps[:, 0] = np.arange(4000)[::-1]
    steps[:, 2] = 1
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            steps[:, 1] = 1 << 20
            steps[:, 1] = 0

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(100):
            with suppress(ValueError):
                _native.weighted_products(ring, _ONE * 64, 1, steps, 1)
    finally:
        done.set()
        changer.join()


def test_moduli_that_are_none_are_refused():
    for n in (0, 1, 2, 4, -3, 1 << 64, (1 << 8192) + 1):
        with pytest.raises((ValueError, OverflowError, ZeroDivisionError)):
            NativeEngine(1).multiply([1], [1], n)
    for n in (3, 5, 7, 9, 255, (1 << 8192) - 1):
        assert NativeEngine(1).multiply([2, n * n - 1], [2, n * n - 1], n) == [4 % n**2, 1]


_N = (1 << 200) - 75
_WIDTH, _RESIDUE = 50, 25
_ONE = (1).to_bytes(_WIDTH, "little")
_CALLS: dict[str, tuple[Callable[..., object], list[object]]] = {}


def _calls() -> dict[str, tuple[Callable[..., object], list[object]]]:
    """Every function with arguments that are right."""
    if not _CALLS:
        ring, invert = _ring(_N), _inverter(_N)
        comb = _native.comb(ring, _ONE, 8, invert, 1)
        step = np.array([[5, 0, 3], [0, 1, 1]], np.int32).tobytes()
        one = (1).to_bytes(_RESIDUE, "little")
        _CALLS.update(
            radix_bits=(_native.radix_bits, [200]),
            ring=(_native.ring, [_N.to_bytes(_RESIDUE, "little"), bytes(_WIDTH)]),
            residue_product=(_native.residue_product, [ring, _ONE * 3, 2]),
            multiply=(_native.multiply, [ring, _ONE * 9, _ONE * 9, 2]),
            add_plaintexts=(_native.add_plaintexts, [ring, _ONE * 2, one * 2, 1]),
            comb=(_native.comb, [ring, _ONE, 8, invert, 1]),
            comb_bytes=(_native.comb_bytes, [comb]),
            comb_powers=(_native.comb_powers, [comb, bytes(24), 2, None]),
            linear_map=(_native.linear_map, [ring, _ONE * 3, np.ones((2, 3), np.int64), 2, 4, invert, 2, None]),
            weighted_products=(_native.weighted_products, [ring, _ONE * 4, 2, step, 1]),
            decrypt=(_native.decrypt, [ring, ring, one, one, bytes(200), 100, 1, None]),
        )
    return _CALLS


@pytest.mark.parametrize(
    "name",
    [name for name in dir(_native) if callable(getattr(_native, name)) and name[0] != "_" and name != "unusable"],
)
def test_the_extension_takes_what_is_right(name):
    function, arguments = _calls()[name]
    function(*arguments)


_WRONG = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.integers(-3, 70), st.binary(max_size=300), st.text(max_size=3),
    st.floats(), st.just(lambda *_: b""), st.just(lambda *_: None), st.just(lambda *_: bytes(_RESIDUE)),
    st.integers(0, 600).map(bytes), st.integers(0, 9).map(lambda count: np.full(count, -1, np.int64)),
    st.integers(0, 4).map(lambda count: b"\xff" * (_WIDTH * count)), st.just(object()),
    st.integers(1, 9).map(lambda count: memoryview(bytes(100 * count))[::2]),
)  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(data=st.data())
def test_the_extension_survives_any_arguments(data):
    calls = _calls()
    function, right = calls[data.draw(st.sampled_from(sorted(calls)))]
    arguments = list(right)
    capsules = [calls["multiply"][1][0], calls["comb_bytes"][1][0]]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(arguments)))
        wrong = data.draw(st.one_of(_WRONG, st.sampled_from(capsules)))
        arguments[place : place + data.draw(st.integers(0, 1))] = [wrong]
    with suppress(TypeError, ValueError, OverflowError, BufferError):
        function(*arguments)


@pytest.mark.parametrize(
    ("name", "place", "wrong", "message"),
    [
        ("radix_bits", 0, 8193, "2 to 8192 bits"),
        ("ring", 0, bytes(25), "odd and above 1"),
        ("ring", 0, b"\xff" * 1025, "too long"),
        ("ring", 1, b"\xff" * 51, r"R\^3 mod n\^2"),
        ("multiply", 1, _ONE * 8, "right must be 8 numbers of 50 bytes, but there are 450"),
        ("multiply", 2, _ONE[:-1], "right must be 9 numbers of 50 bytes, but there are 49"),
        ("multiply", 1, _ONE[:-1], "left must be numbers of 50 bytes"),
        ("multiply", 3, 0, "workers must be 1 to 1024"),
        ("multiply", 3, 1025, "workers must be 1 to 1024"),
        ("add_plaintexts", 2, _ONE[1:], "plaintexts must be 2 numbers of 25 bytes"),
        ("comb", 1, _ONE * 2, "base must be 1 numbers of 50 bytes"),
        ("comb", 2, 0, "1 to 8192 bytes"),
        ("comb", 3, lambda _: b"short", "an inverse must have 25 bytes, but this one has 5"),
        ("comb_powers", 1, bytes(7), "exponents must be numbers of 8 bytes"),
        ("linear_map", 1, b"", "needs a base"),
        ("linear_map", 2, np.ones(5, np.int64), "exponents must be 6 numbers of 8 bytes, but there are 40"),
        ("linear_map", 3, -1, "rows must not be negative"),
        ("linear_map", 3, 2**62, "too large"),
        ("linear_map", 4, 64, "0 to 63"),
        ("linear_map", 4, -1, "0 to 63"),
        ("weighted_products", 2, 3, "4 elements cannot be the same number for each of 3 factors"),
        ("weighted_products", 2, 0, "each of 0 factors"),
        ("weighted_products", 3, bytes(12), "odd digits"),
        ("weighted_products", 3, np.array([0, 2, 1], np.int32).tobytes(), "known factors"),
        ("weighted_products", 3, np.array([0, 0, 65], np.int32).tobytes(), "below 64"),
        ("weighted_products", 3, np.array([0, 0, 1, 1, 0, 1], np.int32).tobytes(), "falling positions"),
        ("weighted_products", 3, np.array([-1, 0, 1], np.int32).tobytes(), "falling positions"),
        ("weighted_products", 3, bytes(13), "steps must be numbers of 12 bytes"),
        ("decrypt", 2, bytes(24), "inverse_p must be 1 numbers of 25 bytes"),
        ("decrypt", 4, bytes(99), "ciphertexts must be numbers of 100 bytes"),
        ("decrypt", 5, 101, "1 to 100 bytes"),
    ],
)
def test_the_extension_says_which_argument_is_wrong(name, place, wrong, message):
    function, right = _calls()[name]
    arguments = list(right)
    arguments[place] = wrong
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_the_extension_refuses_handles_of_another_kind():
    calls = _calls()
    ring, comb = calls["multiply"][1][0], calls["comb_bytes"][1][0]
    with pytest.raises(TypeError, match=r"must be a sonar\.syft\.engines\._native\.Ring"):
        _native.multiply(comb, b"", b"", 1)
    with pytest.raises(TypeError, match=r"must be a sonar\.syft\.engines\._native\.Comb"):
        _native.comb_bytes(ring)


def _threads() -> int:
    """The process's threads, of which Python counts only its own."""
    return len(list(Path("/proc/self/task").iterdir()))


def _modulus(rng: random.Random, bits: int, kind: str = "random") -> int:
    top = 1 << (bits - 1)
    return {
        "random": lambda: top | rng.getrandbits(bits - 1) | 1,
        "all ones": lambda: 2 * top - 1,
        "sparse": lambda: top | 1 << rng.randrange(bits - 1) | 1,
        "just above a power of two": lambda: top + 1,
    }[kind]()


def _prime(rng: random.Random, bits: int) -> int:
    if bits == 4096:
        return (1 << 4096) - 2549  # The greatest: looking for another takes longer than all that is done with it.
    return int(next_prime((1 << bits) - 1 - rng.getrandbits(bits - 2)))


def _edges(rng: random.Random, n: int) -> list[int]:
    """Elements whose parts or limbs are all zeros or ones, and some others."""
    limbs = sum(((1 << 52) - 1) << (104 * i) for i in range(n.bit_length() // 52 + 1))
    edges = [0, 1, n * n - 1, n - 1, n, n + 1, n * (n - 1), n * n - n + 1, (1 << 2 * n.bit_length()) - 1, limbs]
    return [x % n**2 for x in (*edges, limbs << 52, rng.randrange(n * n), rng.randrange(n * n))]


def _below(rng: random.Random, limit: int) -> int:
    return rng.choice([0, 1, limit - 1, rng.randrange(limit), rng.randrange(limit)])


def _unit(rng: random.Random, n: int) -> int:
    while True:
        x = rng.choice([1, n * n - 1, n + 1, rng.randrange(n * n), rng.randrange(n * n), rng.randrange(n * n)])
        if gcd(x, n) == 1:
            return x


def _powers(bases: list[int], exponents: np.ndarray, n: int) -> list[int]:
    return [prod(powmod(b, e, n**2) for b, e in zip(bases, row, strict=True)) % n**2 for row in exponents.tolist()]


def _check_map(rng: random.Random, n: int, bases: list[int], rows: int, workers: int, bits: int) -> None:
    low, high = -(1 << bits), (1 << bits) - 1
    values = [low, high, 0, *(rng.randint(low, high) for _ in range(9))]
    exponents = np.array([[rng.choice(values) for _ in bases] for _ in range(rows)], np.int64).reshape(rows, len(bases))
    exponents = np.maximum(exponents, -(1 << 60) + 1)
    assert NativeEngine(workers).linear_map(bases, exponents, n, bits=bits) == _powers(bases, exponents, n)


def _ring(n: int) -> object:
    bits = n.bit_length()
    r_cubed = pow(2, 3 * _native.radix_bits(bits), n**2)
    return _native.ring(n.to_bytes((bits + 7) // 8, "little"), r_cubed.to_bytes((2 * bits + 7) // 8, "little"))


def _inverter(n: int) -> Callable[[bytes], bytes]:
    return lambda number: pow(int.from_bytes(number, "little"), -1, n).to_bytes(len(number), "little")
