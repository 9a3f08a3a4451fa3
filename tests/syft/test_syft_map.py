"""The homomorphic affine map against phe, plain integers and float training."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phe import EncryptedNumber, PaillierPublicKey

from capsule.secret import decrypt
from sonar.syft import (
    AffineMap,
    CiphertextError,
    EncodingOverflowError,
    EncryptedTensor,
    Obfuscator,
    PublicKeyError,
    Statistics,
    apply_map,
    decode,
    encode,
    encrypt,
    raw_pack,
    rows_that_fit,
    training_map,
)

WIDTH, SCALE, MAP_BITS = 72, 24, 15
MODEL_BOUND = (1 << 30) - 1
GRADIENT_BOUND = (1 << 60) - 1


@given(data=st.data())
def test_the_map_equals_integers_and_phe(data, secret, key, obfuscator):
    features, outputs = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 16))
    exponents = _matrix(data, features, features, 1 << MAP_BITS)
    weights, constant = _matrix(data, features, outputs, MODEL_BOUND), _matrix(data, features, outputs, 1 << 50)
    model = encrypt(weights, key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND)
    gradient = _apply(exponents, constant, model, obfuscator)
    assert decrypt(secret, gradient).tolist() == (exponents @ weights + constant).tolist()
    assert (gradient.scale, gradient.bound, gradient.shape) == (SCALE + MAP_BITS, GRADIENT_BOUND, model.shape)
    slow = _phe_map(model, exponents, constant)
    assert decrypt(secret, replace(gradient, ciphertexts=slow)).tolist() == decrypt(secret, gradient).tolist()


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (2, 8), (3, 21), (2, 22)])
def test_one_or_several_column_blocks_give_the_same_numbers(shape, secret, key, obfuscator):
    rng = np.random.default_rng(1)
    weights = rng.integers(-MODEL_BOUND, MODEL_BOUND, size=shape)
    exponents = rng.integers(-1000, 1000, size=(shape[0], shape[0]))
    model = encrypt(weights, key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND)
    assert model.layout.blocks == -(-shape[1] // 7)
    gradient = _apply(exponents, np.zeros(shape, dtype=object), model, obfuscator)
    assert decrypt(secret, gradient).tolist() == (exponents.astype(object) @ weights.astype(object)).tolist()


@given(data=st.data())
def test_stacked_rows_are_the_same_numbers_as_rows_of_their_own(data, secret, key, obfuscator):
    features, outputs = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
    width = data.draw(st.integers(62, 80))
    stride = data.draw(st.integers(1, rows_that_fit(key.bits, width, outputs)))
    exponents = _matrix(data, features, features, 1 << MAP_BITS)
    weights, constant = _matrix(data, features, outputs, MODEL_BOUND), _matrix(data, features, outputs, 1 << 50)
    model = encrypt(weights, key, obfuscator, slot_width=width, scale=SCALE, bound=MODEL_BOUND, stride=stride)
    gradient = _apply(exponents, constant, model, obfuscator)
    assert (gradient.rows_per_plaintext, len(gradient.ciphertexts)) == (stride, -(-features // stride))
    assert decrypt(secret, gradient).tolist() == (exponents @ weights + constant).tolist()


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_neighbours_of_a_stack_at_their_opposite_bounds_are_exact(stride, secret, key, obfuscator):
    width, bound = 61, (1 << 60) - 1
    for outputs in (1, 2):
        signs = np.where(np.arange(5 * outputs).reshape(5, outputs) % 2, 1, -1).astype(object)
        model = encrypt(signs, key, obfuscator, slot_width=width, scale=0, bound=1, stride=stride)
        for sign in (1, -1):
            affine = AffineMap(np.diag([float(sign << 59)] * 5) / 2**44, np.zeros((5, outputs)))
            gradient = apply_map(affine, model, map_bits=44, gradient_bound=bound, obfuscator=obfuscator)
            assert decrypt(secret, gradient).tolist() == (signs * (sign << 59)).tolist()


def test_a_stacked_gradient_is_rerandomised_in_every_ciphertext(key, obfuscator):
    model = encrypt(np.ones((5, 2), dtype=int), key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=1, stride=3)
    zero = AffineMap(np.zeros((5, 5)), np.zeros((5, 2)))
    first, second = (
        apply_map(zero, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator) for _ in "12"
    )
    assert len({*first.ciphertexts, *second.ciphertexts, 1}) == 5


def test_a_stacked_model_is_not_mapped(key, obfuscator):
    model = encrypt(
        np.ones((2, 2), dtype=int), key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=1, stride=2,
        rows_per_plaintext=2,
    )  # fmt: skip
    with pytest.raises(CiphertextError, match="give a tensor that is not stacked"):
        _apply(np.eye(2), np.zeros((2, 2)), model, obfuscator)


def test_a_map_that_changes_nothing_still_gives_fresh_ciphertexts(secret, key, obfuscator):
    model = encrypt(np.ones((3, 2), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND)
    zero = AffineMap(np.zeros((3, 3)), np.zeros((3, 2)))
    first, second = (
        apply_map(zero, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator) for _ in "12"
    )
    assert not set(first.ciphertexts) & set(second.ciphertexts)
    assert 1 not in first.ciphertexts
    assert decrypt(secret, first).tolist() == [[0, 0]] * 3


def test_the_same_map_twice_shares_no_ciphertext(key, obfuscator):
    model = encrypt(np.ones((3, 2), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND)
    half = AffineMap(-np.eye(3) / 2, np.ones((3, 2)))
    gradients = [
        apply_map(half, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator) for _ in "12"
    ]
    assert not set(gradients[0].ciphertexts) & set(gradients[1].ciphertexts)


def test_encrypted_training_equals_float_training(secret, key, obfuscator):
    rng = np.random.default_rng(2)
    design = np.hstack([rng.normal(size=(200, 6)), np.ones((200, 1))])
    targets = np.eye(3)[rng.integers(0, 3, 200)]
    weights = rng.normal(size=(7, 3))
    affine = training_map(Statistics.empty(7, 3).add_batch(design, targets), epochs=20, rate=1.0, l2=1e-3)
    encoded = encode(weights, SCALE, MODEL_BOUND)
    model = encrypt(encoded, key, obfuscator, slot_width=WIDTH, scale=SCALE, bound=MODEL_BOUND)
    gradient = apply_map(affine, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator)
    trained = decode(encoded, SCALE) + decode(decrypt(secret, gradient), SCALE + MAP_BITS)
    np.testing.assert_allclose(trained, weights + affine.change @ weights + affine.constant, atol=2e-4)


def test_a_map_that_could_pass_the_bound_is_refused_at_the_exact_limit(secret, key, obfuscator):
    model = encrypt(np.full((2, 1), 10), key, obfuscator, slot_width=WIDTH, scale=0, bound=10)
    affine = AffineMap(np.array([[0.5, -0.5], [0.0, 0.25]]), np.array([[3.0], [-1.0]]))
    reach = (2 + 2) * 10 + 3 * 4
    exact = apply_map(affine, model, map_bits=2, gradient_bound=reach, obfuscator=obfuscator)
    assert decrypt(secret, exact).tolist() == [[12], [6]]
    with pytest.raises(EncodingOverflowError, match="gradient_bound_bits are too few"):
        apply_map(affine, model, map_bits=2, gradient_bound=reach - 1, obfuscator=obfuscator)


def test_a_declared_bound_beyond_the_slot_is_refused(key, obfuscator):
    model = encrypt(np.full((1, 1), 1), key, obfuscator, slot_width=16, scale=0, bound=1)
    identity = AffineMap(np.eye(1), np.zeros((1, 1)))
    with pytest.raises(EncodingOverflowError, match="do not fit slots of 16 bits"):
        apply_map(identity, model, map_bits=2, gradient_bound=1 << 15, obfuscator=obfuscator)


def test_a_map_of_another_shape_or_key_is_refused(key, obfuscator, other_secret):
    model = encrypt(np.ones((2, 1), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1)
    for change, constant in (((3, 3), (2, 1)), ((2, 2), (2, 2)), ((2, 2), (3, 1))):
        with pytest.raises(CiphertextError, match="does not fit a model"):
            apply_map(
                AffineMap(np.zeros(change), np.zeros(constant)),
                model,
                map_bits=2,
                gradient_bound=9,
                obfuscator=obfuscator,
            )
    with pytest.raises(PublicKeyError):
        apply_map(
            AffineMap(np.zeros((2, 2)), np.zeros((2, 1))),
            model,
            map_bits=2,
            gradient_bound=9,
            obfuscator=Obfuscator(other_secret.public),
        )


def test_a_map_that_is_not_finite_is_refused(key, obfuscator):
    model = encrypt(np.ones((1, 1), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1)
    for change, constant in ((np.nan, 0.0), (0.0, np.inf)):
        with pytest.raises(EncodingOverflowError, match="not finite"):
            apply_map(
                AffineMap(np.array([[change]]), np.array([[constant]])),
                model,
                map_bits=2,
                gradient_bound=9,
                obfuscator=obfuscator,
            )


def test_a_model_that_is_not_coprime_to_the_modulus_is_refused(key, obfuscator):
    model = EncryptedTensor(key, (key.n,), (1, 1), WIDTH, 0, 1)
    with pytest.raises(CiphertextError, match="not coprime"):
        apply_map(AffineMap(np.eye(1), np.zeros((1, 1))), model, map_bits=2, gradient_bound=9, obfuscator=obfuscator)


def _matrix(data: st.DataObject, rows: int, columns: int, bound: int) -> np.ndarray:
    value = st.one_of(st.sampled_from([-bound, 0, bound]), st.integers(-bound, bound))
    return np.array([[data.draw(value) for _ in range(columns)] for _ in range(rows)], dtype=object)


def _apply(exponents, constant, model: EncryptedTensor, obfuscator: Obfuscator) -> EncryptedTensor:
    affine = AffineMap(
        exponents.astype(np.float64) / 2**MAP_BITS, constant.astype(np.float64) / 2.0 ** (SCALE + MAP_BITS)
    )
    return apply_map(affine, model, map_bits=MAP_BITS, gradient_bound=GRADIENT_BOUND, obfuscator=obfuscator)


def _phe_map(model: EncryptedTensor, exponents, constant) -> tuple[int, ...]:
    """The reference engine: python-paillier's own encrypted numbers, one product per weight."""
    phe_key = PaillierPublicKey(model.key.n)
    blocks = model.layout.blocks
    plaintexts = raw_pack(constant, model.layout)
    ciphertexts = []
    for row, weights in enumerate(exponents.tolist()):
        for block in range(blocks):
            total = phe_key.encrypt(0) + 0
            for base, weight in zip(model.ciphertexts[block::blocks], weights, strict=True):
                total = total + EncryptedNumber(phe_key, base, 0) * weight
            plain = phe_key.raw_encrypt(plaintexts[row * blocks + block] % model.key.n)
            total = total + EncryptedNumber(phe_key, plain, 0)
            ciphertexts.append(total.ciphertext())
    return tuple(ciphertexts)
