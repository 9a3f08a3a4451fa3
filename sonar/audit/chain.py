"""What the chain tells of a campaign, folded event after event: order, rounds, signatures and money must fit.

Everything is computed from the events alone and compared with what the contract and the oracle said. What it takes for
granted is that the node shows the chain as it is; a node that invents an event meets a signature, a hash chain or a sum
that does not fit.
"""

from collections import Counter
from dataclasses import dataclass, field

from sonar.audit.ending import check_end
from sonar.audit.money import Escrow, bond_returned, split
from sonar.audit.report import Notes
from sonar.audit.rules import settlement_problems
from sonar.audit.signatures import check_admission, check_settlement
from sonar.audit.story import Story
from sonar.chain.events import (
    BountyRaised,
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    CampaignTransferStarted,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.heads import entries_head
from sonar.chain.records import NATIVE, Entry, Outcome, Settlement, Status
from sonar.units import Address, Wei, format_ppm

__all__ = ["Fold", "Settled", "fold"]


@dataclass(frozen=True, slots=True)
class Settled:
    """A settled round as the events tell it: its settlement and its gradients in the order of submission."""

    settlement: Settlement
    gradients: tuple[GradientSubmitted, ...]

    @property
    def place(self) -> str:
        """Its name in a report."""
        return f"round {self.settlement.round}"

    @property
    def kept(self) -> list[tuple[GradientSubmitted, int]]:
        """The gradients that went into the next model, and their weights."""
        return [(gradient, outcome.weight) for gradient, outcome in
                zip(self.gradients, self.settlement.outcomes, strict=True) if outcome.weight]  # fmt: skip


@dataclass(slots=True)
class Fold:
    """A campaign's state after the events so far, and the bonds in them: posted, returned, lost, and given back."""

    story: Story
    notes: Notes
    created: CampaignCreated
    escrow: Escrow
    owner: Address
    offered_to: Address = NATIVE
    round: int = 0
    settled: int = 0
    version: int = 0
    status: Status = Status.RUNNING
    finish_due: bool = False
    pending: list[GradientSubmitted] = field(default_factory=list)
    judged: list[GradientJudged] = field(default_factory=list)
    posted: int = 0
    returned: int = 0
    lost: int = 0
    expired: int = 0
    rounds: list[Settled] = field(default_factory=list)
    keys: Counter[bytes] = field(default_factory=Counter)

    def take(self, event: Event) -> None:
        """The next event of the campaign; one of another campaign is none of its own."""
        if isinstance(event, Withdrawn) or event.id != self.story.campaign:
            self.notes.differs("order", "campaign", f"the node has a {type(event).__name__} of another campaign in it")
            return
        if self.finish_due and not isinstance(event, CampaignFinished):
            self._unfinished()
        match event:
            case GradientSubmitted():
                self._submitted(event)
            case GradientJudged():
                self.judged.append(event)
            case RoundSettled():
                self._settled(event)
            case RoundExpired():
                self._expired(event)
            case BountyRaised():
                self._raised(event)
            case CampaignTransferStarted():
                self.notes.compare("owner", "campaign", "who offered the campaign", event.owner, self.owner)
                self.offered_to = event.pending_owner
            case CampaignTransferred():
                self.notes.compare("owner", "campaign", "who gave the campaign away", event.previous_owner, self.owner)
                self.notes.compare("owner", "campaign", "who took the campaign", event.new_owner, self.offered_to)
                self.owner, self.offered_to = event.new_owner, NATIVE
            case CampaignFinished():
                self._require_finish(event)
            case CampaignClosed():
                self._closed(event)
            case CampaignCreated():
                self.notes.differs("order", "campaign", "it was created twice")

    def end(self) -> None:
        """After the last event: nothing may be left over that another one should have followed."""
        if self.finish_due:
            self._unfinished()
        self._require_none_judged(f"round {self.round}")

    # ---- events

    def _submitted(self, event: GradientSubmitted) -> None:
        notes, terms, place = self.notes, self.created.terms, f"round {event.round}, gradient {event.index}"
        notes.compare(
            "order", place, "its round and place", (event.round, event.index), (self.round, len(self.pending))
        )
        if self.status is not Status.RUNNING:
            notes.differs("order", place, f"it was posted in a campaign that is {self.status.name.lower()}")
        if event.mine in {one.mine for one in self.pending}:
            notes.differs("order", place, f"{event.mine} posted a second gradient in this round")
        if len(self.pending) >= terms.round_size:
            notes.differs("order", place, f"the round had its {terms.round_size} gradients already")
        time = self.story.times[event.block]
        if time >= self.closes_at():
            notes.differs("order", place, f"it was posted at {time}, when the round was over ({self.closes_at()})")
        self.pending.append(event)
        self.posted += terms.bond

    def _settled(self, event: RoundSettled) -> None:
        notes, terms, place = self.notes, self.created.terms, f"round {event.round}"
        notes.compare("order", place, "its number", event.round, self.round)
        if self.status is not Status.RUNNING:
            notes.differs("order", place, f"it was settled in a campaign that is {self.status.name.lower()}")
        time = self.story.times[event.block]
        if len(self.pending) < terms.round_size and time < self.closes_at():
            notes.differs("order", place, f"it was settled at {time}, before it was over ({self.closes_at()})")
        named = [(one.round, one.mine, one.index) for one in self.judged]
        posted = [(self.round, one.mine, place_) for place_, one in enumerate(self.pending)]
        if any(one.transaction != event.transaction for one in self.judged):
            notes.differs("entries", place, "its gradients were judged in another transaction than it was settled in")
        if not notes.require("entries", place, named == posted, f"all {len(posted)} gradients were judged, in order",
                             f"judged were {_names(named)}, but posted {_names(posted)}"):  # fmt: skip
            self._next(settled=True)
            return
        entries = [Entry(one.mine, one.artifact, one.gradient) for one in self.pending]
        settlement = Settlement(
            event.id, event.round, entries_head(self.story.campaign, event.round, entries), event.score,
            event.exponent, event.model, event.key, event.product, event.model_cid, event.product_cid,
            tuple(Outcome(one.verdict, one.weight, one.share) for one in self.judged),
        )  # fmt: skip
        check_settlement(self.story, settlement, self.created.oracle, event.transaction, notes)
        problems = settlement_problems(settlement, terms, self.escrow.score)
        notes.require(
            "verdicts", place, not problems, f"its score is {format_ppm(settlement.score)}", "; ".join(problems)
        )
        self._check_money(settlement, event)
        self.rounds.append(settled := Settled(settlement, tuple(self.pending)))
        self._require_no_copies(settled)
        if settlement.advances:
            self.version += 1
            self.keys[event.key] += 1
        self._next(settled=True)
        self.finish_due = self.escrow.score >= terms.target or self.settled == terms.max_rounds

    def _expired(self, event: RoundExpired) -> None:
        place, terms = f"round {event.round}", self.created.terms
        self.notes.compare("order", place, "its number", event.round, self.round)
        time = self.story.times[event.block]
        due = self.closes_at() + terms.settlement_seconds
        self.notes.require("order", place, bool(self.pending) and time >= due, "it was given up after its time",
                           f"it was given up at {time}, before {due}")  # fmt: skip
        self._require_none_judged(place)
        self.expired += terms.bond * len(self.pending)
        self._next(settled=False)

    def _raised(self, event: BountyRaised) -> None:
        notes, terms, time = self.notes, self.created.terms, self.story.times[event.block]
        if self.status is not Status.RUNNING or self.escrow.score >= terms.target:
            notes.differs("bounty", "campaign", "it was raised in a campaign that was over")
            return
        if time >= terms.deadline:
            notes.differs("bounty", "campaign", f"it was raised at {time}, past the deadline ({terms.deadline})")
        self.escrow.add(event.amount)
        notes.compare("bounty", "campaign", f"the bounty that {event.sender} raised", event.bounty, self.escrow.bounty)

    def _require_finish(self, event: CampaignFinished) -> None:
        terms = self.created.terms
        due = self.escrow.score >= terms.target or self.settled == terms.max_rounds
        self.notes.require("order", "campaign", due and event.score == self.escrow.score,
                           f"it is finished at {format_ppm(event.score)}",
                           f"it was finished at {format_ppm(event.score)} after {self.settled} rounds, before its "
                           f"target {format_ppm(terms.target)} and its {terms.max_rounds} rounds")  # fmt: skip
        self.status, self.finish_due = Status.FINISHED, False

    def _closed(self, event: CampaignClosed) -> None:
        rest = self.escrow.bounty - self.escrow.paid
        self.notes.compare("conservation", "campaign", "what the owner gets back of the bounty", event.refund, rest)
        self.notes.compare("owner", "campaign", "who closed it", event.owner, self.owner)
        if self.pending:
            self.notes.differs("order", "campaign", f"it was closed with {len(self.pending)} gradients not judged")
        time, deadline = self.story.times[event.block], self.created.terms.deadline
        if self.status is Status.CLOSED:
            self.notes.differs("order", "campaign", "it was closed twice")
        elif self.status is Status.RUNNING and self.version and time < deadline:
            self.notes.differs("order", "campaign", f"it was closed at {time}, in the middle of it: its deadline is "
                               f"{deadline}")  # fmt: skip
        self.status = Status.CLOSED

    def _check_money(self, settlement: Settlement, event: RoundSettled) -> None:
        notes, terms, place = self.notes, self.created.terms, f"round {event.round}"
        payout = self.escrow.advance(settlement.score) if settlement.advances else Wei(0)
        notes.compare("payout", place, "the payout", event.payout, payout)
        earned = split(payout, [one.share for one in self.judged])
        for one, due in zip(self.judged, earned, strict=True):
            gradient = f"{place}, gradient {one.index}"
            notes.compare("share", gradient, f"the pay of {one.mine}", one.payout, due)
            back = bond_returned(terms.bond, terms.slash, one.verdict)
            notes.compare("bond", gradient, "what comes back of its bond", one.bond_returned, back)
            self.returned += one.bond_returned
            self.lost += terms.bond - back

    # ---- helpers

    def _require_no_copies(self, settled: Settled) -> None:
        """One gradient counts for one mine, whoever else posts it again."""
        first: dict[bytes, GradientSubmitted] = {}
        for gradient, _ in settled.kept:
            other = first.setdefault(gradient.gradient, gradient)
            if other is not gradient:
                self.notes.differs("verdicts", f"{settled.place}, gradient {gradient.index}",
                                   f"it is gradient {other.index} again, and both were kept")  # fmt: skip

    def _require_none_judged(self, place: str) -> None:
        if self.judged:
            self.notes.differs("entries", place, f"{len(self.judged)} gradients were judged, and no round was settled")

    def _unfinished(self) -> None:
        self.finish_due = False
        self.notes.differs("order", "campaign", f"it was not finished at {format_ppm(self.escrow.score)} after "
                           f"{self.settled} rounds, though that was its end")  # fmt: skip

    def closes_at(self) -> int:
        """When the present round stops taking gradients; without any, only the deadline ends it."""
        deadline = self.created.terms.deadline
        if not self.pending:
            return deadline
        opened = self.story.times[self.pending[0].block]
        return min(opened + self.created.terms.round_seconds, deadline)

    def _next(self, *, settled: bool) -> None:
        self.round += 1
        self.settled += settled
        self.pending, self.judged = [], []


def fold(story: Story, notes: Notes) -> tuple[CampaignCreated | None, list[Settled]]:
    """Checks a campaign's events from its creation on; gives the creation and the settled rounds."""
    if story.code_problem is None:
        notes.holds("contract", "campaign", f"{story.domain.contract} holds this version's contract, byte for byte")
    else:
        notes.differs("contract", "campaign", story.code_problem)
    if not story.events or not isinstance(story.events[0], CampaignCreated):
        notes.unchecked("order", "campaign", "its creation is not the first of its events: is the network's "
                        "start_block right, or does the node leave it out?")  # fmt: skip
        return None, []
    created = story.events[0]
    start = created.admission.start_score
    state = Fold(story, notes, created, Escrow(created.terms, start), created.owner)
    state.keys[created.admission.key] += 1
    check_admission(story, created, notes)
    if not start < created.terms.target:
        return created, []  # which was said; nothing can be paid by such terms
    for event in story.events[1:]:
        state.take(event)
    state.end()
    check_end(state)
    return created, state.rounds


def _names(entries: list[tuple[int, Address, int]]) -> str:
    return ", ".join(f"{index} of {mine}" for _, mine, index in entries) or "none"
