"""The rules of campaigns in plain Python, once more from the specification: terms, rounds, results and payouts."""

from dataclasses import dataclass, field
from fractions import Fraction

from machine.wire import ZERO, Terms, chained, seeded

__all__ = [
    "CLOSED",
    "COPY",
    "FINISHED",
    "GAIN",
    "KEPT",
    "LEFT_OUT",
    "MAX_BOUNTY",
    "NATIVE",
    "NONE",
    "PPM",
    "RUNNING",
    "TARGET",
    "UNAVAILABLE",
    "Campaign",
    "Refusal",
    "Token",
    "check_entries",
    "check_result",
    "check_terms",
]

NATIVE = 0
PPM = 1_000_000
MAX_BOUNTY = 2**128 - 1
MINUTE, DAY = 60, 86_400
MAX_ROUND_SIZE = 64
MAX_ROUND_SECONDS = 30 * DAY
MIN_SETTLEMENT_SECONDS, MAX_SETTLEMENT_SECONDS = 10 * MINUTE, 365 * DAY
MAX_CAMPAIGN_SECONDS = 5 * 365 * DAY

NONE, RUNNING, FINISHED, CLOSED = range(4)
LEFT_OUT, KEPT, UNAVAILABLE, INVALID, COPY = range(5)
TARGET, GAIN = range(2)


class Refusal(Exception):
    """The call reverts, with this error; without a name if it reverts with no data."""

    def __init__(self, name="", *arguments):
        super().__init__(name, *arguments)
        self.name = name
        self.arguments = arguments


@dataclass
class Token:
    """How a token behaves at present."""

    mood: str = "honest"
    allowances: bool = True
    """Whether it asks who approved it."""


@dataclass
class Campaign:
    """A campaign, and all that it has promised and paid."""

    id: bytes
    owner: int
    oracle: int
    terms: Terms
    start_score: int
    score: int
    head: bytes
    lines: list[tuple[int, int]]
    """What it pays: to each line's slope, the rise above the line's own score counts, over `base`."""
    additions: list[tuple[int, int]] = field(default_factory=list)
    """The top-ups: how much, and at which score."""
    status: int = RUNNING
    pending_owner: int = 0
    round: int = 0
    settled: int = 0
    version: int = 0
    opened_at: int = 0
    entries: list = field(default_factory=list)
    last_submission: dict[int, int] = field(default_factory=dict)
    paid: int = 0
    refund: int = 0

    @property
    def base(self):
        return self.terms.target - (self.start_score if self.terms.payout_base == GAIN else 0)

    @property
    def closes_at(self):
        return min(self.opened_at + self.terms.round_seconds, self.terms.deadline)

    @property
    def expires_at(self):
        return self.closes_at + self.terms.settlement_seconds

    def is_round_closed(self, time):
        return bool(self.entries) and (len(self.entries) == self.terms.round_size or time >= self.closes_at)

    def paid_at(self, score):
        """All that is paid once the campaign is at a score, which is not below its present one."""
        reached = min(score, self.terms.target)
        if reached == self.terms.target and self.terms.payout_base == GAIN:
            return self.terms.bounty
        return sum(slope * (reached - since) for slope, since in self.lines) // self.base

    def quote(self, score):
        """What the next round would pay."""
        return self.paid_at(score) - self.paid if self.status == RUNNING and score > self.score else 0

    def add(self, amount):
        """Tops the bounty up: the addition's own line begins at the present score."""
        slope = amount
        if self.terms.payout_base == GAIN:
            # The line leads to the whole addition at the target; rounded down, it never passes it.
            slope = amount * self.base // (self.terms.target - self.score)
        self.lines.append((slope, self.score))
        self.additions.append((amount, self.score))
        self.terms = self.terms._replace(bounty=self.terms.bounty + amount)

    def some_scores(self):
        """Scores at which payouts may go wrong."""
        score, target = self.score, self.terms.target
        least = min(score + self.terms.min_gain, PPM)
        return [score, min(score + 1, PPM), least, (score + target) // 2, target - 1, target, min(target + 1, PPM), PPM]

    def ideal(self, score):
        """What `paid_at` approximates: the bounty's line and one for each addition, without any rounding."""
        reached = min(score, self.terms.target)
        total = Fraction(
            (self.terms.bounty - sum(a for a, _ in self.additions)) * (reached - self.start_score), self.base
        )
        for amount, since in self.additions:
            base = self.base if self.terms.payout_base == TARGET else self.terms.target - since
            total += Fraction(amount * (reached - since), base)
        return total

    def view(self):
        """What getCampaign answers."""
        state = (self.start_score, self.score, self.base, self.version, self.paid)
        return (self.owner, self.oracle, self.status, self.terms, *state)

    def view_round(self, now):
        """What getRound answers."""
        is_open = self.status == RUNNING and now < self.terms.deadline and not self.is_round_closed(now)
        times = (self.opened_at, self.closes_at, self.expires_at) if self.entries else (0, 0, 0)
        return (self.round, self.settled, len(self.entries), self.head, *times, is_open)


def check_entries(campaign, entries):
    if entries == campaign.entries:
        return
    given = seeded(campaign.id, campaign.round)
    for entry in entries:
        given = chained(given, entry)
    if given != campaign.head:
        raise Refusal("Sonar_WrongHead", campaign.id, given, campaign.head)


def check_terms(terms, start_score, time):
    if terms.bounty == 0:
        raise Refusal("Sonar_BountyZero")
    if terms.slash > PPM:
        raise Refusal("Sonar_SlashAboveOne", terms.slash)
    if not start_score < terms.target <= PPM:
        raise Refusal("Sonar_TargetOutOfRange", terms.target, start_score)
    if not 1 <= terms.round_size <= MAX_ROUND_SIZE:
        raise Refusal("Sonar_RoundSizeOutOfRange", terms.round_size, MAX_ROUND_SIZE)
    if not 1 <= terms.min_mines <= terms.round_size:
        raise Refusal("Sonar_MinMinesOutOfRange", terms.min_mines, terms.round_size)
    if not 1 <= terms.min_gain <= PPM - start_score:
        raise Refusal("Sonar_MinGainOutOfRange", terms.min_gain, start_score)
    if terms.max_rounds == 0:
        raise Refusal("Sonar_MaxRoundsZero")
    if not 1 <= terms.round_seconds <= MAX_ROUND_SECONDS:
        raise Refusal("Sonar_RoundSecondsOutOfRange", terms.round_seconds, MAX_ROUND_SECONDS)
    if not MIN_SETTLEMENT_SECONDS <= terms.settlement_seconds <= MAX_SETTLEMENT_SECONDS:
        limits = (MIN_SETTLEMENT_SECONDS, MAX_SETTLEMENT_SECONDS)
        raise Refusal("Sonar_SettlementSecondsOutOfRange", terms.settlement_seconds, *limits)
    latest = time + MAX_CAMPAIGN_SECONDS
    if not time < terms.deadline <= latest:
        raise Refusal("Sonar_DeadlineOutOfRange", terms.deadline, time, latest)


def check_result(campaign, settlement):
    advances = settlement.model != ZERO
    artifacts = (settlement.key, settlement.product)
    extras = (*artifacts, settlement.exponent, settlement.model_cid, settlement.product_cid)
    if (ZERO in artifacts) if advances else (extras != (ZERO, ZERO, 0, "", "")):
        raise Refusal("Sonar_InconsistentSettlement", campaign.id, campaign.round)
    least = campaign.score + campaign.terms.min_gain
    if not (least <= settlement.score <= PPM if advances else settlement.score == campaign.score):
        raise Refusal("Sonar_ScoreOutOfRange", settlement.score, campaign.score, campaign.terms.min_gain)
    kept = [advances and outcome.verdict == KEPT for outcome in settlement.outcomes]
    for index, (outcome, is_kept) in enumerate(zip(settlement.outcomes, kept, strict=True)):
        fair = outcome.weight > 0 if is_kept else outcome.verdict != KEPT and outcome.weight == outcome.share == 0
        if not fair:
            raise Refusal("Sonar_InconsistentOutcome", index)
    if advances and sum(kept) < campaign.terms.min_mines:
        raise Refusal("Sonar_TooFewKept", sum(kept), campaign.terms.min_mines)
    shares = sum(outcome.share for outcome in settlement.outcomes)
    if advances and shares != PPM:
        raise Refusal("Sonar_WrongShareSum", shares, PPM)
