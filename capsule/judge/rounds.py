"""The judge: picks, in plain integers, what of a round's gradients is kept, and what each is worth.

Pure functions of plaintexts; they know no key, no chain and no store. Every decision is taken on exact integers, so the
same gradients get the same settlement on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from capsule.judge._exact import BigInts, Ints, excess_bits, one_thread, rounded_shift, sum_of_squares
from capsule.judge.blend import Blend, limits
from capsule.judge.credit import Credit, credit, split
from capsule.judge.game import Game
from capsule.judge.likeness import unions
from capsule.judge.luck import luck
from capsule.judge.networks import NetworkGame, NetworkSet
from capsule.judge.search import Option, Search
from capsule.judge.validation import AnySet, score
from sonar.chain.records import Verdict
from sonar.protocol.spec import Spec
from sonar.units import Ppm

__all__ = ["NORM_FACTOR", "Judged", "Judgement", "judge_round", "next_weights"]

NORM_FACTOR = 4
"""A gradient this many times as long as the median of its round is left out, unless the round has fewer than three."""
SHORT_FACTOR = 16
"""So is one this many times shorter: from nothing even it would decide classes, and others' parts shrink by its own."""
_LEAST_FOR_MEDIAN = 3
_WORD = 62
_TRIES = 64
_SETS = 3
"""How many sets may have nobody who is owed pay before the model stays."""
_NOTHING = Ppm(0)

# Whoever sees a reason sees the shares too, and learns no figure of the validation set from it.
_KEPT = "kept"
_UNPAID = "kept without pay: its value is not above the noise of the validation set"
_BOUND = "left out: it would push the model beyond the spec's weight bound"
_FAR = f"left out: more than {NORM_FACTOR} times as long as the median of its round"
_SHORT = f"left out: less than a {SHORT_FACTOR}th as long as the median of its round"
_NOISE = "left out: its value is not above the noise of the validation set"
_WORSE = "left out: the best set of this round does better without it"
_STAYS = "left out: the round does not raise the score by the campaign's min_gain, so the model stays"
_FEW = "left out: fewer gradients than the campaign's min_mines can be judged in this round, so the model stays"


@dataclass(frozen=True, slots=True)
class Judged:
    """The result for one gradient: its verdict (Kept, LeftOut or Copy), why, its a_i and share (0 unless kept)."""

    verdict: Verdict
    weight: int
    share: Ppm
    reason: str

    @property
    def kept(self) -> bool:
        """Whether the gradient is in the next model; paid is who has a share."""
        return self.verdict is Verdict.KEPT


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of one round: `weights` is the next model, None if the round does not advance.

    `sampling_error` is the largest standard error, in ppm of score, of the values that the shares were split by: zero
    up to ten gradients, whose orders are all evaluated.
    """

    score: Ppm
    exponent: int
    weights: Ints | None
    results: tuple[Judged, ...]
    sampling_error: Ppm = _NOTHING


def judge_round(
    spec: Spec, validation: AnySet, weights: Ints, current: Ppm, gradients: Sequence[BigInts], seed: bytes
) -> Judgement:
    """The verdict on a round's valid gradients, each of the weights' shape at the spec's gradient scale.

    What would leave the weight bound, and what is far longer or shorter than the others, is left out and takes no
    further part. Credit is due to a gradient whose value is above the noise, and where luck reaches something, beyond
    that too or to a majority of the others. Candidates are these and, if there are any, those whose value is within
    the noise. All sets of at least `min_mines` candidates with somebody to credit are tried at all steps, of more
    than ten the most valuable ones. Those that raise the score by `min_gain`, and are not worse than the best of them
    by more than the noise of the paired difference, are equally good; of these one with the most to credit is kept:
    that with the best score, then the smallest, then with the largest step. (The best alone would be picked by noise,
    and leave out honest mines: their smallest share of a round falls from 17% to 13% on digits.) The rise is split by
    what those with credit are worth to those kept, because who undoes the harm of somebody who is not kept is worth
    much beside him and nothing without; the others are kept without pay. `seed` decides the orders of large rounds.
    Raises nothing for gradients within the spec's gradient bound.
    """
    with one_thread():
        round_ = _Round(spec, validation, weights, gradients)
        search = round_.search(current, seed) if round_.players else None
        chosen = None if search is None else round_.first_valid(search, current, seed)
    players = round_.players
    found = None if search is None else search.credit
    error = _NOTHING if found is None else found.sampling_error
    if search is None or chosen is None:
        why = _FEW if len(gradients) < spec.rounds.min_mines else _STAYS
        return Judgement(current, 0, None, round_.results({}, {}, found, why), error)
    option, new_score, new_weights, owed = chosen
    exponent, error = spec.encoding.step_bits, max(error, owed.sampling_error)
    shares = split(list(owed.worth.values()))
    factors = search.multipliers(option, 1 << exponent)
    results = round_.results(
        {players[place]: factors[place] for place in option.kept},
        dict(zip((players[place] for place in owed.worth), shares, strict=True)),
        found,
        _WORSE,
    )
    return Judgement(new_score, exponent, new_weights, results, error)


def next_weights(
    spec: Spec, weights: Ints, gradients: Sequence[BigInts], multipliers: Sequence[int], exponent: int
) -> Ints | None:
    """weights + sum of a_i * g_i / 2^exponent at the weights' scale, halves rounded up; None outside the bound."""
    shift = spec.encoding.gradient_shift + exponent
    kind = _kind(spec)
    total: BigInts = weights.astype(kind) * (1 << shift)
    for gradient, multiplier in zip(gradients, multipliers, strict=True):
        total = total + gradient.astype(kind) * multiplier
    rounded = rounded_shift(total, shift)
    if np.abs(rounded).max() > spec.encoding.weight_bound:
        return None
    return rounded.astype(np.int64)


@dataclass(slots=True)
class _Round:
    """A round's gradients, sorted into those that are out by themselves and the players, by their index."""

    spec: Spec
    validation: AnySet
    weights: Ints
    gradients: Sequence[BigInts]
    beyond: set[int] = field(init=False)
    short: set[int] = field(init=False)
    players: list[int] = field(init=False)
    moves: list[Ints] = field(init=False)
    pushes: list[Ints] = field(init=False)
    limits: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        bits, bound = self.spec.encoding.gradient_shift, self.spec.encoding.weight_bound
        kind = _kind(self.spec)
        here: BigInts = self.weights.astype(kind) * (1 << bits)
        # A mean of the present model and of models inside the bound is inside: no gradient spoils the sets it is in.
        ends = (np.abs(here + gradient.astype(kind)).max() for gradient in self.gradients)
        self.beyond = {i for i, end in enumerate(ends) if end > bound << bits}
        inside = [i for i in range(len(self.gradients)) if i not in self.beyond]
        moves = {i: rounded_shift(self.gradients[i].astype(kind), bits).astype(np.int64) for i in inside}
        pushes = {i: self.validation.push(self.weights, move) for i, move in moves.items()}
        lengths, far = _squares(pushes), _far(_squares(moves))
        median = _median(lengths)
        far |= _far(lengths)
        self.short = _short(lengths)
        self.players = [i for i in inside if i not in far and i not in self.short]
        self.moves = [moves[i] for i in self.players]
        self.pushes = [pushes[i] for i in self.players]
        self.limits = limits([lengths[i] for i in self.players], median)

    def search(self, current: Ppm, seed: bytes) -> Search:
        """The search for the set to keep, with the players' credit."""
        rules = self.spec.rounds
        game, blend, found = self._play(range(len(self.players)), seed)
        credited = found.due(rules.noise)
        harmless = (place for place, value in enumerate(found.values) if value.reaches_above(rules.noise))
        candidates = tuple(harmless) if credited else ()
        return Search(rules, 1 << self.spec.encoding.step_bits, current, game, blend, found, candidates, credited)

    def first_valid(self, search: Search, current: Ppm, seed: bytes) -> tuple[Option, Ppm, Ints, "_Owed"] | None:
        """The first option that advances the round: its score and weights, rounded as they will be, and who is owed."""
        exponent = self.spec.encoding.step_bits
        gradients = [self.gradients[i] for i in self.players]
        known: dict[tuple[int, ...], _Owed] = {}
        for _, option in zip(range(_TRIES), search.ranked(), strict=False):
            new = next_weights(self.spec, self.weights, gradients, search.multipliers(option, 1 << exponent), exponent)
            if new is None:
                continue
            new_score = score(self.validation, new)
            if new_score < current + self.spec.rounds.min_gain:
                continue
            if option.kept not in known:
                if len(known) == _SETS:
                    return None
                known[option.kept] = self._owed(search, option, seed)
            if known[option.kept].worth:
                return option, new_score, new, known[option.kept]
        return None

    def _owed(self, search: Search, option: Option, seed: bytes) -> "_Owed":
        paid = search.paid(option)
        if len(option.kept) == len(self.players):
            return _Owed({place: search.credit.values[place].value for place in paid}, search.credit.sampling_error)
        _, _, found = self._play(option.kept, seed)
        noise = self.spec.rounds.noise
        due = None if found.beyond_luck is None else found.due(noise)
        worth = dict(zip(option.kept, found.values, strict=True))
        at = {place: i for i, place in enumerate(option.kept)}
        owed = {
            place: worth[place].value for place in paid if worth[place].value > 0 and (due is None or at[place] in due)
        }
        return _Owed(owed, found.sampling_error)

    def _play(self, places: Sequence[int], seed: bytes) -> tuple[Game, Blend, Credit]:
        """The game of these players alone."""
        pushes, rules = [self.pushes[place] for place in places], self.spec.rounds
        game = self._game(places, pushes)
        blend = Blend(
            unions(pushes, centred=self.validation.metric.centred), tuple(self.limits[place] for place in places)
        )
        return game, blend, credit(game, blend, seed, luck(game, blend, rules.noise, seed))

    def _game(self, places: Sequence[int], pushes: list[Ints]) -> Game:
        if isinstance(self.validation, NetworkSet):
            return NetworkGame(self.validation, self.weights, [self.moves[place] for place in places], pushes)
        return Game(self.validation, self.validation.scores(self.weights), pushes)

    def results(
        self, factors: dict[int, int], shares: dict[int, Ppm], found: Credit | None, why: str
    ) -> tuple[Judged, ...]:
        """One result a gradient; `why` is said of players that were worth something and are not kept."""
        place = {index: at for at, index in enumerate(self.players)}
        due = frozenset() if found is None else found.due(self.spec.rounds.noise)

        def judged(index: int) -> Judged:
            if index in factors:
                share = shares.get(index, _NOTHING)
                return Judged(Verdict.KEPT, factors[index], share, _KEPT if share else _UNPAID)
            return Judged(Verdict.LEFT_OUT, 0, _NOTHING, reason(index))

        def reason(index: int) -> str:
            if index in place and found is not None:
                return why if place[index] in due else _NOISE
            if index in self.beyond:
                return _BOUND
            return _SHORT if index in self.short else _FAR

        return tuple(judged(index) for index in range(len(self.gradients)))


@dataclass(frozen=True, slots=True)
class _Owed:
    """Who of those kept is owed pay: what each is worth to them, and the largest standard error of that."""

    worth: dict[int, Fraction]
    sampling_error: Ppm


def _kind(spec: Spec) -> type:
    """Whole numbers that hold all that a slot holds: of machine words where they are narrow enough."""
    return np.int64 if spec.encoding.slot_width <= _WORD else object


def _squares(rows: dict[int, Ints]) -> dict[int, int]:
    """The squared lengths of rows, in units that are the same for all."""
    shift = excess_bits(rows.values(), 36)
    return {i: sum_of_squares(rounded_shift(row, shift)) for i, row in rows.items()}


def _median(squares: dict[int, int]) -> int:
    """The median of the squared lengths that are not zero; of fewer than three the largest.

    It is the upper one, and then the lower one of those that are at least a quarter as long: very short ones that are
    as many as the others do not make it small. Who is far longer is told by the longer of this and the upper median,
    who is far shorter by the shorter of this and the lower one: where half is long and half is short, neither is left
    out.
    """
    lengths = sorted(square for square in squares.values() if square)
    if len(lengths) < _LEAST_FOR_MEDIAN:
        return max(lengths, default=0)
    upper = lengths[len(lengths) // 2]
    usual = [square for square in lengths if square * NORM_FACTOR**2 >= upper]
    return usual[(len(usual) - 1) // 2]


def _far(squares: dict[int, int]) -> set[int]:
    """Which are more than NORM_FACTOR times as long as the median, of two the upper one."""
    lengths = sorted(square for square in squares.values() if square)
    upper = lengths[len(lengths) // 2] if len(lengths) >= _LEAST_FOR_MEDIAN else 0
    most = NORM_FACTOR**2 * max(upper, _median(squares))
    return {i for i, square in squares.items() if square > most}


def _short(squares: dict[int, int]) -> set[int]:
    """Which do nothing, or are more than SHORT_FACTOR times shorter than the median, of two the lower one."""
    lengths = sorted(square for square in squares.values() if square)
    lower = lengths[(len(lengths) - 1) // 2] if len(lengths) >= _LEAST_FOR_MEDIAN else 0
    least = min(lower, _median(squares))
    return {i for i, square in squares.items() if not square or square * SHORT_FACTOR**2 < least}
