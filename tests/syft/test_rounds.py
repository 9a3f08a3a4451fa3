"""Hundreds of rounds with their map, product and fresh key, encrypted, against the same rounds in plain integers."""

import random
from collections.abc import Callable
from itertools import cycle, islice

import numpy as np
import pytest

from capsule.secret import SecretKey, decrypt, generate_key
from sonar.syft import AffineMap, EncryptedTensor, Engine, Obfuscator, apply_map, encrypt, product
from sonar.syft.packing import Integers

FEATURES, OUTPUTS = 5, 3
WIDTH, SCALE, MAP_BITS, STEP_BITS = 72, 24, 15, 10
MODEL_BOUND, GRADIENT_BOUND = (1 << 30) - 1, (1 << 53) - 1
SHIFT = MAP_BITS + STEP_BITS

Rows = list[list[int]]


@pytest.fixture(scope="module")
def round_keys() -> list[SecretKey]:
    """Keys that are taken in turn: none serves two rounds that follow each other."""
    return [generate_key(512, allow_insecure_small_key=True) for _ in range(4)]


@pytest.mark.parametrize("stride", [2, 1])
def test_five_hundred_rounds_never_drift_from_the_same_in_integers(
    stride: int, round_keys: list[SecretKey], engine: Engine, effort: Callable[[int, int, int], int]
) -> None:
    rounds = effort(500, 500, 5000) if stride > 1 else 20
    rng = random.Random(stride)
    keys = [(secret, Obfuscator(secret.public, engine=engine)) for secret in round_keys]
    plain = [[rng.choice((-1, 1)) * MODEL_BOUND for _ in range(OUTPUTS)] for _ in range(FEATURES)]
    held: Integers = np.array(plain, dtype=object)
    for number, (secret, obfuscator) in enumerate(islice(cycle(keys), rounds)):
        model = _model(held, obfuscator, stride)
        maps = [_affine(rng) for _ in range(2)]
        weights = _weights(rng)

        gradients = [_gradient(model, change, constant, obfuscator) for change, constant in maps]
        combined = product(model, gradients, weights, STEP_BITS, engine=engine)
        decrypted = decrypt(secret, combined, engine=engine)
        held = (decrypted + (1 << (SHIFT - 1))) // (1 << SHIFT)

        exact = _next(plain, maps, weights)
        assert decrypted.tolist() == exact, f"round {number}"
        plain = [[(value + (1 << (SHIFT - 1))) >> SHIFT for value in row] for row in exact]
        assert held.tolist() == plain, f"round {number}"
        assert combined.rows_per_plaintext == stride
        assert len(combined.ciphertexts) == -(-FEATURES // stride)
    assert any(value for row in plain for value in row)


def _affine(rng: random.Random) -> tuple[Rows, Rows]:
    """A quantised A - I with rows of A below 15/16 in sum, and B below 4: no weight then leaves its bound of 64."""
    most = (15 << (MAP_BITS - 4)) // FEATURES
    change = [[rng.randint(-most, most) for _ in range(FEATURES)] for _ in range(FEATURES)]
    for row in range(FEATURES):
        change[row][row] -= 1 << MAP_BITS
    bound = (4 << (SCALE + MAP_BITS)) - 1
    return change, [[rng.randint(-bound, bound) for _ in range(OUTPUTS)] for _ in range(FEATURES)]


def _weights(rng: random.Random) -> list[int]:
    """Weights that sum to at most 2^STEP_BITS; now and then one is 0."""
    first = rng.choice((0, 1 << STEP_BITS, rng.randint(0, 1 << STEP_BITS)))
    return [first, rng.randint(0, (1 << STEP_BITS) - first)]


def _model(weights: Integers, obfuscator: Obfuscator, stride: int) -> EncryptedTensor:
    return encrypt(weights, obfuscator.key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND, stride=stride)


def _gradient(model: EncryptedTensor, change: Rows, constant: Rows, obfuscator: Obfuscator) -> EncryptedTensor:
    affine = AffineMap(np.array(change) / 2.0**MAP_BITS, np.array(constant) / 2.0 ** (SCALE + MAP_BITS))
    return apply_map(affine, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator)


def _next(model: Rows, maps: list[tuple[Rows, Rows]], weights: list[int]) -> Rows:
    """The model after a round at the product's scale, with nothing but Python integers."""
    total = [[value << SHIFT for value in row] for row in model]
    for (change, constant), weight in zip(maps, weights, strict=True):
        for i, row in enumerate(change):
            for j in range(OUTPUTS):
                total[i][j] += weight * (sum(q * model[k][j] for k, q in enumerate(row)) + constant[i][j])
    return total
