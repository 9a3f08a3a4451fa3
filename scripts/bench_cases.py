"""What the benchmark works on: engines, keys, the digits data at any size, encrypted models and a mine's maps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from phe import PaillierPrivateKey, PaillierPublicKey

from capsule.secret import SecretKey, generate_key
from sonar.protocol.spec import Encoding, Feature, Payout, Spec
from sonar.syft import (
    AffineMap,
    EncryptedTensor,
    Engine,
    Layout,
    Obfuscator,
    Statistics,
    decode,
    encode,
    encrypt,
    get_engine,
    raw_unpack,
)
from sonar.syft.engines import ENGINES, why_unusable
from sonar.syft.training import training_map

SAFE_BITS = 2048
"""Smaller keys are for quick runs."""
Floats = npt.NDArray[np.float64]
RECORDS = 1437
"""The digits that a mine trains on: four fifths of 1,797."""
OUTPUTS = 10
SIDE = 28
SQUARE, THIN = Encoding(), Encoding(factor_bits=14, slot_width=80)
"""Campaigns' encodings: for small models, and for large ones, whose maps may be computed in two thin factors."""
EPOCHS, RATE, L2 = 10, 1.0, 1e-3


@dataclass(frozen=True, slots=True)
class Way:
    """An engine with so many workers."""

    engine: str
    workers: int

    def __str__(self) -> str:
        kind = {"gmpy2": "process", "native": "thread"}.get(self.engine, "worker")
        return f"{self.engine}, {self.workers} {kind}{'es'[kind[-1] != 's' :] if self.workers > 1 else ''}"

    def get(self) -> Engine:
        """The engine."""
        return get_engine(self.engine, workers=self.workers)

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Makes it the engine of those who name none."""
        names = {"SONAR_ENGINE": self.engine, "SONAR_ENGINE_WORKERS": str(self.workers)}
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(names)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ways(most: int | None = None) -> list[Way]:
    """Every usable engine but the reference, with one worker and, on two cores or more, with two."""
    usable = [name for name in ENGINES if name != "phe" and why_unusable(name) is None]
    return [Way(name, workers) for name in usable for workers in range(1, min(2, cores(), most or 2) + 1)]


def widest() -> list[Way]:
    """Every usable engine with the most workers of `ways`."""
    return [way for way in ways() if way.workers == min(2, cores())]


@cache
def secret_key(bits: int) -> SecretKey:
    """One key of each size; the small ones of a quick run are safe nowhere else."""
    return generate_key(bits, allow_insecure_small_key=bits < SAFE_BITS)


@cache
def phe_key(bits: int) -> PaillierPrivateKey:
    """The same key as python-paillier has it."""
    primes = secret_key(bits).to_bytes()
    p, q = int.from_bytes(primes[: len(primes) // 2], "big"), int.from_bytes(primes[len(primes) // 2 :], "big")
    return PaillierPrivateKey(PaillierPublicKey(p * q), p, q)


@cache
def digits() -> tuple[Floats, Floats]:
    """The 1,437 records of scikit-learn's digits: design (records, 65) with a last column of 1, one-hot targets."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    design = np.hstack([images / 16, np.ones((len(images), 1))])
    return design[:RECORDS], np.eye(OUTPUTS)[labels[:RECORDS]]


@cache
def large_digits() -> Floats:
    """The digits enlarged to 28 x 28 pixels of 256 greys, with noise of five greys; bias last."""
    small = digits()[0][:, :-1].reshape(-1, 8, 8)
    places = np.linspace(0, 7, SIDE)
    stretch = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(8)))
    images = (stretch @ small @ stretch.T).reshape(len(small), -1)
    images = np.rint((images + np.random.default_rng(1).normal(0, 0.02, images.shape)) * 255) / 255
    return np.hstack([images, np.ones((len(images), 1))])


def statistics(features: int, outputs: int = OUTPUTS) -> Statistics:
    """A mine's statistics: of the digits for 65 features, of evenly chosen pixels of the enlarged digits for others."""
    design, targets = digits()
    if features != design.shape[1]:
        pixels = np.linspace(0, SIDE * SIDE - 1, features - 1).astype(int)
        design = large_digits()[:, [*pixels, -1]]
    targets = np.hstack([targets] * (-(-outputs // OUTPUTS)))[:, :outputs]
    return Statistics.empty(features, outputs).add_batch(design, targets)


def affine(gathered: Statistics, epochs: int = EPOCHS) -> AffineMap:
    """The map of so many epochs of full-batch descent."""
    return training_map(gathered, epochs=epochs, rate=RATE, l2=L2)


def quantised(change: Floats) -> npt.NDArray[np.int64]:
    """A - I as the integers that an engine takes."""
    return encode(change, SQUARE.map_bits, 1 << (SQUARE.map_bits + 16)).astype(np.int64)


def weights(features: int, outputs: int = OUTPUTS) -> Floats:
    """A model in the middle of its training."""
    return np.random.default_rng(2).normal(0, 0.1, (features, outputs))


def model(
    obfuscator: Obfuscator, values: Floats, encoding: Encoding = SQUARE, *, stack: bool = True
) -> EncryptedTensor:
    """The model, encrypted as a campaign does it; `stack` leaves room for rows of its gradient to share ciphertexts."""
    return encrypt(
        encode(values, encoding.weight_bits, encoding.weight_bound),
        obfuscator.key,
        obfuscator,
        slot_width=encoding.slot_width,
        scale=encoding.weight_bits,
        bound=encoding.weight_bound,
        stride=encoding.stride(obfuscator.key, values.shape[1]) if stack else 1,
    )


def ciphertexts(bits: int, features: int, encoding: Encoding = SQUARE) -> list[int]:
    """The encrypted weights of the first block of outputs, one ciphertext a feature: what an engine maps."""
    encrypted = model(Obfuscator(secret_key(bits).public), weights(features), encoding, stack=False)
    return list(encrypted.ciphertexts[:: encrypted.layout.blocks])


def opened(bits: int, results: list[int], scale: int, encoding: Encoding) -> Floats:
    """What an engine's ciphertexts of one block hold, decrypted: numbers (rows, outputs of the block)."""
    layout = Layout(bits, encoding.slot_width, min(OUTPUTS, Layout(bits, encoding.slot_width, OUTPUTS).slots))
    return decode(raw_unpack(secret_key(bits).raw_decrypt(results), layout, len(results)), scale)


def spec(features: int, outputs: int = OUTPUTS) -> Spec:
    """A campaign with the default spec for a model of this shape."""
    return Spec.build(
        name="benchmark",
        features=tuple(Feature(name=f"pixel {place}") for place in range(features - 1)),
        classes=tuple(f"class {place}" for place in range(outputs)),
        payout=Payout(target=950_000),
    )
