"""The benchmark's tables of ratios: each function measures one and checks that both sides computed the same thing.

Goals are ratios at 2048 bits that the project wants to reach. They are printed beside what was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

import bench_baselines as baselines
import bench_cases as cases
import numpy as np
from bench_cases import OUTPUTS, RECORDS, SQUARE, THIN, Floats, Way
from bench_timing import Repeat, Row, Section, Timing, once, seconds

from capsule.secret import decrypt
from mine.trainer import train
from sonar.protocol.spec import Training
from sonar.syft import AffineMap, EncryptedTensor, Engine, Obfuscator, apply_map, decode, dump_model
from sonar.syft.plan import Thin, plan_map

GOAL_BITS = 2048
FEATURES = 65
EPOCHS_PER_SAMPLE = 10
SAMPLES_BETWEEN_TRIPS = 5
"""Every sample lengthens python-paillier's exact plaintexts by 110 bits and more, so now and then they start afresh.

In real use they would have to be decrypted and encrypted again by the key's owner; that is not counted.
"""
GOALS = {
    ("mine", "gmpy2", 1): 30_000, ("mine", "gmpy2", 2): 30_000, ("mine", "native", 2): 300_000,
    ("map", "gmpy2", 1): 6.5, ("map", "gmpy2", 2): 12, ("map", "native", 2): 130,
    ("low rank", "gmpy2", 1): 3 * 6.5, ("low rank", "gmpy2", 2): 3 * 12, ("low rank", "native", 2): 3 * 130,
    ("encrypt", "gmpy2", 1): 14, ("encrypt", "native", 1): 120,
    ("decrypt", "native", 1): 4,
    ("ckks", "gmpy2", 1): 25, ("ckks", "native", 1): 250,
}  # fmt: skip


class WrongResultError(Exception):
    """Two sides of a comparison did not compute the same thing, so their times say nothing."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    repeat: Repeat
    samples: int
    """Samples that python-paillier is measured on."""
    large: int
    """The features of the large map."""
    packed_rows: int
    """Rows of the large map that python-paillier is measured on."""
    batch: int
    """Values that are encrypted and decrypted."""
    stream: int
    """Records that are streamed."""
    growth_features: tuple[int, ...]
    growth_outputs: tuple[int, ...]
    growth_records: tuple[int, ...]
    growth_bits: tuple[int, ...]


FULL = Sizes(
    Repeat(5), samples=20, large=785, packed_rows=8, batch=100, stream=10_000_000,
    growth_features=(32, 64, 128, 256, 512, 785), growth_outputs=(10, 28, 64, 128),
    growth_records=(1_000, 10_000, 100_000), growth_bits=(2048, 3072, 4096),
)  # fmt: skip
QUICK = Sizes(
    Repeat(1, short=False), samples=2, large=160, packed_rows=2, batch=5, stream=100_000,
    growth_features=(16, 160), growth_outputs=(7, 14), growth_records=(100, 1_000), growth_bits=(512, 768),
)  # fmt: skip


def mine(bits: int, sizes: Sizes) -> Section:
    """A mine's work for one gradient of the digits classifier."""
    title = f"One mine: digits, {FEATURES} x {OUTPUTS} weights, {RECORDS:,} records, {bits} bits"
    section = Section("mine", title, bits)
    _per_sample(section, bits, sizes, "floats exactly as python-paillier encodes them (53 bits)", None)
    baseline = _per_sample(section, bits, sizes, "floats rounded to 2^-16, which is kinder: the baseline", 2.0**-16)
    section.notes.append("not counted: what its growing plaintexts need, to be encrypted afresh every few samples")
    values, key, gathered = cases.weights(FEATURES), cases.secret_key(bits).public, cases.statistics(FEATURES)
    change, spec = cases.affine(gathered), cases.spec(FEATURES)
    for way in cases.ways():
        engine = way.get()
        kept = Obfuscator(key, engine=engine)
        model = cases.model(kept, values)
        sent = dump_model(model)
        timing, result = sizes.repeat.best(gradient, change, model, kept)
        _check("the gradient", _opened(bits, result), change.change @ values + change.constant)
        _add(section, "map, stack, re-randomise", way, timing, baseline)
        timing, _ = sizes.repeat.best(gradient, change, cases.model(kept, values, stack=False), kept)
        section.rows.append(Row("the same without stacking rows", str(way), timing, baseline))
        timing, _ = sizes.repeat.best(_first_gradient, change, model, engine)
        section.rows.append(Row("and make the key's obfuscator", str(way), timing, baseline))
        timing, _ = sizes.repeat.best(_gradient_of_records, model, engine)
        section.rows.append(Row("and find the map, from the records", str(way), timing, baseline))
        with way.chosen():
            timing, _ = sizes.repeat.best(
                train, spec, sent, key.key_id, gathered, allow_insecure_small_key=bits < cases.SAFE_BITS
            )
        section.rows.append(Row("`mine.trainer.train`, default spec", str(way), timing, baseline))
    return section


def gradient(change: AffineMap, model: EncryptedTensor, obfuscator: Obfuscator) -> EncryptedTensor:
    """What a mine does with an encrypted model once it has its map."""
    return apply_map(
        change,
        model,
        map_bits=SQUARE.map_bits,
        factor_bits=SQUARE.factor_bits,
        gradient_bound=SQUARE.gradient_bound,
        obfuscator=obfuscator,
    )


def _first_gradient(change: AffineMap, model: EncryptedTensor, engine: Engine) -> EncryptedTensor:
    return gradient(change, model, Obfuscator(model.key, engine=engine))


def _gradient_of_records(model: EncryptedTensor, engine: Engine) -> EncryptedTensor:
    return _first_gradient(cases.affine(cases.statistics(FEATURES)), model, engine)


def large_map(bits: int, sizes: Sizes) -> Section:
    """The map alone, on digits enlarged to 28 x 28 pixels, against the same packed map by python-paillier."""
    section = Section("map", f"The map alone, {sizes.large} x {OUTPUTS} weights, {bits} bits", bits)
    ciphertexts = cases.ciphertexts(bits, sizes.large, THIN)
    for epochs in (Training().epochs, cases.EPOCHS):
        change = cases.affine(cases.statistics(sizes.large), epochs).change
        baseline = _square(section, sizes, ciphertexts, change, f"{epochs} epochs")
        _low_rank(section, sizes, ciphertexts, change, f"{epochs} epochs", baseline)
    return section


def _square(section: Section, sizes: Sizes, ciphertexts: list[int], change: Floats, what: str) -> Timing:
    """Rows for one product with the whole matrix, which must give python-paillier's integers; returns its time."""
    assert section.bits is not None
    key, matrix = cases.secret_key(section.bits).public, cases.quantised(change)
    some = _some(change, sizes)
    theirs = cases.phe_key(section.bits).public_key
    timing, expected = sizes.repeat.best(baselines.packed_rows, theirs, ciphertexts, matrix[some])
    baseline = timing.scaled(len(change) / len(some))
    section.notes.append(
        f"baseline, {what}: packed python-paillier, {seconds(baseline.wall)}, extrapolated from {len(some)} of "
        f"{len(change)} rows in {seconds(timing.wall)}"
    )
    for way in cases.ways():
        timing, results = sizes.repeat.best(way.get().linear_map, ciphertexts, matrix, key.n, bits=THIN.map_bits)
        _same("a row of the map", [results[row] for row in some], expected)
        _add(section, f"{what}, square", way, timing, baseline)
    return baseline


def _low_rank(
    section: Section, sizes: Sizes, ciphertexts: list[int], change: Floats, what: str, baseline: Timing
) -> None:
    """Rows for the same map through two thin ones, where there are such that are cheaper and no less exact."""
    assert section.bits is not None
    planning, plan = sizes.repeat.best(plan_map, change, THIN.map_bits, THIN.factor_bits)
    if not isinstance(plan, Thin):
        section.notes.append(f"{what}: no map of low rank would be both cheaper and as exact for these data")
        return
    section.rows.append(Row(f"{what}: planning", "numpy", planning))
    n, some = cases.secret_key(section.bits).public.n, _some(change, sizes)
    for way in cases.ways():
        timing, results = sizes.repeat.best(plan.apply, way.get(), ciphertexts, n)
        found = cases.opened(section.bits, [results[row] for row in some], THIN.gradient_scale, THIN)
        _check("a map of low rank", found, (change @ cases.weights(len(change)))[some, : found.shape[1]])
        _add(section, f"{what}, rank {plan.rank}", way, timing, baseline, goal="low rank")


def _some(change: Floats, sizes: Sizes) -> list[int]:
    """Which rows of the map python-paillier computes, evenly chosen."""
    return np.linspace(0, len(change) - 1, sizes.packed_rows).astype(int).tolist()


def encryption(bits: int, sizes: Sizes) -> Section:
    """Encryption with default exponents."""
    section = Section("encrypt", f"Encryption of one plaintext, {bits} bits", bits)
    plaintexts = [17 + place for place in range(sizes.batch)]
    theirs = cases.phe_key(bits).public_key
    timing, _ = sizes.repeat.best(_each, theirs.raw_encrypt, plaintexts)
    baseline = timing.scaled(1 / sizes.batch)
    section.notes.append(f"baseline: python-paillier's raw_encrypt, the mean of {sizes.batch}")
    for way in cases.ways():
        making, kept = sizes.repeat.best(Obfuscator, cases.secret_key(bits).public, engine=way.get())
        timing, ciphertexts = sizes.repeat.best(kept.raw_encrypt, plaintexts)
        _same("a plaintext", cases.secret_key(bits).raw_decrypt(ciphertexts), plaintexts)
        what = f"exponents of {kept.exponent_bits} bits"
        _add(section, what, way, timing.scaled(1 / sizes.batch), baseline)
        section.rows.append(Row("the key's obfuscator, once", str(way), making))
    return section


def decryption(bits: int, sizes: Sizes) -> Section:
    """Decryption, by the Chinese remainder theorem on both sides."""
    section = Section("decrypt", f"Decryption of one ciphertext, {bits} bits", bits)
    key, theirs = cases.secret_key(bits), cases.phe_key(bits)
    plaintexts = [17 + place for place in range(sizes.batch)]
    ciphertexts = Obfuscator(key.public).raw_encrypt(plaintexts)
    timing, opened = sizes.repeat.best(_each, theirs.raw_decrypt, ciphertexts)
    _same("a plaintext", opened, plaintexts)
    baseline = timing.scaled(1 / sizes.batch)
    section.notes.append(
        f"baseline: python-paillier's raw_decrypt, the mean of {sizes.batch}, with powers that are not constant-time"
    )
    for way in cases.ways():
        timing, opened = sizes.repeat.best(key.raw_decrypt, ciphertexts, engine=way.get())
        _same("a plaintext", opened, plaintexts)
        _add(section, "decrypt", way, timing.scaled(1 / sizes.batch), baseline)
    return section


def ckks(bits: int, sizes: Sizes) -> Section:
    """The map of the digits classifier against TenSEAL's CKKS."""
    section = Section("ckks", f"The map alone, {FEATURES} x {OUTPUTS} weights, {bits} bits, against CKKS", bits)
    values, change = cases.weights(FEATURES), cases.affine(cases.statistics(FEATURES)).change
    key = cases.secret_key(bits).public
    baseline = None
    if baselines.has_tenseal():
        run, opened = baselines.ckks_map(values, change)
        baseline, results = sizes.repeat.best(run)
        _check("CKKS", opened(results), change @ values)
        section.notes.append(
            "baseline: TenSEAL's CKKSVector.matmul, one vector an output, polynomials of degree 8192: "
            f"{seconds(baseline.wall)} on the clock, {seconds(baseline.cpu)} of processor time"
        )
    else:
        section.notes.append(baselines.MISSING_TENSEAL)
    ciphertexts, matrix = cases.ciphertexts(bits, FEATURES), cases.quantised(change)
    for way in cases.ways():
        timing, _ = sizes.repeat.best(way.get().linear_map, ciphertexts, matrix, key.n, bits=SQUARE.map_bits)
        _add(section, "square map", way, timing, baseline)
    return section


def _per_sample(section: Section, bits: int, sizes: Sizes, what: str, precision: float | None) -> Timing:
    """The 2017 platform's way; the time of all samples and epochs, extrapolated from a few."""
    key = cases.phe_key(bits).public_key
    fresh = baselines.encrypted_weights(key, cases.weights(FEATURES), precision)
    design, targets = cases.digits()
    total = Timing(0.0, 0.0)
    for start in range(0, sizes.samples, SAMPLES_BETWEEN_TRIPS):
        part = slice(start, min(start + SAMPLES_BETWEEN_TRIPS, sizes.samples))
        encrypted = [list(row) for row in fresh]
        timing, _ = once(baselines.train_per_sample, key, encrypted, design[part], targets[part], precision)
        total = Timing(total.wall + timing.wall, total.cpu + timing.cpu)
    whole = total.scaled(RECORDS * EPOCHS_PER_SAMPLE / sizes.samples)
    section.notes.append(
        f"python-paillier sample by sample, {what}: {seconds(whole.wall)} for {EPOCHS_PER_SAMPLE} epochs, extrapolated "
        f"from {sizes.samples} samples in {seconds(total.wall)}"
    )
    return whole


def _add(
    section: Section, what: str, way: Way, timing: Timing, baseline: Timing | None, goal: str | None = None
) -> None:
    wanted = GOALS.get((goal or section.name, way.engine, way.workers)) if section.bits == GOAL_BITS else None
    section.rows.append(Row(what, str(way), timing, baseline, wanted))


def _opened(bits: int, tensor: EncryptedTensor) -> Floats:
    return decode(decrypt(cases.secret_key(bits), tensor), tensor.scale)


def _each(function: Callable[[int], int], items: list[int]) -> list[int]:
    return [function(item) for item in items]


def _same(what: str, ours: list[int], theirs: list[int]) -> None:
    if ours != theirs:
        raise WrongResultError(f"{what} is not the same on both sides: the times mean nothing")


def _check(what: str, found: Floats, expected: Floats) -> None:
    error = float(np.abs(found - expected).max())
    if not error < 1e-3:
        raise WrongResultError(f"{what} differs by {error:.3g} from what float64 gives: the times mean nothing")
