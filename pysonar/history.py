"""What has happened in a campaign, told from its events: rounds, gradients, payouts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from sonar.chain.events import (
    CampaignCreated,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
)
from sonar.chain.records import Verdict
from sonar.units import Address, Cid, Digest, Ppm, Wei

__all__ = ["Gradient", "History", "Payout", "Round", "RoundState"]

_NOTHING = Wei(0)
_NO_SHARE = Ppm(0)


class RoundState(StrEnum):
    """Where a round stands. `PENDING`: it takes gradients, or waits for the Capsule."""

    PENDING = "pending"
    ADVANCED = "advanced"
    STAYED = "stayed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Gradient:
    """One gradient: `index` counts over the campaign, `position` in its round; the verdict is None until it is judged.

    `share` is its part of the round's payout in ppm, `payout` in the campaign's token, `bond_returned` in wei.
    `reason` is the Capsule's sentence on it, for people; empty until that is had, and in what events alone tell.
    """

    index: int
    round: int
    position: int
    mine: Address
    artifact: Digest
    gradient: Digest
    cid: Cid
    verdict: Verdict | None = None
    weight: int = 0
    share: Ppm = _NO_SHARE
    payout: Wei = _NOTHING
    bond_returned: Wei = _NOTHING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: the score after it in ppm (None while pending), and what its mines were paid together."""

    number: int
    state: RoundState
    score: Ppm | None
    payout: Wei
    gradients: tuple[Gradient, ...]


@dataclass(frozen=True, slots=True)
class Payout:
    """What one mine has earned in a campaign, bonds not counted."""

    mine: Address
    gradients: int
    kept: int
    amount: Wei


class History:
    """The events of one campaign, folded one after another in chain order."""

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}
        self._submitted = 0
        self._score: Ppm | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> "History":
        """The history that these events tell."""
        history = cls()
        for event in events:
            history.add(event)
        return history

    def add(self, event: Event) -> None:
        """Takes the next event of the campaign."""
        match event:
            case CampaignCreated():
                self._score = event.admission.start_score
            case GradientSubmitted():
                gradient = Gradient(
                    self._submitted, event.round, event.index, event.mine, event.artifact, event.gradient, event.cid
                )
                self._submitted += 1
                held = self._round(event.round)
                self._rounds[event.round] = replace(held, gradients=(*held.gradients, gradient))
            case GradientJudged():
                held = self._round(event.round)
                self._rounds[event.round] = replace(
                    held, gradients=tuple(_judged(gradient, event) for gradient in held.gradients)
                )
            case RoundSettled():
                self._score = event.score
                state = RoundState.ADVANCED if event.advances else RoundState.STAYED
                held = self._round(event.round)
                self._rounds[event.round] = replace(held, state=state, score=event.score, payout=event.payout)
            case RoundExpired():
                held = self._round(event.round)
                self._rounds[event.round] = replace(held, state=RoundState.EXPIRED, score=self._score)
            case _:
                pass  # what is left says nothing of rounds

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Every round that has held a gradient, in order."""
        return tuple(self._rounds[number] for number in sorted(self._rounds))

    @property
    def gradients(self) -> tuple[Gradient, ...]:
        """Every gradient in the order of submission."""
        return tuple(self._all_gradients())

    @property
    def payouts(self) -> tuple[Payout, ...]:
        """What every mine that posted has earned, the best paid first."""
        totals: dict[Address, Payout] = {}
        for gradient in self._all_gradients():
            before = totals.get(gradient.mine, Payout(gradient.mine, 0, 0, _NOTHING))
            totals[gradient.mine] = Payout(
                gradient.mine,
                before.gradients + 1,
                before.kept + (gradient.verdict is Verdict.KEPT),
                Wei(before.amount + gradient.payout),
            )
        return tuple(sorted(totals.values(), key=lambda payout: -payout.amount))

    def _round(self, number: int) -> Round:
        return self._rounds.get(number) or Round(number, RoundState.PENDING, None, _NOTHING, ())

    def _all_gradients(self) -> Iterator[Gradient]:
        for held in self.rounds:
            yield from held.gradients


def _judged(gradient: Gradient, event: GradientJudged) -> Gradient:
    if gradient.position != event.index:
        return gradient
    return replace(
        gradient,
        verdict=Verdict(event.verdict),
        weight=event.weight,
        share=event.share,
        payout=event.payout,
        bond_returned=event.bond_returned,
    )
