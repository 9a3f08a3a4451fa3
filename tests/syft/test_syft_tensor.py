"""Encrypted tensors: encryption, re-randomising, bounds, and the checks before use."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phe import PaillierPrivateKey, PaillierPublicKey

from capsule.secret import decrypt
from sonar.syft import (
    CiphertextError,
    EncodingOverflowError,
    Obfuscator,
    PublicKeyError,
    check_ciphertexts,
    encrypt,
    raw_unpack,
    rerandomise,
    rows_that_fit,
)

WIDTH = 72
BOUND = (1 << 71) - 1


@given(data=st.data())
def test_phe_decrypts_what_we_encrypt(data, secret, key, obfuscator):
    rows, outputs = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 16))
    values = _values(data, rows, outputs, BOUND)
    stride = data.draw(st.integers(1, rows_that_fit(key.bits, WIDTH, outputs)))
    tensor = encrypt(
        values, key, obfuscator, slot_width=WIDTH, scale=24, bound=BOUND, stride=stride,
        rows_per_plaintext=data.draw(st.sampled_from([1, stride])),
    )  # fmt: skip
    phe_secret = _phe(secret)
    plaintexts = [_signed(phe_secret.raw_decrypt(c), key.n) for c in tensor.ciphertexts]
    assert raw_unpack(plaintexts, tensor.layout, rows).tolist() == values.tolist()
    assert decrypt(secret, tensor).tolist() == values.tolist()


@given(plaintext=st.integers(-(1 << 500), 1 << 500))
def test_we_decrypt_what_phe_encrypts(plaintext, secret, key):
    assert secret.raw_decrypt([PaillierPublicKey(key.n).raw_encrypt(plaintext % key.n)]) == [plaintext]


def test_rerandomising_changes_every_ciphertext_and_no_value(secret, key, obfuscator):
    tensor = encrypt(np.arange(-6, 6).reshape(3, 4), key, obfuscator, slot_width=WIDTH, scale=0, bound=6)
    fresh = rerandomise(tensor, obfuscator)
    assert not set(fresh.ciphertexts) & set(tensor.ciphertexts)
    assert decrypt(secret, fresh).tolist() == decrypt(secret, tensor).tolist()
    assert replace(fresh, ciphertexts=tensor.ciphertexts) == tensor


def test_the_same_values_never_have_the_same_ciphertexts(key, obfuscator):
    tensor = encrypt(np.zeros((20, 1), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=0)
    assert len(set(tensor.ciphertexts)) == 20


def test_a_value_above_its_bound_is_not_encrypted(key, obfuscator):
    with pytest.raises(EncodingOverflowError, match="above the bound"):
        encrypt(np.array([[5]]), key, obfuscator, slot_width=WIDTH, scale=0, bound=4)


def test_a_bound_beyond_the_slot_is_refused(key, obfuscator):
    with pytest.raises(EncodingOverflowError, match="do not fit slots of 72 bits"):
        encrypt(np.array([[5]]), key, obfuscator, slot_width=WIDTH, scale=0, bound=BOUND + 1)


@pytest.mark.parametrize("width", [-72, 0, 1])
def test_a_slot_without_room_for_a_value_and_its_sign_is_refused(width, key, obfuscator):
    with pytest.raises(EncodingOverflowError, match=f"slots of {width} bits hold no value and its sign"):
        encrypt(np.array([[5]]), key, obfuscator, slot_width=width, scale=0, bound=0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_values_must_be_a_matrix(shape, key, obfuscator):
    with pytest.raises(CiphertextError, match=r"not \(rows, outputs\)"):
        encrypt(np.zeros(shape, dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1)


def test_an_obfuscator_of_another_key_is_refused(key, obfuscator, other_secret):
    tensor = encrypt(np.array([[5]]), key, obfuscator, slot_width=WIDTH, scale=0, bound=5)
    wrong = Obfuscator(other_secret.public)
    with pytest.raises(PublicKeyError, match="make one for this key"):
        rerandomise(tensor, wrong)
    with pytest.raises(PublicKeyError, match="make one for this key"):
        encrypt(np.array([[5]]), key, wrong, slot_width=WIDTH, scale=0, bound=5)


def test_a_wrong_number_of_ciphertexts_is_refused(key, obfuscator):
    tensor = encrypt(np.zeros((2, 10), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1)
    assert len(tensor.ciphertexts) == 4
    for ciphertexts in ((), tensor.ciphertexts[:3], tensor.ciphertexts * 2):
        with pytest.raises(CiphertextError, match="needs 4 ciphertexts"):
            replace(tensor, ciphertexts=ciphertexts)
    stacked = encrypt(
        np.zeros((5, 2), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1, stride=3,
        rows_per_plaintext=3,
    )  # fmt: skip
    for ciphertexts in ((), stacked.ciphertexts[:1], stacked.ciphertexts * 2):
        with pytest.raises(CiphertextError, match="needs 2 ciphertexts"):
            replace(stacked, ciphertexts=ciphertexts)
    with pytest.raises(EncodingOverflowError, match="stack 1 to 3"):
        replace(stacked, stride=4)


def test_ciphertexts_outside_the_group_are_refused(key, secret, obfuscator):
    tensor = encrypt(np.zeros((3, 1), dtype=np.int64), key, obfuscator, slot_width=WIDTH, scale=0, bound=1)
    check_ciphertexts(tensor)
    p = int.from_bytes(secret.to_bytes()[: len(secret.to_bytes()) // 2], "big")
    good = tensor.ciphertexts
    for bad in (0, -1, key.n_squared, key.n_squared + 1, key.n, p, 7 * p):
        with pytest.raises(CiphertextError, match=r"outside 1 to|not coprime"):
            check_ciphertexts(replace(tensor, ciphertexts=(good[0], bad, good[2])))


def test_a_repr_shows_no_ciphertext(key, obfuscator):
    tensor = encrypt(np.array([[5]]), key, obfuscator, slot_width=WIDTH, scale=0, bound=5)
    assert len(repr(tensor)) < 200


def _values(data: st.DataObject, rows: int, outputs: int, bound: int) -> np.ndarray:
    value = st.one_of(st.sampled_from([-bound, 0, bound]), st.integers(-bound, bound))
    return np.array([[data.draw(value) for _ in range(outputs)] for _ in range(rows)], dtype=object)


def _phe(secret) -> PaillierPrivateKey:
    raw = secret.to_bytes()
    half = len(raw) // 2
    return PaillierPrivateKey(
        PaillierPublicKey(secret.public.n), int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )


def _signed(plaintext: int, n: int) -> int:
    return plaintext if 2 * plaintext < n else plaintext - n
