"""What tests of encrypted models share: small keys, every engine, and records to train on.

Anyone can factor the keys: they are large enough for several slots and small enough for many examples.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest

from capsule.secret import SecretKey, generate_key
from sonar.syft import Engine, Obfuscator, PublicKey
from sonar.syft.engines import ENGINES, get_engine, why_unusable


@pytest.fixture(scope="session")
def secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)


@pytest.fixture(scope="session")
def key(secret: SecretKey) -> PublicKey:
    return secret.public


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine that works on this machine; what is done with it must be the same with all."""
    reason = why_unusable(request.param)
    if reason is not None:
        pytest.skip(f"the engine {request.param} cannot be used: {reason}")
    return get_engine(request.param)


@pytest.fixture(scope="session")
def obfuscator(key: PublicKey, engine: Engine) -> Obfuscator:
    return Obfuscator(key, engine=engine)


@pytest.fixture(scope="session")
def other_secret() -> SecretKey:
    return generate_key(512, allow_insecure_small_key=True)


Batch = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def records() -> Callable[..., Batch]:
    """Draws records: a design (count, features + 1) whose last column is ones, and one-hot targets (count, classes)."""

    def draw(seed: int, count: int, features: int = 3, classes: int = 4) -> Batch:
        rng = np.random.default_rng(seed)
        design = np.hstack([rng.normal(size=(count, features)), np.ones((count, 1))])
        return design, np.eye(classes)[rng.integers(0, classes, count)]

    return draw


@pytest.fixture(scope="session")
def cut() -> Callable[[np.ndarray, np.ndarray, Iterable[int]], list[Batch]]:
    """Cuts records into batches at any places, some of them perhaps equal."""

    def at(design: np.ndarray, targets: np.ndarray, places: Iterable[int]) -> list[Batch]:
        edges = [0, *sorted(place % (len(design) + 1) for place in places), len(design)]
        return [(design[a:b], targets[a:b]) for a, b in pairwise(edges)]

    return at
