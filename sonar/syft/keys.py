"""Paillier public keys, and the obfuscators that make ciphertexts under them unlinkable.

The plaintext group is Z_n, read as signed integers in (-n/2, n/2); the ciphertext of m is (1 + n)^m times a random
n-th residue mod n^2 (Paillier 1999, with g = n + 1).
"""

import secrets
from dataclasses import InitVar, dataclass, field
from hashlib import sha256
from math import gcd
from typing import Final

from gmpy2 import mpz, powmod

from sonar.syft._group import join, split, subset_table
from sonar.syft.errors import PublicKeyError
from sonar.units import KeyId

__all__ = ["MAX_KEY_BITS", "MIN_KEY_BITS", "Obfuscator", "PublicKey"]

MIN_KEY_BITS: Final = 2048
"""Smaller moduli are refused outside tests: 2048 bits give about 112 bits of security (NIST SP 800-57)."""
MAX_KEY_BITS: Final = 8192
"""Larger moduli are refused, so that a hostile artifact cannot ask for hours of arithmetic."""

_MIN_EXPONENT_BITS: Final = 256
_TEETH: Final = 8
_BLOCKS: Final = 8


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A Paillier public key: the modulus n, of `MIN_KEY_BITS` to `MAX_KEY_BITS` bits; raises PublicKeyError.

    `allow_insecure_small_key` lets tests use moduli that anyone can factor.
    """

    n: int
    n_squared: int = field(init=False, repr=False, compare=False)
    allow_insecure_small_key: InitVar[bool] = field(default=False, kw_only=True)

    def __post_init__(self, allow_insecure_small_key: bool) -> None:
        bits = self.n.bit_length()
        if self.n <= 0 or self.n % 2 == 0:
            raise PublicKeyError(f"a modulus of {bits} bits is not an odd positive number: it is no Paillier key")
        if bits < (16 if allow_insecure_small_key else MIN_KEY_BITS):
            raise PublicKeyError(f"a modulus of {bits} bits is too small to be safe: use {MIN_KEY_BITS} or more")
        if bits > MAX_KEY_BITS:
            raise PublicKeyError(f"a modulus of {bits} bits is above the limit of {MAX_KEY_BITS}: use a smaller key")
        object.__setattr__(self, "n_squared", self.n * self.n)

    def __repr__(self) -> str:
        return f"PublicKey({self.bits} bits, {self.key_id.hex()[:16]})"

    @property
    def bits(self) -> int:
        """The length of the modulus."""
        return self.n.bit_length()

    @property
    def modulus_bytes(self) -> bytes:
        """The modulus as its shortest big-endian bytes."""
        return self.n.to_bytes((self.bits + 7) // 8, "big")

    @property
    def ciphertext_size(self) -> int:
        """The bytes of one ciphertext on the wire."""
        return (2 * self.bits + 7) // 8

    @property
    def key_id(self) -> KeyId:
        """The fingerprint: SHA-256 of `modulus_bytes`."""
        return KeyId(sha256(self.modulus_bytes).digest())


class Obfuscator:
    """Random n-th residues for one key: h_s^r with h = -x^2 mod n, h_s = h^n mod n^2 (Damgard, Jurik, Nielsen 2010).

    x is fresh in every obfuscator, so no party has to trust a base that another one published. r is uniform below
    2^exponent_bits, half the modulus' length by default (rounded up to a multiple of 64): indistinguishable from a
    random n-th residue, under the assumption of that paper, for whoever cannot factor n. Hiding from the key's owner as
    well needs exponents above the length of n. Raises PublicKeyError for exponents below 256 bits where half the
    modulus is longer: generic discrete logarithms would take less than 2^128 steps.

    Powers come from a Lim-Lee comb (CRYPTO 1994) of 8 teeth in 8 blocks: a random exponent is drawn as the random
    table indices themselves, one byte each. Making an obfuscator costs about as much as fifty samples; it is meant to
    be kept for the life of its key. Samples are safe to draw from threads.
    """

    __slots__ = ("_n", "_n_squared", "_tables", "_width", "exponent_bits", "key")

    def __init__(self, key: PublicKey, *, exponent_bits: int | None = None) -> None:
        half = (key.bits + 1) // 2
        bits = half if exponent_bits is None else exponent_bits
        if bits < min(half, _MIN_EXPONENT_BITS):
            raise PublicKeyError(f"exponents of {bits} bits are too short to hide anything: use {half}, the default")
        self.key = key
        self._width = -(-bits // (_TEETH * _BLOCKS))
        self.exponent_bits = self._width * _TEETH * _BLOCKS
        n, n_squared = mpz(key.n), mpz(key.n_squared)
        self._n, self._n_squared = n, n_squared
        power = powmod(-powmod(_unit(key.n), 2, n) % n, n, n_squared)
        powers = []
        for _ in range(_TEETH * _BLOCKS):
            powers.append(split(power, n))
            power = powmod(power, 1 << self._width, n_squared)
        self._tables = [subset_table(powers[block::_BLOCKS], n) for block in range(_BLOCKS)]

    def __repr__(self) -> str:
        return f"Obfuscator({self.key!r}, exponent_bits={self.exponent_bits})"

    def sample(self) -> int:
        """A fresh random n-th residue mod n^2: an encryption of zero."""
        return self.raw_encrypt(0)

    def raw_encrypt(self, plaintext: int) -> int:
        """A fresh encryption of a signed plaintext, |plaintext| < n / 2."""
        element, lift = self.draw()
        return join(element, lift + plaintext, self._n, self._n_squared)

    def draw(self) -> tuple[mpz, mpz]:
        """A sample as (element, lift), which stand for element * (1 + n)^lift."""
        return self.raw_power(secrets.token_bytes(self.exponent_bits // 8))

    def raw_power(self, indices: bytes) -> tuple[mpz, mpz]:
        """h_s^r as (element, lift); r's bits are the comb's indices, `exponent_bits` / 8 bytes.

        Bit t of byte 8 w + b counts 2^(width - 1 - w) * 2^((8 t + b) * width), with width = exponent_bits / 64.
        """
        n_squared = self._n_squared
        element, lift = mpz(1), mpz(0)
        for start in range(0, len(indices), _BLOCKS):
            element, lift = element * element % n_squared, lift + lift
            for (residues, lifts), index in zip(self._tables, indices[start : start + _BLOCKS], strict=True):
                element = element * residues[index] % n_squared
                lift += lifts[index]
        return element, lift


def _unit(n: int) -> mpz:
    while True:
        x = secrets.randbelow(n)
        if gcd(x, n) == 1:
            return mpz(x)
