"""One suite for every engine: each operation against plain integers, so that all engines agree bit for bit."""

import pickle
import random
from math import gcd, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.secret import SecretKey
from sonar.syft import CiphertextError, EngineError, PublicKey, get_engine
from sonar.syft.engines import ENGINES, choice, why_unusable

UNITS = st.integers(1, 2**1100)


@given(data=st.data())
def test_the_map_equals_plain_powers(data, engine, key):
    rows, count = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 20))
    bits = data.draw(st.sampled_from([0, 1, 8, 15, 40]))
    magnitude = data.draw(st.sampled_from([0, 1, 255, 256, 1 << 20, 1 << 50]))
    value = st.one_of(st.sampled_from([-magnitude, 0, magnitude]), st.integers(-magnitude, magnitude))
    exponents = np.array([[data.draw(value) for _ in range(count)] for _ in range(rows)], np.int64).reshape(rows, count)
    bases = _elements(data, count, key)
    expected = [
        prod((pow(base, exponent, key.n_squared) for base, exponent in zip(bases, row, strict=True)), start=1)
        % key.n_squared
        for row in exponents.tolist()
    ]
    assert engine.linear_map(bases, exponents, key.n, bits=bits) == expected


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 33])
def test_the_map_is_right_for_any_number_of_rows(rows, engine, key):
    rng = random.Random(rows)
    bases = [_unit(rng, key) for _ in range(30)]
    exponents = np.array([[rng.randint(-(2**15), 2**15 - 1) for _ in bases] for _ in range(rows)], np.int64)
    expected = [
        prod(pow(b, e, key.n_squared) for b, e in zip(bases, row, strict=True)) % key.n_squared
        for row in exponents.tolist()
    ]
    assert engine.linear_map(bases, exponents, key.n, bits=15) == expected


@given(data=st.data())
def test_products_of_pairs_equal_plain_products(data, engine, key):
    count = data.draw(st.integers(0, 17))
    left, right = _elements(data, count, key), _elements(data, count, key)
    expected = [a * b % key.n_squared for a, b in zip(left, right, strict=True)]
    assert engine.multiply(left, right, key.n) == expected


@given(data=st.data())
def test_plaintexts_are_added_in_the_exponent_of_one_plus_n(data, engine, key):
    count = data.draw(st.integers(0, 17))
    elements = _elements(data, count, key)
    numbers = st.one_of(st.sampled_from([0, -1, key.n, -key.n, key.n // 2]), st.integers(-(2**600), 2**600))
    plaintexts = [data.draw(numbers) for _ in range(count)]
    expected = [c * (1 + key.n * m) % key.n_squared for c, m in zip(elements, plaintexts, strict=True)]
    assert engine.add_plaintexts(elements, plaintexts, key.n) == expected


@given(data=st.data())
def test_weighted_products_equal_plain_powers(data, engine, key):
    count, terms = data.draw(st.integers(0, 10)), data.draw(st.integers(1, 4))
    factors = [_elements(data, count, key) for _ in range(terms)]
    one = st.one_of(st.sampled_from([0, 1, 2, 1 << 39, 1 << 700, (1 << 700) + 3]), st.integers(0, 2**64))
    exponents = [data.draw(one) for _ in range(terms)]
    expected = [
        prod(pow(element, e, key.n_squared) for element, e in zip(row, exponents, strict=True)) % key.n_squared
        for row in zip(*factors, strict=True)
    ]
    assert engine.weighted_products(factors, exponents, key.n) == expected


@given(data=st.data())
def test_powers_of_a_fixed_base_equal_plain_powers(data, engine, key):
    bits = data.draw(st.sampled_from([64, 128, 256, 640]))
    (base,) = _elements(data, 1, key)
    exponent = st.one_of(st.sampled_from([0, 1, 2, 1 << (bits - 1), (1 << bits) - 1]), st.integers(0, (1 << bits) - 1))
    exponents = data.draw(st.lists(exponent, max_size=17))
    powers = engine.fixed_base(base, bits, key.n).powers(exponents)
    assert powers == [pow(base, e, key.n_squared) for e in exponents]


@given(data=st.data())
def test_decryption_inverts_encryption(data, engine, secret, key):
    plaintexts = data.draw(st.lists(st.integers(0, key.n - 1), max_size=17))
    units = _elements(data, len(plaintexts), key)
    ciphertexts = [
        (1 + key.n * m) * pow(u, key.n, key.n_squared) % key.n_squared for m, u in zip(plaintexts, units, strict=True)
    ]
    assert engine.decrypt(ciphertexts, *_primes(secret)) == plaintexts


def test_forged_elements_are_refused(engine, secret, key):
    p, q = _primes(secret)
    good = [1, 2, key.n_squared - 1, key.n + 1]
    engine.check(good, key.n)
    engine.check([], key.n)
    for bad in (0, -1, key.n_squared, key.n_squared + 5, 1 << 5000):
        with pytest.raises(CiphertextError, match="ciphertext 2 is outside 1 to"):
            engine.check([*good[:2], bad, *good[2:]], key.n)
    for bad in (key.n, 5 * key.n, p, q, 7 * p, key.n_squared - q):
        with pytest.raises(CiphertextError, match="not coprime"):
            engine.check([*good, bad], key.n)
        with pytest.raises(CiphertextError, match="not coprime"):
            engine.linear_map([2, bad], np.ones((1, 2), np.int64), key.n, bits=3)


def test_counts_and_exponents_that_do_not_fit_are_refused(engine, key):
    ones = np.ones((1, 2), np.int64)
    for call in (
        lambda: engine.multiply([1, 2], [3], key.n),
        lambda: engine.add_plaintexts([1], [3, 4], key.n),
        lambda: engine.linear_map([2], ones, key.n, bits=3),
        lambda: engine.linear_map([2, 3], ones.astype(float), key.n, bits=3),
        lambda: engine.linear_map([2, 3], ones << 61, key.n, bits=3),
        lambda: engine.linear_map([2, 3], ones, key.n, bits=-1),
        lambda: engine.weighted_products([[2]], [1, 2], key.n),
        lambda: engine.weighted_products([[2], [3, 4]], [1, 2], key.n),
        lambda: engine.weighted_products([[2]], [-1], key.n),
        lambda: engine.weighted_products([], [], key.n),
        lambda: engine.fixed_base(2, 64, key.n).powers([1 << 64]),
        lambda: engine.fixed_base(2, 64, key.n).powers([-1]),
    ):
        with pytest.raises(ValueError, match=r".+"):
            call()


def test_progress_rises_to_one_and_may_stop_the_work(engine, secret, key):
    bases, exponents = [2, 3, 5] * 10, np.ones((9, 30), np.int64)
    for work in (
        lambda progress: engine.linear_map(bases, exponents, key.n, bits=15, progress=progress),
        lambda progress: engine.decrypt([1] * 20, *_primes(secret), progress=progress),
    ):
        told: list[float] = []
        work(told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0

        def stop(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            work(stop)


def test_one_engine_is_made_once_and_taken_as_it_is(engine):
    assert get_engine(engine) is engine
    assert get_engine(engine.name, workers=3) is get_engine(engine.name, workers=3)
    assert get_engine(engine.name, workers=3).workers == 3


def test_an_engine_travels_to_another_process_by_name(engine):
    assert pickle.loads(pickle.dumps(engine)) is get_engine(engine.name, workers=engine.workers)


def test_an_obfuscator_does_not_travel(obfuscator):
    with pytest.raises(TypeError, match="make another for the key"):
        pickle.dumps(obfuscator)


@pytest.mark.parametrize("workers", [0, -1, 1025, "2", 1.5, True])
def test_workers_are_a_number_of_cores(workers):
    with pytest.raises(EngineError, match=f"workers is {workers!r}: set it to a number of cores from 1 to 1024"):
        get_engine(workers=workers)


def test_a_decryption_that_is_interrupted_ends_soon(engine, secret):
    """After the first elements: the others are not waited for."""
    seen = 0

    def stop(_: float) -> None:
        nonlocal seen
        seen += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.decrypt([1] * 3000, *_primes(secret), progress=stop)
    assert seen == 1


def test_the_environment_chooses_the_engine(monkeypatch):
    monkeypatch.setenv("SONAR_ENGINE", "phe")
    assert get_engine().name == "phe"
    assert get_engine("gmpy2").name == "gmpy2"
    monkeypatch.setenv("SONAR_ENGINE_WORKERS", "3")
    assert get_engine().workers == 3
    for bad in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("SONAR_ENGINE_WORKERS", bad)
        with pytest.raises(EngineError, match="SONAR_ENGINE_WORKERS"):
            get_engine()


def test_the_fastest_engine_that_works_here_is_the_default(monkeypatch):
    monkeypatch.delenv("SONAR_ENGINE", raising=False)
    assert get_engine().name == next(name for name in ENGINES if why_unusable(name) is None)


def test_an_unknown_or_unusable_engine_is_refused(monkeypatch):
    with pytest.raises(EngineError, match="no engine 'cuda': choose one of native, gmpy2, phe"):
        get_engine("cuda")
    monkeypatch.setitem(choice.ENGINES, "absent", ("sonar.syft.engines.absent_engine", "AbsentEngine"))
    with pytest.raises(EngineError, match="'absent' cannot be used"):
        get_engine("absent")


def _elements(data: st.DataObject, count: int, key: PublicKey) -> list[int]:
    edges = st.sampled_from([1, key.n_squared - 1, key.n + 1, key.n - 1, key.n_squared - key.n + 1])
    element = st.one_of(edges, UNITS.map(lambda x: x % key.n_squared))
    return [data.draw(element.filter(lambda x: gcd(x, key.n) == 1)) for _ in range(count)]


def _unit(rng: random.Random, key: PublicKey) -> int:
    return next(x for x in iter(lambda: rng.randrange(key.n_squared), None) if gcd(x, key.n) == 1)


def _primes(secret: SecretKey) -> tuple[int, int]:
    raw = secret.to_bytes()
    return int.from_bytes(raw[: len(raw) // 2], "big"), int.from_bytes(raw[len(raw) // 2 :], "big")
