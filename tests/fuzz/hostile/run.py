"""Runs of random inputs, the same for the same seed; what reaches a new place is mutated further."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hostile.mutations import mutated
from hostile.target import BrokenPromiseError, Target, check

__all__ = ["EPISODE", "Finding", "Run"]

_MOST_KEPT = 400
EPISODE = 2_000
"""Inputs from one fresh corpus to the next: what was found depends on at most so many before it."""


class Finding(Exception):
    """An input with which a decoder broke its promise."""

    def __init__(self, target: str, data: bytes, problem: str) -> None:
        super().__init__(f"{target}: {problem}")
        self.target, self.data, self.problem = target, data, problem


@dataclass
class Run:
    """A run over one target: how often inputs ended where."""

    target: Target
    seed: int
    places: Counter[str] = field(default_factory=Counter)
    watch: Callable[[bytes], None] = lambda _: None
    """Is given every input before it is read, so that it is known should the process die of it."""

    def episode(self, number: int, count: int = EPISODE) -> None:
        """Some inputs, the same for the same seed and number; raises Finding at the first that breaks a promise."""
        random = Random(f"{self.seed}/{self.target.name}/{number}")
        corpus = list(self.target.seeds)
        known: set[str] = set()
        for _ in range(count):
            data = mutated(random, corpus, self.target.mutations)
            self.watch(data)
            try:
                place = check(self.target, data)
            except BrokenPromiseError as error:
                raise Finding(self.target.name, data, str(error)) from error
            self.places[place] += 1
            if place not in known and len(corpus) < _MOST_KEPT:
                known.add(place)
                corpus.append(data)
