"""Public keys and obfuscators."""

from hashlib import sha256

import pytest
from gmpy2 import jacobi

from sonar.syft import MAX_KEY_BITS, Obfuscator, PublicKey, PublicKeyError


def test_a_key_below_2048_bits_is_refused():
    with pytest.raises(PublicKeyError, match="2047 bits is too small"):
        PublicKey((1 << 2047) - 1)
    assert PublicKey((1 << 2048) - 1).bits == 2048


@pytest.mark.parametrize("n", [0, -15, 1 << 2048, 2])
def test_an_even_or_negative_modulus_is_refused(n):
    with pytest.raises(PublicKeyError, match="odd positive"):
        PublicKey(n)


def test_a_huge_modulus_is_refused():
    with pytest.raises(PublicKeyError, match="above the limit"):
        PublicKey((1 << (MAX_KEY_BITS + 1)) - 1)


def test_small_keys_need_the_ugly_keyword():
    with pytest.raises(PublicKeyError):
        PublicKey((1 << 512) - 1)
    assert PublicKey((1 << 512) - 1, allow_insecure_small_key=True).bits == 512


def test_the_fingerprint_is_the_sha256_of_the_shortest_big_endian_modulus():
    n = (1 << 2050) + 1
    assert PublicKey(n).key_id == sha256(n.to_bytes(257, "big")).digest()


def test_keys_are_equal_by_modulus_and_show_no_number(key):
    assert key == PublicKey(key.n, allow_insecure_small_key=True)
    assert hash(key) == hash(PublicKey(key.n, allow_insecure_small_key=True))
    assert str(key.n) not in repr(key)
    assert key.n_squared == key.n**2


def test_samples_encrypt_zero_and_never_repeat(secret, obfuscator):
    samples = obfuscator.samples(50)
    assert len(set(samples)) == 50
    assert secret.raw_decrypt(samples) == [0] * 50


def test_the_base_has_jacobi_symbol_one_and_is_no_square(secret, obfuscator):
    base = _sample(obfuscator, 1)
    assert jacobi(base, secret.public.n) == 1
    p = int.from_bytes(secret.to_bytes()[: len(secret.to_bytes()) // 2], "big")
    assert jacobi(base, p) == -1


def test_exponents_are_half_the_modulus_unless_the_caller_says_otherwise(key):
    assert Obfuscator(key).exponent_bits == 256
    assert Obfuscator(key, exponent_bits=600).exponent_bits == 640
    with pytest.raises(PublicKeyError, match="exponents of 255 bits are too short"):
        Obfuscator(key, exponent_bits=255)


def test_every_obfuscator_has_its_own_base(key, obfuscator):
    assert _sample(Obfuscator(key), 1) != _sample(obfuscator, 1)


def _sample(obfuscator: Obfuscator, exponent: int) -> int:
    (power,) = obfuscator._base.powers([exponent])
    return power
