"""What luck reaches: the score of the best of public random directions, as long as the round's gradients.

From nothing every direction, however short, decides all classes; and where features go together, as the sizes of a
cell's nucleus do, every other direction is a good one. Who posts what comes to his mind is then worth something, and
more than one who comes after the others: two mines of six without data would earn 10% of the pay on breast cancer, and
once 52%. So credit asks for more than luck, where luck reaches anything.
"""

from hashlib import shake_256
from math import isqrt

import numpy as np

from capsule.judge._exact import Ints, excess_bits, rounded_shift, sum_of_squares, times_ratio
from capsule.judge.blend import LIMIT_BITS, Blend
from capsule.judge.game import STEP_BITS, Game
from capsule.judge.measure import Measured

__all__ = ["DIRECTIONS", "luck"]

DIRECTIONS = 64
MOST_SCORES = 1 << 24
"""How many class scores they may have together: on validation sets of more than 2^18 fewer directions are tried."""
_BITS = 34


def luck(game: Game, blend: Blend, noise: float, seed: bytes) -> Measured | None:
    """The best model that a random direction makes of the present one, or None if none is better by more than noise.

    Directions have +1 and -1 for all weights, drawn from the seed. They are as long, by what they do to the class
    scores, as the median gradient after long ones are shortened, and have as large a part as a gradient can have.
    """
    lengths = sorted(length * limit >> LIMIT_BITS for length, limit in zip(game.lengths(), blend.limits, strict=True))
    length, part = lengths[len(lengths) // 2], max(blend.parts(blend.everybody, 1 << STEP_BITS))
    best: Measured | None = None
    for number in range(max(1, min(DIRECTIONS, MOST_SCORES // game.size))):
        push = game.push(_direction(seed, number, game.weights))
        push = rounded_shift(push, excess_bits([push], _BITS))
        found = game.beside(times_ratio(push, length, max(1, _length(push))), part)
        if best is None or found.values[0] > best.values[0]:
            best = found
    if best is None:
        return None
    nobody = game.measure([[0] * game.count])
    return best if game.compare(best, nobody)[0].above(noise) else None


def _direction(seed: bytes, number: int, shape: tuple[int, int]) -> Ints:
    """+1 or -1 for every weight, from SHAKE-256."""
    count = shape[0] * shape[1]
    drawn = shake_256(b"luck" + seed + number.to_bytes(4, "big")).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(drawn, dtype=np.uint8))[:count].astype(np.int64)
    return (2 * bits - 1).reshape(shape)


def _length(push: Ints) -> int:
    """Rounded down."""
    return isqrt(sum_of_squares(push))
