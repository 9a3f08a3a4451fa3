"""A validation set and a round's game where the model is a network: scores come of running it, in float64 by torch.

What a gradient does to the class scores depends on the others, so every coalition's network is run by itself. Class
scores are rounded to 2^-20 before anything is decided: the last bits of float64, which differ between machines and
versions of torch, decide only where two scores are within a millionth of the same (or where a score falls on the middle
of two numbers of the grid). On one machine the same gradients get the same settlement.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isqrt, sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from capsule.judge._exact import Floats, Ints, rounded_shift, sum_of_squares
from capsule.judge.game import STEP_BITS, Game
from capsule.judge.measure import Metric
from capsule.judge.metrics import metric_of
from sonar.network import Graph
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec

if TYPE_CHECKING:
    from sonar.network.building import Network

__all__ = ["NetworkGame", "NetworkSet"]

SCORE_BITS = 20
_LARGEST_SCORE = 1 << 14
"""Class scores are cut off here, which is far beyond what decides: 2^34 in units of the grid."""
_MOST_KEPT = 1 << 23
"""How many class scores are kept: 64 MiB."""


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """Scaled inputs (records, features), the network that takes them, and the metric that knows the labels.

    `bits` are the fractional bits of the class scores that it gives, `weight_bits` those of the weights it takes. For
    one thread.
    """

    inputs: Floats
    graph: Graph
    metric: Metric
    weight_bits: int
    bits: int = SCORE_BITS
    _built: list["Network"] = field(default_factory=list, init=False, repr=False, compare=False)
    _known: dict[bytes, Ints] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, spec: Spec, features: Floats, labels: npt.NDArray[np.int64] | Floats) -> "NetworkSet":
        """The set in the spec's public scaling; raises ValueError for a spec of another mode."""
        if spec.network is None:
            raise ValueError(f"a campaign of mode {spec.mode!r} has no network")
        inputs = design_matrix(spec, features)[:, :-1]
        return cls(inputs, spec.network.graph, metric_of(spec, labels), spec.encoding.weight_bits)

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.metric.records

    def scores(self, weights: Ints) -> Ints:
        """The class scores (outputs, records) of weights (rows, width)."""
        return self.scores_of(weights.reshape(-1)[: self.graph.size] / 2.0**self.weight_bits)

    def scores_of(self, parameters: Floats) -> Ints:
        """The class scores (outputs, records) of parameters (graph.size,) as they are.

        They are kept while there is room: of the networks that a round asks for, two thirds were run before.
        """
        key = sha256(np.ascontiguousarray(parameters).data).digest()
        found = self._known.get(key)
        if found is None:
            found = self._run(parameters)
            found.setflags(write=False)
            if (len(self._known) + 1) * found.size <= _MOST_KEPT:
                self._known[key] = found
        return found

    def _run(self, parameters: Floats) -> Ints:
        from sonar.network.building import build, filled
        from sonar.network.parameters import parted
        from sonar.network.training import outputs_of, threads

        tensors = parted(self.graph, parameters)
        # Built once: of hundreds of layers that takes longer than to run them, and a round runs thousands of models.
        if not self._built:
            self._built.append(build(self.graph, tensors))
        with threads(1):  # sums have one order then, whatever else the machine has to do
            found = outputs_of(filled(self._built[0], tensors), self.inputs)
        # What is no number is below every other: a network that overflows predicts nothing.
        kept = np.clip(np.nan_to_num(found, nan=-_LARGEST_SCORE), -_LARGEST_SCORE, _LARGEST_SCORE)
        rounded: Ints = np.rint(kept.T * 2.0**self.bits).astype(np.int64)
        return rounded

    def push(self, weights: Ints, move: Ints) -> Ints:
        """What a move (rows, width) adds to the class scores (outputs, records) of weights (rows, width)."""
        return self.scores(weights + move) - self.scores(weights)


class NetworkGame(Game):
    """A round of networks: `moves` (rows, width) are the gradients on the grid of `weights`."""

    def __init__(self, validation: NetworkSet, weights: Ints, moves: Sequence[Ints], pushes: Sequence[Ints]) -> None:
        self._unmoved = validation.scores(weights)
        super().__init__(validation, self._unmoved, pushes)
        self._set, size, scale = validation, validation.graph.size, 2.0**validation.weight_bits
        self._start: Floats = weights.reshape(-1)[:size] / scale
        self._moves: Floats = np.array([move.reshape(-1)[:size] / scale for move in moves])
        self._median = sorted(isqrt(sum_of_squares(move.astype(np.int64))) / scale for move in moves)[len(moves) // 2]

    @property
    def weights(self) -> tuple[int, int]:
        """The shape of what `push` takes: all parameters in one row."""
        return 1, self._set.graph.size

    def push(self, direction: Ints) -> Ints:
        """What a direction of +1 and -1, as long as the median gradient's parameters, adds to the class scores."""
        step = direction.reshape(-1) * (self._median / sqrt(direction.size))
        return self._set.scores_of(self._start + step) - self._unmoved

    def _scores(self, rows: Sequence[Sequence[int]]) -> Iterator[Floats]:
        for row in rows:
            parameters = self._start + (np.array(row, dtype=np.float64) / (1 << STEP_BITS)) @ self._moves
            found = rounded_shift(self._set.scores_of(parameters), self._shift) * float(1 << STEP_BITS)
            yield found.reshape(1, *self._shape)
