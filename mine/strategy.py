"""What work is worth, in which order campaigns are served, and which of them rest for a while; all of it pure.

A gradient's expected payout is learned from what the campaign's rounds have paid and, more with every round, from what
this mine's own gradients got. Amounts are wei of the native coin, or the smallest unit of the campaign's token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mine.records import KnownCampaign
from sonar.chain.records import CampaignRecord, Terms, Verdict
from sonar.units import PPM, CampaignId, Wei

__all__ = [
    "FUNDED_GAS", "SUBMISSION_GAS", "Estimate", "OwnRound", "Rest", "alone_until", "at_risk_alone", "estimate",
    "in_turn", "payable", "promised", "rest_of", "sharers", "short_rounds", "unpaid_rounds",
]  # fmt: skip

SUBMISSION_GAS: Final = 72_000
"""What posting a gradient takes at most, see docs/gas.md."""
FUNDED_GAS: Final = 120_000
"""What an account must be able to pay for before it posts one: nodes ask for the gas limit, which has some to spare."""
_HORIZON: Final = 8
"""In so many rounds a campaign about which nothing is known is taken to pay what it has left."""
_PRIOR_ROUNDS: Final = 4
"""As so many rounds without a loss what is known beforehand counts: honest work is mostly kept."""
_TRIES: Final = 1
"""So many rounds in a row may bring nothing before one is left out."""
_LONGEST_REST: Final = 16
"""A rest is 2 to the power of this many rounds at most."""


@dataclass(frozen=True, slots=True)
class OwnRound:
    """What one round brought this mine; `verdict` is None where its gradient was never judged, `ended` is Unix time.

    `short`: it was left out because fewer gradients came than the campaign keeps at least, whatever it was worth.
    """

    round: int
    verdict: Verdict | None
    payout: Wei
    ended: float
    short: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one more gradient is expected to bring and to cost: pay in the campaign's token, the rest in native coin."""

    payout: Wei
    gas: Wei
    bond_loss: Wei

    @property
    def cost(self) -> Wei:
        """Gas and the bond's expected loss."""
        return Wei(self.gas + self.bond_loss)

    @property
    def gain(self) -> int:
        """What is left of the pay, below 0 for a loss; of campaigns in native coin."""
        return self.payout - self.cost


@dataclass(frozen=True, slots=True)
class Rest:
    """A campaign is left alone until its round `until_round`, or until `until` (Unix time), whichever is first."""

    until_round: int
    until: float

    def holds(self, round: int, now: float) -> bool:  # noqa: A002
        """Whether it is not over in a round and at a moment."""
        return round < self.until_round and now < self.until


def payable(record: CampaignRecord) -> Wei:
    """What the contract still pays if the score rises to the target: c(target) - c(score).

    c(x) = bounty (min(x, target) - start) / base, rounded down.
    """
    return Wei(promised(record) - _paid_at(record, record.score))


def promised(record: CampaignRecord) -> Wei:
    """What the contract pays for the whole way from the start score to the target."""
    return _paid_at(record, record.terms.target)


def _paid_at(record: CampaignRecord, score: int) -> Wei:
    return Wei(record.terms.bounty * (min(score, record.terms.target) - record.start_score) // record.base)


def unpaid_rounds(own: Sequence[OwnRound]) -> int:
    """How many of the last rounds in a row brought nothing; those to which too few came say nothing of the work."""
    count = 0
    for one in _full(own):
        if one.payout:
            break
        count += 1
    return count


def short_rounds(own: Sequence[OwnRound]) -> int:
    """To how many of this mine's last rounds in a row too few other gradients came."""
    count = 0
    for one in own:
        if not one.short:
            break
        count += 1
    return count


def at_risk_alone(terms: Terms, others: int) -> Wei:
    """What of the bond a round costs that holds `others` gradients, if none comes but this mine's: nothing if enough.

    The contract lets no round advance that keeps fewer than `min_mines`, and a gradient that is not kept loses `slash`.
    """
    return Wei(0) if others + 1 >= terms.min_mines else Wei(terms.bond * terms.slash // PPM)


def alone_until(own: Sequence[OwnRound], round_seconds: int) -> float:
    """Until when (Unix time) a mine to whose last rounds too few others came lets somebody else post first.

    After one such round for as long as two rounds last, then four, then eight: were it for good, mines that have each
    been alone once would wait for each other.
    """
    return own[0].ended + (1 << min(short_rounds(own), _LONGEST_REST)) * round_seconds


def _full(own: Sequence[OwnRound]) -> list[OwnRound]:
    return [one for one in own if not one.short]


def sharers(terms: Terms, present: int, before: int) -> int:
    """How many gradients are expected to share a round's pay that holds `present` without this mine's.

    At least those that it holds and this one, those that the campaign keeps at least, and as many as came into the
    round before (`before`, 0 for the first); at most a full round's.
    """
    return min(terms.round_size, max(present + 1, terms.min_mines, before))


def estimate(
    record: CampaignRecord, settled: int, own: Sequence[OwnRound], gas_price: Wei, *, shared_by: int
) -> Estimate:
    """What one more gradient is expected to bring and to cost.

    Every round is taken to pay the same part of what was left before it, as the `settled` rounds did together with one
    more that pays an eighth. So many gradients share that; then each of this mine's `own` rounds (the latest first)
    to which enough gradients came counts as much as all before.
    """
    left, all_of_it = payable(record), promised(record)
    rounds = max(2, min(_HORIZON, record.terms.max_rounds - settled))
    part = 1 - (left / all_of_it * (1 - 1 / rounds)) ** (1 / (settled + 1)) if left else 0.0
    payout = int(left * part) // shared_by
    for one in reversed(_full(own)):
        payout = (payout + one.payout) // 2
    return Estimate(
        Wei(min(payout, left)), Wei(SUBMISSION_GAS * gas_price), _bond_loss(record.terms, [one.verdict for one in own])
    )


def _bond_loss(terms: Terms, verdicts: Sequence[Verdict | None]) -> Wei:
    """The part of the bond that is expected to be lost, by this mine's verdicts and one loss in five before them."""
    judged = [verdict for verdict in verdicts if verdict is not None]
    slashed = 1 + sum(verdict in {Verdict.LEFT_OUT, Verdict.UNAVAILABLE} for verdict in judged)
    taken = sum(verdict in {Verdict.INVALID, Verdict.COPY} for verdict in judged)
    return Wei(terms.bond * (slashed * terms.slash + taken * PPM) // (PPM * (len(judged) + _PRIOR_ROUNDS + 1)))


def rest_of(own: Sequence[OwnRound], round_seconds: int) -> Rest | None:
    """How long a campaign is left alone that paid nothing in this mine's last rounds (the latest first), if at all.

    After two unpaid rounds in a row one round is left out, after three two, after four four. Where no mine posts the
    round never ends, so the time that those rounds take at least ends the rest too.
    """
    unpaid = unpaid_rounds(own)
    if unpaid <= _TRIES:
        return None
    skipped, last = 1 << min(unpaid - _TRIES - 1, _LONGEST_REST), _full(own)[0]
    return Rest(last.round + 1 + skipped, last.ended + skipped * round_seconds)


def in_turn(campaigns: Iterable[KnownCampaign], served: Mapping[CampaignId, int]) -> list[KnownCampaign]:
    """Campaigns in the order of their turns: never served, then the one served longest ago, first.

    `served` counts up over all campaigns: the higher, the later a campaign had its turn.
    """
    return sorted(campaigns, key=lambda campaign: served.get(campaign.id, 0))
