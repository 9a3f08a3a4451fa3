"""How long one training takes on this machine, roughly, before it is begun.

Nearly all of it is the homomorphic map, whose cost depends on the model's size alone: not on epochs, nor on records.
"""

import time
from functools import cache

import numpy as np

from sonar.protocol.spec import Spec
from sonar.syft import get_engine
from sonar.syft.engines.cost import map_cost

__all__ = ["training_seconds"]

_KEY_BITS = 3072
_MODULUS = (1 << _KEY_BITS) - 1_103_717
"""The largest prime of this size, so that every base has an inverse; nothing is encrypted under it."""
_SAMPLE = 16
_SAMPLE_BITS = 15
_TRIES = 5
"""The quickest counts: what else the machine does passes."""


def training_seconds(spec: Spec) -> float:
    """Seconds for the map of a spec's model under a key of 3072 bits, by a small one that is timed once a process."""
    rows, outputs = spec.shape
    ciphertexts = -(-outputs * spec.encoding.slot_width // _KEY_BITS)
    return ciphertexts * map_cost(rows, rows, spec.encoding.map_bits) * _seconds_per_lookup()


@cache
def _seconds_per_lookup() -> float:
    square = _MODULUS * _MODULUS
    bases = [square // (3 + number) for number in range(_SAMPLE)]  # of full length, and below the square
    exponents = np.full((_SAMPLE, _SAMPLE), (1 << _SAMPLE_BITS) - 1, dtype=np.int64)
    engine = get_engine()
    found = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        engine.linear_map(bases, exponents, _MODULUS, bits=_SAMPLE_BITS)
        found.append(time.perf_counter() - started)
    return min(found) / map_cost(_SAMPLE, _SAMPLE, _SAMPLE_BITS)
