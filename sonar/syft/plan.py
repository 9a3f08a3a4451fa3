"""How a map is computed: one square product, or where A - I is nearly of low rank, two thin ones.

`change` = A - I is (features, features). Where most of its eigenvalues lie close to some -c (0 for directions that
training hardly moves, 1 for those that it has finished with), change + c I is close to a product L R of thin factors
(features, rank) and (rank, features), and change W = L (R W) - c W costs far fewer products of ciphertexts than the
square matrix does (Eckart and Young, Psychometrika 1936, for how close it can be).

All parts are rounded to integers, and a plan is judged by what it then does: its matrix L R - c I, exact in float64,
may differ from `change` no more than rounding `change` itself to `map_bits` does, in the largest row sum of magnitudes,
which bounds the error of every trained weight. So the choice of a plan is never one of accuracy. The result has
`factor_bits` more fractional bits than a square product would need, because each factor needs its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sonar.syft._blas import small_matrices
from sonar.syft.encoding import Floats, encode
from sonar.syft.engines import Engine, Progress
from sonar.syft.engines.cost import map_cost, shift_cost
from sonar.syft.progress import span

__all__ = ["MapPlan", "Square", "Thin", "plan_map"]

Ints = npt.NDArray[np.int64]

_EXACT_BITS: Final = 52
"""Sums of integers below 2^52 are exact in float64, in any order."""
_LEAST_GAIN: Final = 0.8
_LEAST_FEATURES: Final = 32
_HEADROOM_BITS: Final = 16
_INVERSE_SQUARINGS: Final = 4
_TRIES: Final = 4
_SHARES: Final = (1.0, 0.6, 0.36, 0.2)
_CUT: Final = 0.6


@dataclass(frozen=True, slots=True)
class Square:
    """One product with the whole matrix: `change` at `bits` fractional bits, the result shifted by `shift` more.

    Entries of `change` are in [-2^headroom, 2^headroom), whatever the records: so the work tells nothing about them.
    """

    change: Ints
    bits: int
    shift: int
    headroom: int = 0

    @property
    def cost(self) -> float:
        """What it costs, in look-ups."""
        features = len(self.change)
        return map_cost(features, features, self.bits + self.headroom) + shift_cost(features, self.shift)

    @property
    def reach(self) -> list[int]:
        """The largest magnitude of each row's result on weights up to 1, at the result's scale."""
        return [int(total) << self.shift for total in np.abs(self.change).sum(axis=1)]

    def apply(self, engine: Engine, ciphertexts: Sequence[int], n: int, progress: Progress | None = None) -> list[int]:
        """Encryptions of change W at `bits` + `shift` more fractional bits than W, one for each ciphertext of W."""
        rows = engine.linear_map(ciphertexts, self.change, n, bits=self.bits + self.headroom, progress=progress)
        return engine.weighted_products([rows], [1 << self.shift], n) if self.shift else rows


@dataclass(frozen=True, slots=True)
class Thin:
    """Two thin products and a multiple of the identity: (left right) 2^shift - diagonal I.

    left is (features, rank), right (rank, features); their scales are whatever their product needs.
    """

    left: Ints
    right: Ints
    diagonal: int
    shift: int

    @property
    def rank(self) -> int:
        """The number of inner ciphertexts."""
        return len(self.right)

    @property
    def costs(self) -> tuple[float, float]:
        """What both products cost, in look-ups."""
        features, rank = self.left.shape
        return map_cost(rank, features, _bits(self.right)), map_cost(features, rank, _bits(self.left))

    @property
    def cost(self) -> float:
        """What it costs, in look-ups."""
        extra = shift_cost(len(self.left), max(self.shift, abs(self.diagonal).bit_length()) + _INVERSE_SQUARINGS)
        return sum(self.costs) + extra

    @property
    def matrix(self) -> Floats:
        """The square matrix that this stands for, at the result's scale; exact."""
        product = (self.left.astype(np.float64) @ self.right.astype(np.float64)) * 2.0**self.shift
        return product - self.diagonal * np.eye(len(product))

    @property
    def reach(self) -> list[int]:
        """The largest magnitude of each row's result on weights up to 1, at the result's scale."""
        return [int(total) for total in np.abs(self.matrix).sum(axis=1)]

    def apply(self, engine: Engine, ciphertexts: Sequence[int], n: int, progress: Progress | None = None) -> list[int]:
        """Encryptions of change W at the plan's scale, one for each ciphertext of W."""
        first, second = self.costs
        turn = first / (first + second)
        inner = engine.linear_map(ciphertexts, self.right, n, bits=_bits(self.right), progress=span(progress, 0, turn))
        rows = engine.linear_map(inner, self.left, n, bits=_bits(self.left), progress=span(progress, turn, 1))
        factors, exponents = [rows], [1 << self.shift]
        if self.diagonal:
            factors.append(_inverses(engine, ciphertexts, n) if self.diagonal > 0 else list(ciphertexts))
            exponents.append(abs(self.diagonal))
        return engine.weighted_products(factors, exponents, n)


MapPlan = Square | Thin


def plan_map(change: Floats, map_bits: int, factor_bits: int = 0, *, norm: float = 1.0) -> MapPlan:
    """The cheapest plan for `change` whose error is within that of rounding it to `map_bits` fractional bits.

    Its result has map_bits + factor_bits more fractional bits than the weights. `norm` bounds the matrix, 1 where it
    is symmetric and negative semidefinite, whatever the records. Raises EncodingOverflowError for
    a matrix that is not finite or has an entry of 2^16 and more.
    """
    rounded = encode(change, map_bits, (1 << (map_bits + _HEADROOM_BITS)) - 1).astype(np.int64)
    square = Square(rounded, map_bits, factor_bits, 0 if norm <= 1 else int(np.ceil(np.log2(norm))))
    if factor_bits == 0 or len(change) < _LEAST_FEATURES or map_bits + factor_bits + _HEADROOM_BITS > _EXACT_BITS:
        return square
    with small_matrices(len(change)):
        thin = _thin_plan(change, square)
    return square if thin is None or thin.cost > _LEAST_GAIN * square.cost else thin


def _thin_plan(change: Floats, square: Square) -> Thin | None:
    """A thin plan whose error is within the square one's; None if there is none in its fractional bits."""
    allowed = _largest_row(square.change / 2.0**square.bits - change)
    # Of the error's variance a third each for what is cut off and for rounding the two factors; where the largest row
    # is far above the average one, that is too much, and less is cut off.
    deviation = 2.0**-square.bits / np.sqrt(12 * 3)
    factors = _factoring(change, _SHARES[0] * deviation * len(change))
    for share in _SHARES:
        level, left, right = factors(share * deviation * len(change))
        if 2 * left.shape[1] > len(change):
            return None
        if _largest_row(change + level * np.eye(len(change)) - left @ right) > _CUT * allowed:
            continue
        for thin in _rounded(level, left, right, deviation, square.bits + square.shift):
            if _largest_row(thin.matrix / 2.0 ** (square.bits + square.shift) - change) <= allowed:
                return thin
    return None


def _rounded(level: float, left: Floats, right: Floats, deviation: float, bits: int) -> Iterator[Thin]:
    """Plans of these factors with ever more of `bits` fractional bits, from about as few as could do."""
    # Rounding `right` at scale a makes an error of variance |left|^2 / (12 a^2 features) an entry, and vice versa.
    sizes = np.array([np.linalg.norm(left), np.linalg.norm(right)])
    needed = np.maximum(sizes / (deviation * np.sqrt(12 * len(left))), 1.0)
    least = max(int(np.ceil(np.log2(needed).sum())), 1)
    for total in range(least, min(least + _TRIES, bits + 1)):
        right_scale, left_scale = needed * np.sqrt(2.0**total / needed.prod())
        yield Thin(
            left=np.rint(left * left_scale).astype(np.int64),
            right=np.rint(right * right_scale).astype(np.int64),
            diagonal=round(level * 2.0**bits),
            shift=bits - total,
        )


def _factoring(matrix: Floats, cut: float) -> Callable[[float], tuple[float, Floats, Floats]]:
    """Gives, for cuts up to this one, (c, L, R) with |matrix + c I - L R| at most the cut in the Frobenius norm.

    From the eigenvectors of a symmetric matrix; of others from the singular vectors, with one c for all cuts.
    """
    symmetric = bool((matrix == matrix.T).all())
    values, vectors = np.linalg.eigh(matrix if symmetric else (matrix + matrix.T) / 2)
    if symmetric:

        def by_eigenvectors(cut: float) -> tuple[float, Floats, Floats]:
            inside = _cluster(values, cut)
            level = float(values[inside].mean())
            outside = np.delete(vectors, inside, axis=1)
            return -level, outside * (np.delete(values, inside) - level), outside.T

        return by_eigenvectors
    level = float(values[_cluster(values, cut)].mean())
    left, sizes, right = np.linalg.svd(matrix - level * np.eye(len(matrix)))
    rest = np.sqrt(np.cumsum(sizes[::-1] ** 2))[::-1]

    def by_singular_vectors(cut: float) -> tuple[float, Floats, Floats]:
        rank = max(int((rest > cut).sum()), 1)
        return -level, left[:, :rank] * sizes[:rank], right[:rank]

    return by_singular_vectors


def _cluster(values: Floats, cut: float) -> slice:
    """The most of the sorted values, but not all, that lie within `cut` of their mean in the Euclidean norm."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    squares = np.concatenate([[0.0], np.cumsum(values**2)])
    best, start = slice(0, 1), 0
    for stop in range(1, len(values) + 1):
        while squares[stop] - squares[start] - (sums[stop] - sums[start]) ** 2 / (stop - start) > cut**2:
            start += 1
        if stop - start > best.stop - best.start:
            best = slice(start, stop)
    return slice(1, len(values)) if best == slice(0, len(values)) else best


def _largest_row(error: Floats) -> float:
    return float(np.abs(error).sum(axis=1).max())


def _inverses(engine: Engine, elements: Sequence[int], n: int) -> list[int]:
    """The inverses mod n^2 of elements that have one: one inversion and three products each (Montgomery 1987)."""
    levels = [list(elements)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        paired = len(level) // 2 * 2
        levels.append([*engine.multiply(level[0:paired:2], level[1:paired:2], n), *level[paired:]])
    inverses = [pow(levels.pop()[0], -1, n * n)]
    for level in reversed(levels):
        paired = len(level) // 2 * 2
        above = inverses[: paired // 2]
        even, odd = engine.multiply(above, level[1:paired:2], n), engine.multiply(above, level[0:paired:2], n)
        inverses = [*(x for pair in zip(even, odd, strict=True) for x in pair), *inverses[paired // 2 :]]
    return inverses


def _bits(exponents: Ints) -> int:
    """The least b with -2^b <= e < 2^b for all exponents."""
    return max(
        int(exponents.max()).bit_length(), (-int(exponents.min()) - 1).bit_length() if exponents.min() < 0 else 0
    )
