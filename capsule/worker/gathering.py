"""From a round's submissions to what each of them is: fetched and opened as they come, and given up in the end."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from capsule.errors import CapsuleError
from capsule.parts import Capsule
from capsule.sandbox import Desk
from capsule.state import Submission, Version
from capsule.worker.background import Background, Running
from capsule.worker.opening import Missing, Opened, Opener, Rejected
from capsule.worker.patience import Patience
from capsule.worker.roundkey import RoundKeys
from capsule.worker.tally import Tally
from sonar.chain.records import Entry, Verdict
from sonar.errors import SonarError
from sonar.protocol.sealing import BoxContext, Purpose
from sonar.units import CampaignId, Digest

__all__ = ["Gatherer", "OpenedRound", "Result"]

_AGAIN_SECONDS = (1.0, 15.0)
"""How long a gradient that could not be fetched is left alone: twice as long each time, up to the second."""

_NOTHING_CAME = 5
"""How many times as long gradients of a round are waited for of which not one could be fetched: it may be the store
that reaches nobody, and to its mines that would be a fine for nothing. It is within every settlement window."""

_HANGING_SECONDS = 180.0
"""How long a store may take for a gradient until it counts as one that hangs: longer than all deadlines of an IPFS node
together, for connecting, answering and giving, and once more to find out whether it gives anything."""

Result = Opened | Rejected
_REPEATED = Rejected(Verdict.COPY, "copy: another account submitted this gradient in an earlier round")
_Place = tuple[int, Entry]
"""A gradient's round and entry."""


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round's submissions with what each of them is."""

    submissions: tuple[Submission, ...]
    results: tuple[Result, ...]

    def seed(self, head: bytes, block: bytes) -> bytes:
        """What decides the orders of a large round: all know it once its last gradient is in a block, nobody before.

        Whoever can still add a gradient can draw it anew that way, without knowing what is in the others.

        `block` is the hash of the block that has the round's last gradient.
        """
        return sha256(head + block).digest()


class Gatherer:
    """Opens the gradients of one campaign's present round as they come, and keeps them in memory.

    `openings` are the places that all campaigns have together for gradients that are being opened.
    """

    def __init__(
        self,
        capsule: Capsule,
        campaign: CampaignId,
        desk: Desk,
        keys: RoundKeys,
        tally: Tally,
        openings: threading.Semaphore,
    ) -> None:
        self._capsule, self._campaign, self._desk, self._keys, self._tally = capsule, campaign, desk, keys, tally
        self._background: Background[Result | Missing] = Background(openings)
        self._opening: dict[_Place, Running[Result | Missing]] = {}
        self._hanging: set[_Place] = set()
        self._opened: dict[_Place, Result] = {}
        self._missing_since: dict[_Place, float] = {}
        self._again: dict[_Place, Patience] = {}
        self._came: int | None = None  # the last round of which a gradient could be fetched
        self.misses = False
        """Whether the round is closed, and gradients of it cannot be fetched."""

    def open_round(
        self, version: Version, submissions: list[Submission], *, closed: bool, patience: float
    ) -> OpenedRound | None:
        """The round's gradients, opened as far as they can be fetched; waits for that for `patience` seconds.

        None while some are missing and may yet come: a gradient that stays missing for the policy's `fetch_seconds`
        after the round was seen closed is unavailable, or for several times as long where not one of the round's came.
        Until then it is fetched again, less and less often, but not while the store still hangs at it, which is
        CapsuleError: nobody else would tell. Raises StoreUnavailableError where the store is down, and SandboxError
        where there are no judge processes.
        """
        key = self._keys.of(version)
        opener = Opener(
            self._capsule.store, self._capsule.sealing, self._desk, key.public, key.secret, self._context
        )  # fmt: skip
        places = [(submission.round, submission.entry) for submission in submissions]
        self._forget_other_rounds(places)
        due = [
            (place, submission)
            for place, submission in zip(places, submissions, strict=True)
            if place not in self._opened and place not in self._opening and self._is_due(place)
        ]
        repeated = self._capsule.state.repeated(self._campaign, submissions[0].round) if due else frozenset()
        for place, submission in due:
            if submission.index in repeated:
                self._opened[place] = _REPEATED
            elif (running := self._background.start(partial(opener.open, submission))) is not None:
                self._opening[place] = running
        waited_for = [place for place in places if place in self._opening and place not in self._hanging]
        wait([self._opening[place].answer for place in waited_for], timeout=patience)
        problem: SonarError | None = None
        for place in [place for place in places if place in self._opening and self._opening[place].answer.done()]:
            try:
                self._hanging.discard(place)
                self._take(place, self._opening.pop(place).answer.result(), closed=closed)
            except SonarError as error:  # told when the others are taken
                problem = error
        self._leave_hanging(places, closed=closed)
        if problem is not None:
            raise problem
        missing = [place for place in places if place not in self._opened]
        self.misses = closed and any(place in self._again or place in self._hanging for place in missing)
        if hanging := [entry.mine for number, entry in missing if (number, entry) in self._hanging]:
            raise CapsuleError(
                f"the store hangs: for more than {_HANGING_SECONDS:.0f} s it neither gives nor refuses "
                f"{len(hanging)} gradient(s) of its round, the first by {hanging[0]}: look at the store"
            )
        if missing:
            return None
        return OpenedRound(tuple(submissions), tuple(_first_only(places, [self._opened[place] for place in places])))

    def open_again(self, submissions: Iterable[Submission]) -> None:
        """Forgets what these gradients are: they are opened again, by what is in the database then."""
        for submission in submissions:
            self._opened.pop((submission.round, submission.entry), None)

    def forget_round(self, number: int) -> None:
        """Lets go of a round that is settled."""
        self._opened = {place: result for place, result in self._opened.items() if place[0] > number}
        self._missing_since.clear()
        self._again.clear()
        self._hanging.clear()
        for place in [place for place in self._opening if place[0] <= number]:
            del self._opening[place]

    def _forget_other_rounds(self, places: Sequence[_Place]) -> None:
        """Lets go of what was opened for rounds that are over: another worker may have settled them.

        What is still being fetched for them ends by itself, and nobody looks at it.
        """
        rounds = {number for number, _ in places}
        for kept in (self._opening, self._opened, self._missing_since, self._again):
            for place in [place for place in kept if place[0] not in rounds]:
                del kept[place]
        self._hanging = {place for place in self._hanging if place[0] in rounds}

    def _leave_hanging(self, places: Sequence[_Place], *, closed: bool) -> None:
        """Gives up, as what is missing is, what the store hangs at; should it come in time after all, it is taken.

        It is asked no second time meanwhile, so that there is one thread at most for each gradient, which cost a bond.
        """
        for place in places:
            running = self._opening.get(place)
            if running is None or place in self._opened:
                continue
            if place not in self._hanging and running.waiting_seconds > _HANGING_SECONDS:
                self._hanging.add(place)
                self._tally.hanging_fetches.add()
                running.leave()
            if place in self._hanging and closed and self._given_up(place):
                self._opened[place] = Rejected(
                    Verdict.UNAVAILABLE, "unavailable: the store neither gave nor refused it"
                )

    def _is_due(self, place: _Place) -> bool:
        return place not in self._again or self._again[place].is_over

    def _take(self, place: _Place, result: Result | Missing, *, closed: bool) -> None:
        if not isinstance(result, Missing):
            self._opened[place], self._came = result, place[0]
            return
        self._tally.wrong_artifacts.add(result.wrong)
        self._again.setdefault(place, Patience(*_AGAIN_SECONDS)).fail()
        if closed and self._given_up(place):
            self._opened[place] = Rejected(Verdict.UNAVAILABLE, f"unavailable: {result.reason}")

    def _given_up(self, place: _Place) -> bool:
        since = self._missing_since.setdefault(place, time.monotonic())
        times = 1 if self._came == place[0] else _NOTHING_CAME
        return time.monotonic() - since >= times * self._capsule.policy.fetch_seconds

    def _context(self, submission: Submission) -> BoxContext:
        chain = self._capsule.chain
        return BoxContext(
            Purpose.GRADIENT,
            chain.chain_id,
            chain.address,
            submission.entry.mine,
            self._campaign.hex(),
            submission.round,
        )


def _first_only(places: Sequence[_Place], results: Sequence[Result]) -> Iterator[Result]:
    """The results, but a copy where an earlier account of the round submitted the very same gradient.

    Nobody makes the same ciphertexts by chance, so that both boxes hold them proves one origin.
    """
    seen: set[Digest] = set()
    for (_, entry), result in zip(places, results, strict=True):
        if isinstance(result, Opened) and entry.gradient in seen:
            yield Rejected(Verdict.COPY, "copy: an earlier account of this round submitted this gradient")
            continue
        if isinstance(result, Opened):
            seen.add(entry.gradient)
        yield result
