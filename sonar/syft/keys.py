"""Paillier public keys, and the obfuscators that make ciphertexts under them unlinkable.

The plaintext group is Z_n, read as signed integers in (-n/2, n/2); the ciphertext of m is (1 + n)^m times a random
n-th residue mod n^2 (Paillier 1999, with g = n + 1).
"""

import secrets
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from hashlib import sha256
from math import gcd
from typing import Final, NoReturn

from sonar.syft.engines import Engine, Progress, get_engine
from sonar.syft.errors import PublicKeyError
from sonar.syft.progress import slices
from sonar.units import KeyId

__all__ = ["MAX_KEY_BITS", "MIN_KEY_BITS", "Obfuscator", "PublicKey"]

MIN_KEY_BITS: Final = 2048
"""Smaller moduli are refused outside tests: 2048 bits give about 112 bits of security (NIST SP 800-57)."""
MAX_KEY_BITS: Final = 8192
"""Larger moduli are refused, so that a hostile artifact cannot ask for hours of arithmetic."""

_MIN_EXPONENT_BITS: Final = 256


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

    Making an obfuscator costs about as much as a hundred samples; it is meant to be kept for the life of its key.
    Samples are safe to draw from threads.
    """

    __slots__ = ("_base", "engine", "exponent_bits", "key")

    def __init__(self, key: PublicKey, *, exponent_bits: int | None = None, engine: Engine | str | None = None) -> None:
        half = (key.bits + 1) // 2
        bits = half if exponent_bits is None else exponent_bits
        if bits < min(half, _MIN_EXPONENT_BITS):
            raise PublicKeyError(f"exponents of {bits} bits are too short to hide anything: use {half}, the default")
        self.key = key
        self.engine = get_engine(engine)
        self.exponent_bits = -(-bits // 64) * 64
        h = -(_unit(key.n) ** 2) % key.n
        (residue,) = self.engine.weighted_products([[h]], [key.n], key.n)
        self._base = self.engine.fixed_base(residue, self.exponent_bits, key.n)

    def __repr__(self) -> str:
        return f"Obfuscator({self.key!r}, exponent_bits={self.exponent_bits})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Obfuscator is not pickled or copied: its base would be shared; make another for the key")

    def samples(self, count: int, *, progress: Progress | None = None) -> list[int]:
        """Fresh random n-th residues mod n^2: encryptions of zero."""
        samples: list[int] = []
        for part in slices(count, progress):
            size = part.stop - part.start
            samples.extend(self._base.powers([secrets.randbits(self.exponent_bits) for _ in range(size)]))
        return samples

    def raw_encrypt(self, plaintexts: Sequence[int], *, progress: Progress | None = None) -> list[int]:
        """Fresh encryptions of signed plaintexts m, |m| < n / 2."""
        samples = self.samples(len(plaintexts), progress=progress)
        return self.engine.add_plaintexts(samples, plaintexts, self.key.n)

    def rerandomise(self, ciphertexts: Sequence[int], *, progress: Progress | None = None) -> list[int]:
        """The same plaintexts in ciphertexts that cannot be linked to these without the secret key."""
        return self.engine.multiply(ciphertexts, self.samples(len(ciphertexts), progress=progress), self.key.n)


def _unit(n: int) -> int:
    while True:
        x = secrets.randbelow(n)
        if gcd(x, n) == 1:
            return x
