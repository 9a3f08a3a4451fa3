"""Paillier secret keys: generation and decryption.

Decryption itself is arithmetic on integers, which `sonar.syft.engines` does. The primes are 3 mod 4 with
gcd(p - 1, q - 1) = 2, so that -x^2 has Jacobi symbol 1 and the obfuscators of Damgard, Jurik and Nielsen (2010) work.
Python integers cannot be wiped from memory: who reads this process's memory has the keys.
"""

import secrets
from collections.abc import Sequence
from math import gcd
from typing import Final, NoReturn

from gmpy2 import is_prime, mpz

from capsule.secret.errors import CapsuleSecretError
from sonar.syft import (
    CiphertextError,
    EncryptedTensor,
    Engine,
    Progress,
    PublicKey,
    check_ciphertexts,
    get_engine,
    raw_unpack,
)
from sonar.syft.packing import Integers, largest_magnitude

__all__ = ["SecretKey", "decrypt", "generate_key"]

_PRIMALITY_ROUNDS: Final = 32
"""For GMP that is BPSW and 8 rounds of Miller-Rabin. For candidates that were drawn here, and not by an adversary, 5
rounds alone have an error below 2^-100 at 1,024 bits, and larger ones need fewer (FIPS 186-5, appendix B.3)."""


class SecretKey:
    """The primes of a Paillier key; raises CapsuleSecretError where p and q are not the primes of a valid key.

    `already_proven` leaves that out, which takes as long as a gradient, where it was done just before.

    It never shows in a repr, and cannot be pickled or copied by accident: `to_bytes` is for the vault only.
    """

    __slots__ = ("_p", "_q", "public")

    def __init__(self, p: int, q: int, *, already_proven: bool = False, allow_insecure_small_key: bool = False) -> None:
        if not already_proven and not _fit(p, q):
            raise CapsuleSecretError("p and q are not two distinct primes, 3 mod 4, with gcd(p - 1, q - 1) = 2")
        self.public = PublicKey(p * q, allow_insecure_small_key=allow_insecure_small_key)
        self._p, self._q = p, q

    def __repr__(self) -> str:
        return f"SecretKey(of {self.public!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretKey is not pickled or copied: seal its to_bytes() in a Vault")

    def to_bytes(self) -> bytes:
        """Both primes, big-endian, in equal halves. For a `Vault` only."""
        size = (max(self._p.bit_length(), self._q.bit_length()) + 7) // 8
        return self._p.to_bytes(size, "big") + self._q.to_bytes(size, "big")

    @classmethod
    def from_bytes(
        cls, data: bytes, *, already_proven: bool = False, allow_insecure_small_key: bool = False
    ) -> "SecretKey":
        """The key of `to_bytes`; raises CapsuleSecretError for anything else."""
        half = len(data) // 2
        p, q = int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big")
        key = cls(p, q, already_proven=already_proven, allow_insecure_small_key=allow_insecure_small_key)
        if key.to_bytes() != data:
            raise CapsuleSecretError(f"{len(data)} bytes are not a secret key as the vault keeps it")
        return key

    def raw_decrypt(
        self, ciphertexts: Sequence[int], *, engine: Engine | str | None = None, progress: Progress | None = None
    ) -> list[int]:
        """The signed plaintexts, in (-n/2, n/2), of ciphertexts that have been checked."""
        n = self.public.n
        plaintexts = get_engine(engine).decrypt(ciphertexts, self._p, self._q, progress=progress)
        return [plaintext if 2 * plaintext < n else plaintext - n for plaintext in plaintexts]


def generate_key(bits: int = 3072, *, allow_insecure_small_key: bool = False) -> SecretKey:
    """A fresh key whose modulus has exactly `bits` bits, an even number; raises PublicKeyError for an unsafe size."""
    if bits % 2 or bits < 16:
        raise CapsuleSecretError(f"a key of {bits} bits cannot be made: give an even number, 3072 by default")
    # The largest modulus of this size stands for all: an unsafe size is refused before the primes are searched.
    PublicKey((1 << bits) - 1, allow_insecure_small_key=allow_insecure_small_key)
    while True:
        p, q = _prime(bits // 2), _prime(bits // 2)
        if p != q and gcd(p - 1, q - 1) == 2:
            return SecretKey(p, q, already_proven=True, allow_insecure_small_key=allow_insecure_small_key)


def decrypt(
    secret: SecretKey,
    tensor: EncryptedTensor,
    *,
    engine: Engine | str | None = None,
    progress: Progress | None = None,
) -> Integers:
    """The integers (rows, outputs), as objects, of an encrypted tensor.

    Raises CiphertextError for a tensor under another key, an element outside the group, bits outside the slots, and a
    value above the tensor's bound. Whoever made the tensor reads the message, and may have made each of its plaintexts
    a question about somebody else's: it tells neither which of them is wrong nor how.
    """
    if tensor.key != secret.public:
        raise CiphertextError(f"the tensor is under {tensor.key!r}, not {secret.public!r}: use the key it was made for")
    check_ciphertexts(tensor, engine=engine)
    plaintexts = secret.raw_decrypt(tensor.ciphertexts, engine=engine, progress=progress)
    values = _within(tensor, plaintexts)
    if values is None:
        raise CiphertextError(
            f"its plaintexts are not numbers of at most {tensor.bound.bit_length()} bits in their slots: refuse it"
        )
    return values


def _within(tensor: EncryptedTensor, plaintexts: Sequence[int]) -> Integers | None:
    """The values of the plaintexts; None for stray bits, and for a value above the bound."""
    try:
        values = raw_unpack(plaintexts, tensor.layout, tensor.shape[0])
    except CiphertextError:
        return None
    return values if largest_magnitude(values) <= tensor.bound else None


def _prime(bits: int) -> int:
    """A random prime of exactly `bits` bits, 3 mod 4, with its two top bits set."""
    top = 3 << (bits - 2)
    while True:
        candidate = mpz(secrets.randbits(bits) | top | 3)
        if is_prime(candidate, _PRIMALITY_ROUNDS):  # divides by small primes first
            return int(candidate)


def _fit(p: int, q: int) -> bool:
    return p != q and all(x > 3 and x % 4 == 3 and is_prime(mpz(x)) for x in (p, q)) and gcd(p - 1, q - 1) == 2
