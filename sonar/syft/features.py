"""Public feature maps: what a linear model sees instead of its scaled inputs, rebuilt by everybody from a few numbers.

    Identity        the inputs themselves
    RandomFourier   sqrt(2) cos(omega_j x + b_j), which approximate a Gaussian kernel
    Polynomial      the inputs and their products of 2 or 3

Inputs lie in +-CLIP and so do outputs, which bounds the judge's integers. A map is a frozen dataclass of public
numbers; equal maps give equal functions on every platform and with every version of numpy: random numbers come from
SHAKE-256 (FIPS 202), sums are of integers, and what a library's last bit could round either way is computed exactly.
So all who judge one validation set judge the same numbers.

    A. Rahimi, B. Recht, Random features for large-scale kernel machines, NeurIPS 2007
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, combinations_with_replacement

import gmpy2
import numpy as np
import numpy.typing as npt

from sonar.syft.encoding import Floats
from sonar.syft.errors import TrainingError

__all__ = ["CLIP", "FeatureMap", "Identity", "Polynomial", "RandomFourier"]

CLIP = 16.0
"""Scaled features, and all that is made of them, lie within this magnitude."""

GRID_BITS = 20
"""Fractional bits of the random numbers."""
_DOMAIN = b"sonar random fourier features 1"
_INPUT_BITS = 24
_HALF_BITS = 14
_OUTPUT_BITS = 24
_ROWS = 1 << 12
"""How many records are mapped at once."""
_TIE = 1e-5
"""A number this near to the middle of two of the grid is rounded with more precision."""


@dataclass(frozen=True, slots=True)
class FeatureMap(ABC):
    """A map of `inputs` scaled features, at least 1, to `outputs` features."""

    inputs: int

    def __post_init__(self) -> None:
        if self.inputs < 1:
            raise TrainingError(f"a feature map of {self.inputs} inputs maps nothing: give at least 1")

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many features the map gives."""

    @abstractmethod
    def names(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """The names of the outputs, in order, for the names of the inputs."""

    @abstractmethod
    def _apply(self, scaled: Floats) -> Floats: ...

    def transform(self, scaled: Floats) -> Floats:
        """The outputs (records, outputs) within +-CLIP for scaled inputs (records, inputs) within +-CLIP.

        Each record is mapped by itself, so any batches give the same. Raises TrainingError for another shape, and for
        inputs outside.
        """
        values = np.asarray(scaled, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.inputs:
            raise TrainingError(f"the inputs have shape {values.shape}, but the feature map needs (n, {self.inputs})")
        if not (np.abs(values) <= CLIP).all():  # what is no number is not within either
            raise TrainingError(f"inputs of a feature map must lie within {CLIP:g} and -{CLIP:g}: scale and clip them")
        return self._apply(values)

    def _check_names(self, inputs: Sequence[str]) -> None:
        if len(inputs) != self.inputs:
            raise TrainingError(f"there are {len(inputs)} names for {self.inputs} inputs: give one for each")


@dataclass(frozen=True, slots=True)
class Identity(FeatureMap):
    """The inputs themselves."""

    @property
    def outputs(self) -> int:
        """As many as inputs."""
        return self.inputs

    def names(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """The inputs' own names."""
        self._check_names(inputs)
        return tuple(inputs)

    def _apply(self, scaled: Floats) -> Floats:
        return scaled


@dataclass(frozen=True, slots=True)
class RandomFourier(FeatureMap):
    """sqrt(2) cos(omega_j x + b_j) for j = 0 to `count` - 1: products of two records' outputs have the mean
    exp(-gamma |x - y|^2) (Rahimi and Recht 2007, section 3, without its 1 / sqrt(count)).

    The j-th omega has `inputs` Gaussians of variance 2 gamma, b_j is uniform in [0, 2 pi). They come from the words
    (64 bits, big-endian) of SHAKE-256 of `_DOMAIN` and the seed (8 bytes, big-endian), 2 inputs + 1 for each j: a pair
    (u, v) for each Gaussian, then one for b_j. With u' = (floor(u / 2^11) + 1) / 2^53 and v' = floor(v / 2^11) / 2^53
    a Gaussian is z = sqrt(-2 ln u') cos(2 pi v') (Box and Muller 1958), rounded to 20 fractional bits and then
    multiplied by sqrt(2 gamma); b_j is 2 pi times its word's upper 20 bits / 2^20. So a larger count keeps what a
    smaller one has.

    Inputs are rounded to 24 fractional bits (of more than 2,048 inputs, to fewer), the sum of their products with the
    z is exact, and outputs are rounded to 24 fractional bits.
    """

    count: int
    gamma: float
    seed: int

    def __post_init__(self) -> None:
        FeatureMap.__post_init__(self)
        if self.count < 1:
            raise TrainingError(f"{self.count} Fourier features are none: give at least 1")
        if not 0 < self.gamma < math.inf:
            raise TrainingError(f"gamma is {self.gamma}: give a finite number above 0")
        if not 0 <= self.seed < 1 << 64:
            raise TrainingError(f"the seed is {self.seed}: give a number from 0 to 2^64 - 1")

    @property
    def outputs(self) -> int:
        """As many as `count` says."""
        return self.count

    def names(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """fourier0, fourier1, and so on."""
        self._check_names(inputs)
        return tuple(f"fourier{j}" for j in range(self.count))

    @property
    def frequencies(self) -> Floats:
        """The omegas (inputs, count)."""
        return _fourier(self.inputs, self.count, self.seed)[0] * math.sqrt(2 * self.gamma)

    @property
    def phases(self) -> Floats:
        """The b_j (count,) in radians."""
        return _fourier(self.inputs, self.count, self.seed)[1] * math.tau

    def _apply(self, scaled: Floats) -> Floats:
        gaussians, turns = _fourier(self.inputs, self.count, self.seed)
        factors, phases = gaussians * 2.0**GRID_BITS, turns * math.tau
        bits = _INPUT_BITS - max(0, (self.inputs - 1).bit_length() - 11)
        unit = math.sqrt(2 * self.gamma) / 2.0 ** (bits + GRID_BITS)
        outputs = np.empty((len(scaled), self.count))
        for start in range(0, len(scaled), _ROWS):
            angles = _exact_products(np.rint(scaled[start : start + _ROWS] * 2.0**bits), factors) * unit
            angles += phases
            outputs[start : start + _ROWS] = _cosines(angles)
        return outputs


@dataclass(frozen=True, slots=True)
class Polynomial(FeatureMap):
    """The products of 1 to `degree` inputs, 2 or 3, clipped to +-CLIP.

    First the inputs, then all products of two, then all of three, each in the inputs' order: x0, x1, x0^2, x0*x1, x1^2
    for two inputs and degree 2. Without `powers` no input is twice in a product: x0, x1, x0*x1.
    """

    degree: int
    powers: bool = True

    def __post_init__(self) -> None:
        FeatureMap.__post_init__(self)
        if self.degree not in {2, 3}:
            raise TrainingError(f"a polynomial of degree {self.degree} is not offered: choose 2 or 3")

    @property
    def outputs(self) -> int:
        """The number of monomials."""
        sizes = range(1, self.degree + 1)
        return sum(math.comb(self.inputs + (size - 1 if self.powers else 0), size) for size in sizes)

    @property
    def monomials(self) -> tuple[tuple[int, ...], ...]:
        """The inputs of each output's product, in order: ((0,), (1,), (0, 0), (0, 1), (1, 1))."""
        choose = combinations_with_replacement if self.powers else combinations
        return tuple(chosen for size in range(1, self.degree + 1) for chosen in choose(range(self.inputs), size))

    def names(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """Products as `a*b`, powers as `a^2`."""
        self._check_names(inputs)
        return tuple(
            "*".join(
                inputs[at] + (f"^{monomial.count(at)}" if monomial.count(at) > 1 else "")
                for at in dict.fromkeys(monomial)
            )
            for monomial in self.monomials
        )

    def _apply(self, scaled: Floats) -> Floats:
        # A product of three is an input times a product of two that starts no earlier: neighbours in `lower`.
        outputs = np.empty((len(scaled), self.outputs))
        outputs[:, : self.inputs] = scaled
        # Where in the outputs the products of the last size begin, by their first input.
        begins = list(range(self.inputs + 1))
        for _ in range(self.degree - 1):
            at, following = begins[-1], []
            for first in range(self.inputs):
                following.append(at)
                lower = slice(begins[first if self.powers else first + 1], begins[-1])
                width = lower.stop - lower.start
                np.multiply(scaled[:, first : first + 1], outputs[:, lower], out=outputs[:, at : at + width])
                at += width
            begins = [*following, at]
        return np.clip(outputs, -CLIP, CLIP, out=outputs)


@lru_cache(maxsize=4)
def _fourier(inputs: int, count: int, seed: int) -> tuple[Floats, Floats]:
    """Standard Gaussians (inputs, count) and turns (count,), all multiples of 2^-GRID_BITS."""
    stream = hashlib.shake_256(_DOMAIN + seed.to_bytes(8, "big")).digest(8 * count * (2 * inputs + 1))
    words = np.frombuffer(stream, dtype=">u8").astype(np.uint64).reshape(count, 2 * inputs + 1)
    pairs = words[:, :-1] >> np.uint64(11)
    gaussians = np.ascontiguousarray(_gaussians(pairs[:, 0::2], pairs[:, 1::2]).T)
    turns = (words[:, -1] >> np.uint64(64 - GRID_BITS)) / 2.0**GRID_BITS
    gaussians.setflags(write=False)
    turns.setflags(write=False)
    return gaussians, turns


def _exact_products(whole: Floats, factors: Floats) -> Floats:
    """whole @ factors, rounded once, for integers up to 2^28 and 2^24 whose products' sums stay below 2^63.

    The halves' sums of 2^11 products of 14 and 24 bits are below 2^53, so float64 holds them whatever the order.
    """
    high = np.floor(whole / 2.0**_HALF_BITS)
    above, below = ((half @ factors).astype(np.int64) for half in (high, whole - high * 2.0**_HALF_BITS))
    return ((above << _HALF_BITS) + below).astype(np.float64)


def _cosines(angles: Floats) -> Floats:
    """sqrt(2) cos(angles) to _OUTPUT_BITS fractional bits."""
    exact = np.cos(angles) * (math.sqrt(2) * 2.0**_OUTPUT_BITS)
    grid = np.rint(exact)
    near = np.abs(np.abs(exact - grid) - 0.5) < _TIE
    # Each angle once: a seed can be drawn whose phases are all near, and then so are those of records of zeros.
    different, places = np.unique(angles[near], return_inverse=True)
    grid[near] = np.array([_exact_cosine(angle) for angle in different.tolist()], dtype=np.float64)[places]
    return np.asarray(grid / 2.0**_OUTPUT_BITS)


def _exact_cosine(angle: float) -> int:
    with gmpy2.context(precision=200):
        return int(gmpy2.rint(gmpy2.sqrt(gmpy2.mpfr(2)) * gmpy2.cos(gmpy2.mpfr(angle)) * 2**_OUTPUT_BITS))


def _gaussians(u: npt.NDArray[np.uint64], v: npt.NDArray[np.uint64]) -> Floats:
    """Gaussians on the grid from pairs of 53-bit integers of any shape."""
    exact = np.sqrt(-2 * np.log((u + 1) / 2.0**53)) * np.cos(math.tau * (v / 2.0**53)) * 2.0**GRID_BITS
    grid = np.rint(exact)
    # Where a library's last bits could decide, correctly rounded arithmetic does.
    for place in zip(*np.nonzero(np.abs(np.abs(exact - grid) - 0.5) < _TIE), strict=True):
        grid[place] = _exact_gaussian(int(u[place]), int(v[place]))
    return np.asarray(grid / 2.0**GRID_BITS)


def _exact_gaussian(u: int, v: int) -> int:
    with gmpy2.context(precision=200):
        radius = gmpy2.sqrt(-2 * gmpy2.log(gmpy2.mpfr(u + 1) / 2**53))
        return int(gmpy2.rint(radius * gmpy2.cos(2 * gmpy2.const_pi() * gmpy2.mpfr(v) / 2**53) * 2**GRID_BITS))
