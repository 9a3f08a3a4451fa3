"""Secret keys and decryption."""

import copy
import pickle
from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from gmpy2 import is_prime
from hypothesis import given
from hypothesis import strategies as st
from phe import PaillierPrivateKey, PaillierPublicKey

from capsule.secret import CapsuleSecretError, SecretKey, decrypt, generate_key
from sonar.syft import (
    AffineMap,
    CiphertextError,
    EncryptedTensor,
    Obfuscator,
    PublicKeyError,
    apply_map,
    dump_model,
    encrypt,
    load_model,
)

REFUSED = "its plaintexts are not numbers of at most 4 bits in their slots"


def test_primes_are_what_the_obfuscators_need():
    for bits in (64, 130, 512):
        secret = generate_key(bits, allow_insecure_small_key=True)
        p, q = _primes(secret)
        assert secret.public.bits == bits
        assert is_prime(p)
        assert is_prime(q)
        assert p % 4 == q % 4 == 3
        assert gcd(p - 1, q - 1) == 2
        assert p.bit_length() == q.bit_length() == bits // 2


def test_keys_are_never_the_same(secret, other_secret):
    assert not set(_primes(secret)) & set(_primes(other_secret))


@pytest.mark.parametrize("bits", [512, 1024, 2046])
def test_small_keys_are_refused_before_primes_are_searched(bits):
    with pytest.raises(PublicKeyError, match="too small"):
        generate_key(bits)


@pytest.mark.parametrize("bits", [2049, 0, 3])
def test_odd_sizes_are_refused(bits):
    with pytest.raises(CapsuleSecretError, match="cannot be made"):
        generate_key(bits)


def test_a_campaign_step_at_full_size_agrees_with_phe():
    secret = generate_key()
    key = secret.public
    assert key.bits == 3072
    phe_secret = PaillierPrivateKey(PaillierPublicKey(key.n), *_primes(secret))
    obfuscator = Obfuscator(key)
    assert obfuscator.exponent_bits == 1536
    weights = np.arange(-15, 15).reshape(3, 10) * (1 << 20)
    model = encrypt(weights, key, obfuscator, slot_width=72, scale=24, bound=(1 << 30) - 1, stride=2)
    assert load_model(dump_model(model)) == model
    affine = AffineMap(np.array([[-0.5, 0.25, 0], [0.25, -1, 0], [0, 0, 0]]), np.full((3, 10), 0.125))
    gradient = apply_map(affine, model, map_bits=15, gradient_bound=(1 << 53) - 1, obfuscator=obfuscator)
    expected = (affine.change @ weights + 0.125 * 2**24) * 2**15
    assert decrypt(secret, gradient).tolist() == expected.tolist()
    assert len(gradient.ciphertexts) == 2
    plaintexts = [plaintext % key.n for plaintext in secret.raw_decrypt(gradient.ciphertexts)]
    assert plaintexts == [phe_secret.raw_decrypt(ciphertext) for ciphertext in gradient.ciphertexts]


@given(data=st.data())
def test_decryption_covers_the_whole_plaintext_group(data, secret, key):
    n = key.n
    edges = [0, 1, -1, n // 2, -(n // 2)]
    plaintext = data.draw(st.one_of(st.sampled_from(edges), st.integers(-(n // 2), n // 2)))
    unit = data.draw(st.integers(1, 1 << 200))
    ciphertext = (1 + n * plaintext) * pow(unit, n, n * n) % (n * n)
    assert secret.raw_decrypt([ciphertext]) == [plaintext]


def test_stray_bits_are_refused(secret, key, obfuscator):
    shape, width = (1, 2), 72
    for stray in (1 << (2 * width), -(1 << (2 * width)), key.n // 2, 1 << (7 * width)):
        tensor = EncryptedTensor(key, tuple(obfuscator.raw_encrypt([5 + stray])), shape, width, 0, 10)
        with pytest.raises(CiphertextError, match=REFUSED):
            decrypt(secret, tensor)


def test_stray_bits_beyond_a_short_last_stack_are_refused(secret, key, obfuscator):
    width = 72
    for stray in (1 << width, 1 << (5 * width), -(1 << (2 * width))):
        stacks = obfuscator.raw_encrypt([(1 << (5 * width)) + 1, 5 + stray])
        with pytest.raises(CiphertextError, match=REFUSED):
            decrypt(secret, EncryptedTensor(key, tuple(stacks), (4, 2), width, 0, 10, 3, 3))
    stacks = obfuscator.raw_encrypt([(1 << (5 * width)) + 1, 5 + (7 << (3 * width))])
    tensor = EncryptedTensor(key, tuple(stacks), (4, 2), width, 0, 10, 3, 3)
    assert decrypt(secret, tensor).tolist() == [[1, 0], [0, 0], [0, 1], [5, 7]]


def test_bits_between_the_outputs_of_a_row_are_refused(secret, key, obfuscator):
    for stray in (1 << 72, 1 << 143, -(1 << 72)):
        tensor = EncryptedTensor(key, tuple(obfuscator.raw_encrypt([5 + stray])), (1, 2), 72, 0, 10, stride=2)
        with pytest.raises(CiphertextError, match=REFUSED):
            decrypt(secret, tensor)


@pytest.mark.parametrize("value", [11, -11])
def test_values_above_the_bound_are_refused_without_telling_them(value, secret, key, obfuscator):
    tensor = encrypt(np.array([[0, value]]), key, obfuscator, slot_width=72, scale=0, bound=11)
    assert decrypt(secret, tensor).tolist() == [[0, value]]
    with pytest.raises(CiphertextError, match=REFUSED) as caught:
        decrypt(secret, replace(tensor, bound=10))
    assert "11" not in str(caught.value)


def test_a_refusal_says_the_same_whichever_plaintext_is_wrong_and_however(secret, key, obfuscator):
    # A mine can make each plaintext of a gradient a question about one weight; an answer that named the first plaintext
    # in error would be worth as many bits as the number of plaintexts has.
    width, said = 72, set()
    for place in range(4):
        for wrong in (1 << (2 * width), -(1 << (2 * width)), 11, -(11 << width), 1 << (5 * width)):
            plaintexts = [5 + (wrong - 5 if place == i else 0) for i in range(4)]
            tensor = EncryptedTensor(key, tuple(obfuscator.raw_encrypt(plaintexts)), (4, 2), width, 0, 10)
            with pytest.raises(CiphertextError) as caught:
                decrypt(secret, tensor)
            said.add(str(caught.value))
            assert caught.value.__cause__ is None
            assert caught.value.__context__ is None
    assert len(said) == 1


def test_a_tensor_under_another_key_is_not_decrypted(secret, other_secret, key, obfuscator):
    tensor = encrypt(np.array([[1]]), key, obfuscator, slot_width=72, scale=0, bound=1)
    with pytest.raises(CiphertextError, match="use the key it was made for"):
        decrypt(other_secret, tensor)


def test_elements_outside_the_group_are_not_decrypted(secret, key):
    for ciphertext in (0, key.n, _primes(secret)[0], key.n_squared):
        with pytest.raises(CiphertextError, match=r"outside 1 to|not coprime"):
            decrypt(secret, EncryptedTensor(key, (ciphertext,), (1, 1), 72, 0, 1))


def test_a_secret_key_never_shows_nor_travels(secret):
    shown = repr(secret) + str(secret)
    for prime in _primes(secret):
        assert str(prime) not in shown
        assert f"{prime:x}" not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Vault"):
            leak(secret)


def test_secret_bytes_round_trip(secret):
    again = SecretKey.from_bytes(secret.to_bytes(), allow_insecure_small_key=True)
    assert again.public == secret.public
    assert again.to_bytes() == secret.to_bytes()


def test_a_small_secret_key_is_refused_without_the_keyword(secret):
    with pytest.raises(PublicKeyError, match="too small"):
        SecretKey.from_bytes(secret.to_bytes())


def test_bytes_that_are_no_secret_key_are_refused(secret):
    good = secret.to_bytes()
    for bad in (b"", good[:-1], good + b"\0", good[:32] * 2, bytes(64), b"\0" + good[:32] + b"\0" + good[32:]):
        with pytest.raises(CapsuleSecretError):
            SecretKey.from_bytes(bad, allow_insecure_small_key=True)


@pytest.mark.parametrize(("p", "q"), [(7, 7), (7, 13), (7, 15), (7, 3), (7, 43), (-7, 11)])
def test_primes_that_do_not_fit_are_refused(p, q):
    with pytest.raises(CapsuleSecretError, match="distinct primes"):
        SecretKey(p, q, allow_insecure_small_key=True)


def _primes(secret: SecretKey) -> tuple[int, int]:
    raw = secret.to_bytes()
    return int.from_bytes(raw[: len(raw) // 2], "big"), int.from_bytes(raw[len(raw) // 2 :], "big")
