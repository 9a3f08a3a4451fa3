"""Many mutants in one contract, for scripts/mutate-contracts: a compilation takes longer than most mutants live.

Each mutant stands beside the original behind a switch, and the coinbase of the block, which the contracts do not look
at, says which one is on: `block.coinbase == address(3) ? a <= b : a < b`. With the zero address all are off.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mutation_operators import Form, Mutant

__all__ = ["coinbase", "with_switches"]

_Place = tuple[tuple[int, int], Mapping[int, Mutant]]
"""Some bytes, and all that can stand there instead."""


def coinbase(number: int) -> str:
    """The coinbase that turns a mutant on."""
    return f"0x{number:040x}"


def with_switches(source: bytes, mutants: Mapping[int, Mutant]) -> str:
    """The source with these mutants, by the numbers that turn them on. One that does not compile spoils it for all."""
    places: defaultdict[tuple[int, int], dict[int, Mutant]] = defaultdict(dict)
    for number, mutant in mutants.items():
        places[mutant.start, mutant.end][number] = mutant
    # Outer places before inner ones.
    ordered = sorted(places.items(), key=lambda place: (place[0][0], -place[0][1]))
    # Functions look at the block now.
    return re.sub(r"\bpure\b", "view", _between(source, ordered, 0, len(source)))


def _between(source: bytes, places: Sequence[_Place], start: int, end: int) -> str:
    """What stands between two bytes, with the switches of all places there."""
    text, done = "", start
    for index, ((first, last), mutants) in enumerate(places):
        if first >= done and last <= end:
            inner = _between(source, places[index + 1 :], first, last)
            text += source[done:first].decode() + _switch(inner, mutants)
            done = last
    return text + source[done:end].decode()


def _switch(original: str, mutants: Mapping[int, Mutant]) -> str:
    text = original
    for number, mutant in mutants.items():
        on = f"block.coinbase == address({number})"
        if mutant.form is Form.STATEMENT:
            text = f"if ({on}) {{ {mutant.replacement} }} else {{ {text} }}"
        else:
            text = f"({on} ? {mutant.replacement} : {text})"
    return text
