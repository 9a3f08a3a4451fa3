"""The judge: scores models and picks, in plain integers, what a round's gradients are worth.

Pure functions of plaintexts; they know no key, no chain and no store. A model is scored exactly (int64, ties go to the
lower class), so the same bytes have the same score everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from capsule.judge.credit import EXACT, Scores, Value, coalitions, split, values
from sonar.chain.records import Verdict
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Rounds, Spec
from sonar.units import PPM, Ppm

__all__ = ["COPY_COSINE", "Judged", "Judgement", "ValidationSet", "find_copies", "judge_round", "next_weights", "score"]

Ints = npt.NDArray[np.int64]
BigInts = npt.NDArray[Any]
"""Python integers in an object array: gradients and products outgrow 64 bits."""

STEPS = (1, 2, 4)
"""The kept gradients' mean is tried whole, halved and quartered."""
COPY_COSINE = 0.999999
"""Two gradients of different accounts in one round whose directions agree more than this are one work.

Honest mines that draw from one source come closer the more they have: measured with 10 features, 0.9927 with 250
records each, 0.99992 with 25,000, 0.99998 with 100,000. A copy with noise of a thousandth agrees to 0.9999995.
"""
_INPUT_BITS = 16
_CLIP_BITS = 4
_HALF_BITS = 18
_TRIES = 64


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Scaled integer inputs (records, features + 1) with their labels (records,)."""

    inputs: Ints
    labels: Ints
    _floats: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_floats", self.inputs.astype(np.float64))

    @classmethod
    def of(cls, spec: Spec, features: npt.NDArray[np.float64], labels: Ints) -> "ValidationSet":
        """The set in the spec's public scaling, at as many fractional bits as leave every class score below 2^62."""
        encoding = spec.encoding
        spare = 62 - _CLIP_BITS - encoding.weight_bits - encoding.weight_bound_bits - spec.shape[0].bit_length()
        scaled = np.rint(design_matrix(spec, features) * float(1 << min(_INPUT_BITS, spare)))
        return cls(scaled.astype(np.int64), np.asarray(labels, dtype=np.int64))

    def scores(self, weights: Ints) -> Ints:
        """inputs @ weights, exactly, for weights (features + 1, classes) below 2^38; thirty times as fast as in int64.

        The halves' sums of 2^11 products of 20 and 20 bits are below 2^53, so float64 holds them whatever the order.
        """
        high, low = weights >> _HALF_BITS, weights & ((1 << _HALF_BITS) - 1)
        above, below = (self._floats @ half.astype(np.float64) for half in (high, low))
        exact: Ints = (above.astype(np.int64) << _HALF_BITS) + below.astype(np.int64)
        return exact


@dataclass(frozen=True, slots=True)
class Judged:
    """The result for one gradient: its verdict (Kept, LeftOut or Copy), why, its a_i and share (0 unless kept)."""

    verdict: Verdict
    weight: int
    share: Ppm
    reason: str

    @property
    def kept(self) -> bool:
        """Whether the gradient is in the next model, and paid."""
        return self.verdict is Verdict.KEPT


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of one round: `weights` is the next model, None if the round does not advance."""

    score: Ppm
    exponent: int
    weights: Ints | None
    results: tuple[Judged, ...]


def score(validation: ValidationSet, weights: Ints) -> Ppm:
    """The accuracy of weights (features + 1, classes) in ppm, rounded down."""
    return _ppm(int(_right(validation, validation.scores(weights)).sum()), validation)


def next_weights(
    spec: Spec, weights: Ints, gradients: Sequence[BigInts], multipliers: Sequence[int], exponent: int
) -> Ints | None:
    """weights + sum of a_i * g_i / 2^exponent at the weights' scale, halves rounded up; None outside the bound."""
    shift = spec.encoding.gradient_shift + exponent
    total = weights.astype(object) * (1 << shift)
    for gradient, multiplier in zip(gradients, multipliers, strict=True):
        total = total + gradient.astype(object) * multiplier
    rounded = _rounded_shift(total, shift)
    if np.abs(rounded).max() > spec.encoding.weight_bound:
        return None
    return rounded.astype(np.int64)


def find_copies(gradients: Sequence[BigInts]) -> dict[int, int]:
    """Which gradients repeat the direction of an earlier one, which is not a copy itself: index to original.

    A gradient of zeros has no direction, and is nobody's copy.
    """
    directions: dict[int, npt.NDArray[np.float64]] = {}
    copies: dict[int, int] = {}
    for index, gradient in enumerate(gradients):
        flat = gradient.astype(np.float64).ravel()
        norm = float(np.linalg.norm(flat))
        if norm == 0:
            continue
        flat = flat / norm
        original = next((i for i, other in directions.items() if float(flat @ other) > COPY_COSINE), None)
        if original is None:
            directions[index] = flat
        else:
            copies[index] = original
    return copies


def judge_round(
    spec: Spec, validation: ValidationSet, weights: Ints, current: Ppm, gradients: Sequence[BigInts], seed: bytes
) -> Judgement:
    """The verdict on a round's valid gradients, each (features + 1, classes) at the spec's gradient scale.

    Whoever repeats the direction of an earlier gradient is a copy, and takes no further part.
    Candidates are gradients whose Shapley value is above the noise. All sets of at least `min_mines` candidates are
    tried at all steps. Those that raise the score by `min_gain`, and are not worse than the best of them by more than
    the noise of the paired difference, are equally good; of these the largest is kept, then the one with the best
    score, then with the largest step. (The best alone would be picked by noise, and leave out honest mines: their
    smallest share of a round falls from 17% to 13% on digits.) The rise is split by the values of the kept. `seed`
    decides the orders of large rounds.
    """
    copies = find_copies(gradients)
    usable = [i for i, gradient in enumerate(gradients) if i not in copies and _usable(spec, weights, gradient)]
    pushes = {i: _push(spec, validation, gradients[i]) for i in usable}
    correct = _Correct(validation, validation.scores(weights).astype(np.float64))
    worth = dict(zip(usable, values(list(pushes.values()), correct, seed), strict=True))
    candidates = {i: pushes[i] for i in usable if worth[i].above_noise(spec.rounds.noise)}
    options = _Search(spec.rounds, 1 << spec.encoding.step_bits, current, candidates, worth, correct).ranked()
    chosen = _first_valid(spec, validation, weights, current, gradients, options)
    if chosen is None:
        why = f"the round does not raise the score by {_percent(spec.rounds.min_gain)}, so the model stays"
        left_out = (_left_out(i, copies, worth, spec, why) for i in range(len(gradients)))
        return Judgement(current, 0, None, tuple(left_out))
    kept, multiplier, new_score, new_weights = chosen
    shares = dict(zip(kept, split([worth[i].total for i in kept]), strict=True))
    why = "the best set of this round does better without it"
    results = tuple(
        Judged(Verdict.KEPT, multiplier, shares[i], f"kept: {_worth(worth[i])}")
        if i in shares
        else _left_out(i, copies, worth, spec, why)
        for i in range(len(gradients))
    )
    return Judgement(new_score, spec.encoding.step_bits, new_weights, results)


class _Correct:
    """Which records are right after a coalition's mean is added to the model's class scores."""

    def __init__(self, validation: ValidationSet, base: Scores) -> None:
        self._validation = validation
        self._base = base

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self._validation.labels)

    def __call__(self, total: Scores, size: int, step: int = 1) -> Ints:
        scores = self._base + total / (size * step) if size else self._base
        return _right(self._validation, scores)


@dataclass(frozen=True, slots=True)
class _Option:
    """A set of candidates at a step, and how many records are right after it."""

    kept: tuple[int, ...]
    step: int
    right: int


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the set to keep, on class scores, before weights are rounded."""

    rules: Rounds
    whole: int
    current: Ppm
    candidates: dict[int, Scores]
    worth: dict[int, Value]
    correct: _Correct

    def ranked(self) -> list[_Option]:
        """What may advance the round: first all that is as good as the best but for noise, the largest set first."""
        options = [option for option in self._options() if option.right >= self._least_right()]
        if not options:
            return []
        best = min(options, key=lambda o: (-o.right, -len(o.kept), o.step, o.kept))
        at_best = self._records(best)
        worse = {o: _paired(at_best - self._records(o)).above_noise(self.rules.noise) for o in options}
        return sorted(
            options, key=lambda o: (worse[o], 0 if worse[o] else -len(o.kept), -o.right, -len(o.kept), o.step, o.kept)
        )

    def _least_right(self) -> int:
        return -(-(self.current + self.rules.min_gain) * self.correct.records // PPM)

    def _records(self, option: _Option) -> Ints:
        total = np.sum([self.candidates[i] for i in option.kept], axis=0)
        return self.correct(total, len(option.kept), option.step)

    def _options(self) -> Iterator[_Option]:
        names = list(self.candidates)
        for places, total in self._sets(names):
            for step in STEPS:
                # A step so small that the integer weights a_i would be zero is no step.
                if len(places) >= self.rules.min_mines and self.whole // (step * len(places)):
                    right = int(self.correct(total, len(places), step).sum())
                    yield _Option(tuple(names[place] for place in places), step, right)

    def _sets(self, names: list[int]) -> Iterator[tuple[tuple[int, ...], Scores]]:
        """The sets that are tried: all of them, or for many candidates those of a greedy climb."""
        scores = list(self.candidates.values())
        if len(names) <= EXACT:
            yield from coalitions(scores)
            return
        left = sorted(range(len(names)), key=lambda place: (-self.worth[names[place]].total, place))
        members: tuple[int, ...] = ()
        total = np.zeros_like(scores[0])
        while left:
            grown = {place: int(self.correct(total + scores[place], len(members) + 1).sum()) for place in left}
            best = max(left, key=lambda place: grown[place])
            left.remove(best)
            members, total = tuple(sorted((*members, best))), total + scores[best]
            yield members, total


def _first_valid(
    spec: Spec,
    validation: ValidationSet,
    weights: Ints,
    current: Ppm,
    gradients: Sequence[BigInts],
    options: list[_Option],
) -> tuple[tuple[int, ...], int, Ppm, Ints] | None:
    """The kept set with its common multiplier, exact score and weights; None if no set advances the round."""
    exponent = spec.encoding.step_bits
    for option in options[:_TRIES]:
        kept, multiplier = option.kept, (1 << exponent) // (option.step * len(option.kept))
        new = next_weights(spec, weights, [gradients[i] for i in kept], [multiplier] * len(kept), exponent)
        if new is not None and (new_score := score(validation, new)) >= current + spec.rounds.min_gain:
            return kept, multiplier, new_score, new
    return None


def _paired(difference: Ints) -> Value:
    """How much better one model is than another, per record."""
    return Value(int(difference.sum()), int((difference**2).sum()), len(difference), 1)


def _usable(spec: Spec, weights: Ints, gradient: BigInts) -> bool:
    """Whether the whole gradient leads to a model inside the weight bound.

    Every candidate model is a mean of the present one and such models, so it is inside as well: no gradient can spoil
    the sets that it is in, and scores fit 64 bits.
    """
    bits = spec.encoding.gradient_shift
    return bool(np.abs(weights.astype(object) * (1 << bits) + gradient).max() <= spec.encoding.weight_bound << bits)


def _push(spec: Spec, validation: ValidationSet, gradient: BigInts) -> Scores:
    """What the whole gradient adds to every record's class scores."""
    rounded = _rounded_shift(gradient.astype(object), spec.encoding.gradient_shift).astype(np.int64)
    return validation.scores(rounded).astype(np.float64)


def _rounded_shift(numbers: BigInts, bits: int) -> BigInts:
    shifted: BigInts = (numbers + ((1 << bits) >> 1)) >> bits
    return shifted


def _right(validation: ValidationSet, scores: npt.NDArray[Any]) -> Ints:
    right: Ints = (scores.argmax(axis=1) == validation.labels).astype(np.int64)
    return right


def _ppm(right: int, validation: ValidationSet) -> Ppm:
    return Ppm(right * PPM // len(validation.labels))


def _left_out(index: int, copies: dict[int, int], worth: dict[int, Value], spec: Spec, why: str) -> Judged:
    if index in copies:
        return Judged(Verdict.COPY, 0, Ppm(0), "copy: the same direction as an earlier gradient of this round")
    value = worth.get(index)
    if value is None:
        reason = "left out: it would push the model beyond the spec's weight bound"
    elif not value.above_noise(spec.rounds.noise):
        reason = f"left out: {_worth(value)}, which is not above {spec.rounds.noise:g} standard errors"
    else:
        reason = f"left out: {_worth(value)}, but {why}"
    return Judged(Verdict.LEFT_OUT, 0, Ppm(0), reason)


def _worth(value: Value) -> str:
    return f"worth {100 * value.mean:+.2f}% of score (standard error {100 * value.standard_error:.2f}%)"


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:.2f}%"
