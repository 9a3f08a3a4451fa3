"""Discrete Gaussian noise, exact to the last bit: integers only, from the system's randomness.

A Gaussian made of floating-point numbers is none: which doubles can come out depends on what the noise was added to,
and tells it (I. Mironov, On significance of the least significant bits for differential privacy, CCS 2012). Here every
probability is a ratio of integers, and is met exactly. The algorithms are 1 to 3 of

    C. L. Canonne, G. Kamath, T. Steinke, The discrete Gaussian for differential privacy, NeurIPS 2020

in their numbering. OpenDP has the same in Rust; it takes 270 MB on the disk, for which a hundred lines are no price.
How long a draw takes tells something of the draw, and nothing of the data.
"""

import secrets
from collections.abc import Callable, Iterator
from math import isqrt

import numpy as np
import numpy.typing as npt

__all__ = ["DiscreteGaussian"]

_WORD = 64
_BUFFER = 1 << 12
MAX_VARIANCE = 1 << 112
"""A standard deviation of 2^56: what is drawn then lies beyond int64 with a probability below exp(-2^13)."""


class DiscreteGaussian:
    """Draws integers x with probability proportional to exp(-x^2 / (2 variance)), for a whole variance >= 1.

    `random_bytes` gives so many uniform bytes. Raises ValueError for a variance out of range.
    """

    def __init__(self, variance: int, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if not 1 <= variance <= MAX_VARIANCE:
            raise ValueError(f"a variance of {variance} cannot be drawn: give one from 1 to 2^112")
        self.variance = variance
        self._scale = isqrt(variance) + 1
        self._words = _words(random_bytes)

    def draw(self, count: int) -> npt.NDArray[np.int64]:
        """So many independent integers (count,)."""
        return np.array([self._one() for _ in range(count)], dtype=np.int64)

    def _one(self) -> int:
        """Algorithm 3: a discrete Laplace number, kept with probability exp(-(|y| - variance/t)^2 / (2 variance))."""
        t, variance = self._scale, self.variance
        while True:
            y = self._laplace()
            if self._bernoulli_exp((abs(y) * t - variance) ** 2, 2 * variance * t * t):
                return y

    def _laplace(self) -> int:
        """Algorithm 2 with s = 1: y with probability proportional to exp(-|y| / t)."""
        t = self._scale
        while True:
            u = self._below(t)
            if not self._bernoulli_exp(u, t):
                continue
            v = 0
            while self._bernoulli_exp(1, 1):
                v += 1
            magnitude, negative = u + t * v, next(self._words) & 1
            if not negative:
                return magnitude
            if magnitude:
                return -magnitude

    def _bernoulli_exp(self, numerator: int, denominator: int) -> bool:
        """Algorithm 1: True with probability exp(-numerator / denominator)."""
        while numerator > denominator:
            if not self._bernoulli_exp(1, 1):
                return False
            numerator -= denominator
        k = 1
        while self._bernoulli(numerator, k * denominator):
            k += 1
        return k % 2 == 1

    def _bernoulli(self, numerator: int, denominator: int) -> bool:
        """True with probability numerator / denominator <= 1: a uniform number, word by word, as far as it matters."""
        while True:
            whole, numerator = divmod(numerator << _WORD, denominator)
            word = next(self._words)
            if word != whole:
                return word < whole

    def _below(self, bound: int) -> int:
        """A uniform integer from 0 to bound - 1."""
        bits = (bound - 1).bit_length()
        while True:
            value = 0
            for _ in range(-(-bits // _WORD)):
                value = value << _WORD | next(self._words)
            value >>= -bits % _WORD
            if value < bound:
                return value


def _words(random_bytes: Callable[[int], bytes]) -> Iterator[int]:
    while True:
        yield from memoryview(random_bytes(_BUFFER)).cast("Q")
