"""How long one training takes on this machine, roughly, before it is begun.

Of large models nearly all of it is the homomorphic map, whose cost depends on the model's size alone: not on epochs,
nor on records. Of small ones it is the start of the process apart. Reading the records is not in it.
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
_MULTIPLICATIONS = 1e9
"""Of a network in a second: a tenth of what a core does at best, since batches are small."""
_ENCRYPTION = 0.005
"""Seconds for a ciphertext."""
_LAYER = 1e-4
"""Seconds for a layer of a batch, forwards and backwards, besides its numbers."""
_PARAMETER = 8e-9
"""Seconds for a parameter of a step."""
_NOISE = 6e-6
"""Seconds for the noise of a parameter of a step: 4 to 10 microseconds measured."""
_CLIPPED = 5e-8
"""Seconds for a parameter of one record's own gradient, made and clipped: 30 to 80 nanoseconds measured."""
_SAMPLE = 16
_SAMPLE_BITS = 15
_START_SECONDS = 1.0
"""A process that trains starts, restricts itself, loads its engine and makes the key's table: 0.6 to 0.8 s measured."""
_TRIES = 5
"""The quickest counts: what else the machine does passes."""


def training_seconds(spec: Spec, records: int = 0, *, noised: bool = False) -> float:
    """Seconds for a spec's model under a key of 3072 bits, by a small map that is timed once a process.

    Of a network they are those for so many records, by what cores do at least, and `noised` with privacy on.
    """
    if spec.network is not None:
        graph, training = spec.network.graph, spec.network.training
        passes = 3 * training.epochs  # forwards once, and backwards twice as long
        trained = passes * records * graph.work / _MULTIPLICATIONS
        # However few records a batch has, every layer is called for it, and every parameter changed.
        step = len(graph.layers) * _LAYER + graph.size * (_PARAMETER + (_NOISE if noised else 0.0))
        if noised:
            trained += training.epochs * records * graph.size * _CLIPPED
        stepped = training.epochs * -(-records // training.batch_size) * step
        return _START_SECONDS + trained + stepped + spec.shape[0] * _ENCRYPTION
    rows, outputs = spec.shape
    # A backbone is public and runs in the clear, once on each record; of other maps there is nothing to speak of.
    mapped = records * spec.feature_map.graph.work / _MULTIPLICATIONS if spec.feature_map.kind == "backbone" else 0.0
    ciphertexts = -(-outputs * spec.encoding.slot_width // _KEY_BITS)
    return _START_SECONDS + mapped + ciphertexts * map_cost(rows, rows, spec.encoding.map_bits) * _seconds_per_lookup()


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
