"""The search for the gradients to keep and for the step, on rounded class scores; the caller scores the winner."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from capsule.judge.blend import Blend
from capsule.judge.credit import EXACT, Credit
from capsule.judge.game import STEP_BITS, Game
from capsule.judge.measure import VALUE_BITS, Measured
from sonar.protocol.spec import Rounds
from sonar.units import PPM, Ppm

__all__ = ["MOST_SCORES", "STEPS", "Option", "Search"]

STEPS = (1, 2, 4)
"""The kept gradients' mean is tried whole, halved and quartered."""
MOST_SCORES = 1 << 28
"""How many class scores all sets may have at one step: ten candidates are tried in all sets up to 2^18 scores."""
_COMPARED = 16


@dataclass(frozen=True, slots=True)
class Option:
    """A set of gradients at a step: their mean is added divided by `step`. `worth` is the score at 2^VALUE_BITS."""

    kept: tuple[int, ...]
    step: int
    worth: int


@dataclass(frozen=True, slots=True)
class Search:
    """What may be kept of a round: sets of `candidates`, the gradients of the game that do no harm above the noise.

    Somebody in a set must be `credited`, with a value above the noise: whoever else is kept is kept without pay.
    """

    rules: Rounds
    whole: int
    current: Ppm
    game: Game
    blend: Blend
    credit: Credit
    candidates: tuple[int, ...]
    credited: frozenset[int]

    def multipliers(self, option: Option, whole: int) -> list[int]:
        """Every gradient's part of `whole` (0 unless kept)."""
        return self.blend.multipliers(sum(1 << place for place in option.kept), whole // option.step)

    def paid(self, option: Option) -> tuple[int, ...]:
        """Who of the kept earns."""
        return tuple(place for place in option.kept if place in self.credited)

    def ranked(self) -> Iterator[Option]:
        """What may advance the round: first all that is as good as the best but for noise, those that pay most first.

        Who is not paid is kept for the score alone. If size counted, harm below the noise would always be kept.
        """
        options = [option for option in self._options() if option.worth >= self._least()]
        if not options:
            return
        best = min(options, key=lambda o: (-o.worth, -len(o.kept), o.step, o.kept))
        at_best = self._measured([best])
        options.sort(key=lambda o: (-len(self.paid(o)), -o.worth, len(o.kept), o.step, o.kept))
        worse: list[Option] = []
        for start in range(0, len(options), _COMPARED):
            some = options[start : start + _COMPARED]
            losses = self.game.compare(at_best, self._measured(some))
            for option, loss in zip(some, losses, strict=True):
                if loss.above(self.rules.noise):
                    worse.append(option)
                else:
                    yield option
        yield from sorted(worse, key=lambda o: (-o.worth, -len(o.kept), o.step, o.kept))

    def _least(self) -> int:
        """The lowest worth that may be enough: values are rounded down, by less than two units."""
        return ((self.current + self.rules.min_gain << VALUE_BITS) - 1) // PPM - 2

    def _options(self) -> Iterator[Option]:
        sets = [kept for kept in self._sets() if len(kept) >= self.rules.min_mines and self.credited.intersection(kept)]
        choices = [Option(kept, step, 0) for kept in sets for step in STEPS]
        rows = [self.multipliers(option, 1 << STEP_BITS) for option in choices]
        # A step so small that an integer weight a_i, which is the same rounded down, would be zero is no step.
        least = (1 << STEP_BITS) // self.whole
        tried = [(o, row) for o, row in zip(choices, rows, strict=True) if min(row[i] for i in o.kept) >= least]
        values = self.game.values([row for _, row in tried])
        for (option, _), worth in zip(tried, values, strict=True):
            yield replace(option, worth=worth)

    def _sets(self) -> Iterator[tuple[int, ...]]:
        """The sets that are tried: all of them, or where they are too many the first 1, 2, ... candidates.

        First come those that earn, then the others, each the most valuable first.
        """
        count = len(self.candidates)
        if count <= EXACT and self.game.size << count <= MOST_SCORES:
            for size in range(1, len(self.candidates) + 1):
                yield from combinations(self.candidates, size)
            return
        by_value = sorted(self.candidates, key=lambda i: (i not in self.credited, -self.credit.values[i].value, i))
        for size in range(1, len(by_value) + 1):
            yield tuple(sorted(by_value[:size]))

    def _measured(self, options: list[Option]) -> Measured:
        return self.game.measure([self.multipliers(option, 1 << STEP_BITS) for option in options])
