"""What workers leave in the database of what is not well, for who asks it instead of them.

Each worker has a place of its own, which it claims: several may serve one PostgreSQL, and none overwrites what another
one noted. What a worker that is gone left is passed over once another one runs, and kept while none does.
"""

from itertools import count
from typing import Final

from capsule.errors import CapsuleDatabaseError
from capsule.state import Claim, State
from sonar import canonical

__all__ = ["Notes", "Problems", "missed_problem", "noted_problems"]

Problems = dict[str, tuple[str, float]]
"""What is not well: what it is, and since when in Unix seconds, by the name of a part or a campaign in hex."""

_NAME: Final = "problems "


class Notes:
    """One worker's place. Not safe in threads."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._claim: Claim | None = None
        self._noted = b""

    def note(self, problems: Problems) -> None:
        """Stores what is not well, if it is not what was stored before; raises CapsuleDatabaseError."""
        data = canonical.dumps({what: list(problem) for what, problem in problems.items()})
        claim = self._place()
        if data != self._noted:
            self._state.set(**{claim.name: data})
            self._noted = data

    def close(self) -> None:
        """Leaves the place to another worker, and what is noted in it."""
        claim, self._claim, self._noted = self._claim, None, b""
        if claim is not None:
            claim.release()

    def _place(self) -> Claim:
        if self._claim is not None:
            try:
                self._claim.check()
            except CapsuleDatabaseError:
                self._claim, self._noted = None, b""
                raise
            return self._claim
        self._claim = next(filter(None, (self._state.claims.try_claim(f"{_NAME}{place}") for place in count())))
        return self._claim


def noted_problems(state: State) -> Problems:
    """What all workers noted; of several that noted the same, the one who did first."""
    noted, left = {}, {}
    for name, data in state.settings(_NAME).items():
        claim = state.claims.try_claim(name)
        if claim is None:
            noted[name] = data
        else:
            left[name] = data
            claim.release()
    problems: Problems = {}
    for data in (noted or left).values():
        for what, (problem, since) in canonical.loads(data).items():
            if what not in problems or since < problems[what][1]:
                problems[what] = (problem, since)
    return problems


def missed_problem(number: int) -> str:
    """What is not well with a campaign whose round was settled by another database."""
    return (
        f"round {number} was settled on chain by what is not in this database: another Capsule with this account "
        "signed it, or this is an old backup. This one can neither judge the campaign further nor deliver its last "
        "model: stop it, and serve the database that has them. Never run two with one account"
    )
