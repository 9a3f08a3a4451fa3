"""How fast this machine computes on ciphertexts, by small samples under a throwaway modulus."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import gmpy2
import numpy as np

from pysonar.estimating.networks import network_seconds
from sonar.protocol.spec import Spec
from sonar.syft import Layout, Obfuscator, PublicKey, get_engine, rows_that_fit
from sonar.syft.engines.cost import map_cost

__all__ = ["Speed", "layout_of", "training_seconds"]

_SAMPLE = 16
_SAMPLE_BITS = 15
_TRIES = 5
"""The quickest counts: what else the machine does passes."""
_ENCRYPTIONS = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds under keys of so many bits: a look-up of a map, an encryption, a decryption, and a key's table."""

    lookup: float
    encryption: float
    decryption: float
    table: float

    @classmethod
    def measured(cls, bits: int) -> Self:
        """On this machine, now; 1 to 2 seconds for 3072 bits the first time, then what was found."""
        return cls(*_measured(bits))


def training_seconds(spec: Spec, key_bits: int, records: int | None = None) -> float:
    """Seconds that a mine's training takes under keys of so many bits, on a machine like this one, now.

    Of a model that stays encrypted it is the square map, however many records there are; where a thin one will do it is
    less. A network is trained in the clear on `records`, unless given the fewest that the spec allows.
    """
    if spec.network is not None:
        return network_seconds(spec.network, spec.min_records if records is None else records)
    rows, _ = spec.shape
    return layout_of(spec, key_bits).blocks * map_cost(rows, rows, spec.encoding.map_bits) * _lookup(key_bits)


def layout_of(spec: Spec, key_bits: int) -> Layout:
    """How a gradient's rows lie in plaintexts under keys of so many bits."""
    encoding, outputs = spec.encoding, spec.shape[1]
    stride = min(encoding.stacked_rows, rows_that_fit(key_bits, encoding.slot_width, outputs))
    return Layout(key_bits, encoding.slot_width, outputs, stride, rows_per_plaintext=stride)


@cache
def _primes(bits: int) -> tuple[int, int]:
    """Of half the length, their two highest bits set, so that the product has all. Nothing is kept under it."""
    half = bits // 2
    p, q = (int(gmpy2.next_prime(secrets.randbits(half - 2) | 3 << (half - 2))) for _ in range(2))
    return p, q


@cache
def _lookup(bits: int) -> float:
    p, q = _primes(bits)
    bases = [secrets.randbelow((p * q) ** 2) for _ in range(_SAMPLE)]
    exponents = np.full((_SAMPLE, _SAMPLE), (1 << _SAMPLE_BITS) - 1, dtype=np.int64)
    engine = get_engine()
    seconds = _quickest(lambda: engine.linear_map(bases, exponents, p * q, bits=_SAMPLE_BITS))
    return seconds / map_cost(_SAMPLE, _SAMPLE, _SAMPLE_BITS)


@cache
def _measured(bits: int) -> tuple[float, float, float, float]:
    p, q = _primes(bits)
    key = PublicKey(p * q, allow_insecure_small_key=True)
    started = time.perf_counter()
    obfuscator = Obfuscator(key)
    table = time.perf_counter() - started
    encryption = _quickest(lambda: obfuscator.raw_encrypt([1] * _ENCRYPTIONS)) / _ENCRYPTIONS
    ciphertexts = [secrets.randbelow(key.n_squared) for _ in range(_SAMPLE)]
    decryption = _quickest(lambda: get_engine().decrypt(ciphertexts, p, q)) / _SAMPLE
    return _lookup(bits), encryption, decryption, table


def _quickest(work: Callable[[], object]) -> float:
    found = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)
