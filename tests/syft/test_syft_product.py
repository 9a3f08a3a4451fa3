"""The product that everyone can recompute."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.secret import decrypt
from sonar.protocol.spec import Encoding
from sonar.syft import CiphertextError, EncodingOverflowError, EncryptedTensor, encrypt, product, rows_that_fit

WIDTH = 72


@given(data=st.data())
def test_the_product_is_the_model_plus_weighted_gradients(data, secret, key, obfuscator):
    rows, outputs = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    exponent = data.draw(st.integers(0, 10))
    count = data.draw(st.integers(1, 4))
    weights = data.draw(st.lists(st.integers(0, 1 << exponent), min_size=count, max_size=count))
    stride = data.draw(st.integers(1, rows_that_fit(key.bits, WIDTH, outputs)))
    model, gradients = _round(data.draw(st.integers(0, 1 << 32)), rows, outputs, count, key, obfuscator, stride)
    result = product(model, gradients, weights, exponent)
    expected = decrypt(secret, model) * 2 ** (15 + exponent)
    for weight, gradient in zip(weights, gradients, strict=True):
        expected = expected + weight * decrypt(secret, gradient)
    assert decrypt(secret, result).tolist() == expected.tolist()
    assert result.scale == 24 + 15 + exponent
    assert result.bound == (model.bound << (15 + exponent)) + sum(weights) * gradients[0].bound
    assert result.layout == gradients[0].layout


@pytest.mark.parametrize(("outputs", "stride"), [(1, 1), (1, 2), (1, 7), (2, 3), (3, 2), (7, 1), (8, 1), (20, 1)])
def test_a_round_at_every_bound_of_the_narrowest_slot_is_exact(outputs, stride, secret, key, obfuscator):
    encoding = Encoding(slot_width=65)
    slots = (key.bits - 2) // 65
    assert slots == 7, "one slot, a full plaintext, one slot more than it holds, and three plaintexts"
    signs = np.where(np.arange(3 * outputs).reshape(3, outputs) % 3 == 1, 1, -1).astype(object)

    def at(bound, scale, rows_per_plaintext=1):
        return encrypt(
            signs * bound, key, obfuscator, slot_width=65, scale=scale, bound=bound, stride=stride,
            rows_per_plaintext=rows_per_plaintext,
        )  # fmt: skip

    model = at(encoding.weight_bound, encoding.weight_bits)
    gradients = [at(encoding.gradient_bound, encoding.gradient_scale, stride) for _ in range(3)]
    multipliers = [341, 341, (1 << encoding.step_bits) - 682]
    result = decrypt(secret, product(model, gradients, multipliers, encoding.step_bits))
    total = (encoding.weight_bound << (encoding.map_bits + encoding.step_bits)) + (
        encoding.gradient_bound << encoding.step_bits
    )
    assert (result == signs * total).all()


def test_the_product_is_plain_powers_and_the_same_for_everyone(key, obfuscator):
    model, gradients = _round(1, 2, 3, 2, key, obfuscator)
    first = product(model, gradients, [3, 5], 4)
    assert first == product(model, gradients, [3, 5], 4)
    for index, ciphertext in enumerate(first.ciphertexts):
        expected = pow(model.ciphertexts[index], 1 << (15 + 4), key.n_squared)
        for gradient, weight in zip(gradients, [3, 5], strict=True):
            expected = expected * pow(gradient.ciphertexts[index], weight, key.n_squared) % key.n_squared
        assert ciphertext == expected


def test_the_product_of_stacks_is_plain_powers_of_the_models_own_rows(key, obfuscator):
    model, gradients = _round(1, 5, 2, 2, key, obfuscator, stride=3)
    result = product(model, gradients, [3, 5], 4)
    for index, ciphertext in enumerate(result.ciphertexts):
        expected = 1
        for row, element in enumerate(model.ciphertexts[3 * index : 3 * index + 3]):
            expected = expected * pow(element, 1 << (15 + 4 + WIDTH * row), key.n_squared) % key.n_squared
        for gradient, weight in zip(gradients, [3, 5], strict=True):
            expected = expected * pow(gradient.ciphertexts[index], weight, key.n_squared) % key.n_squared
        assert ciphertext == expected
    assert len(result.ciphertexts) == 2


def test_a_gradient_of_weight_zero_leaves_no_trace(key, obfuscator):
    model, gradients = _round(2, 2, 3, 2, key, obfuscator)
    assert product(model, gradients, [3, 0], 2).ciphertexts == product(model, gradients[:1], [3], 2).ciphertexts


def test_a_product_that_could_overflow_a_slot_is_refused_at_the_exact_limit(key, obfuscator):
    model, gradients = _round(3, 1, 1, 1, key, obfuscator)
    largest = (1 << (WIDTH - 1)) - 1
    tight = [replace(gradients[0], bound=largest - (model.bound << 15))]
    assert product(model, tight, [1], 0).bound == largest
    with pytest.raises(EncodingOverflowError, match="do not fit slots of 72 bits"):
        product(replace(model, bound=model.bound + 1), tight, [1], 0)


@pytest.mark.parametrize(("weights", "exponent"), [([1], 0), ([1, -1], 0), ([1, 1], -1), ([], 0)])
def test_weights_must_fit_the_gradients_and_not_be_negative(weights, exponent, key, obfuscator):
    model, gradients = _round(4, 1, 1, 2, key, obfuscator)
    with pytest.raises(CiphertextError, match="make no product"):
        product(model, gradients, weights, exponent)


def test_a_round_without_gradients_has_no_product(key, obfuscator):
    model, _ = _round(4, 1, 1, 1, key, obfuscator)
    with pytest.raises(CiphertextError, match="make no product"):
        product(model, [], [], 0)


def test_tensors_that_do_not_belong_together_are_refused(key, obfuscator, other_secret):
    model, gradients = _round(5, 2, 1, 1, key, obfuscator)
    good = gradients[0]
    strangers = [
        replace(good, key=other_secret.public),
        replace(good, shape=(1, 1), ciphertexts=good.ciphertexts[:1]),
        replace(good, slot_width=WIDTH + 1),
        replace(good, scale=good.scale + 1),
        replace(good, stride=2),
        replace(good, stride=2, rows_per_plaintext=2, ciphertexts=good.ciphertexts[:1]),
    ]
    for stranger in strangers:
        with pytest.raises(CiphertextError, match=r"gradient 1, .* does not belong"):
            product(model, [good, stranger], [1, 1], 0)
    with pytest.raises(CiphertextError, match=r"gradient 0, .* does not belong"):
        product(model, [replace(good, scale=model.scale - 1)], [1], 0)
    spaced = replace(model, stride=2)
    with pytest.raises(CiphertextError, match=r"gradient 0, .* does not belong"):
        product(spaced, [replace(good, stride=2)], [1], 0)
    stacked = replace(spaced, rows_per_plaintext=2, ciphertexts=model.ciphertexts[:1])
    with pytest.raises(CiphertextError, match="give a tensor that is not stacked"):
        product(stacked, [good], [1], 0)


def _round(seed, rows, outputs, count, key, obfuscator, stride=1) -> tuple[EncryptedTensor, list[EncryptedTensor]]:
    rng = np.random.default_rng(seed)

    def tensor(scale: int, bits: int, rows_per_plaintext: int = 1) -> EncryptedTensor:
        values = rng.integers(-(1 << bits) + 1, 1 << bits, size=(rows, outputs))
        return encrypt(
            values, key, obfuscator, slot_width=WIDTH, scale=scale, bound=(1 << bits) - 1, stride=stride,
            rows_per_plaintext=rows_per_plaintext,
        )  # fmt: skip

    return tensor(24, 30), [tensor(39, 53, stride) for _ in range(count)]
