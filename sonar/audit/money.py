"""What a campaign pays, computed as `ISonar.sol` promises it: payouts from scores, bonds from verdicts.

    paid at score s = bounty (min(s, target) - start) / base,  rounded down

with base the target, or target - start. Each addition to the bounty steepens that line from the present score on.
"""

from collections.abc import Sequence

from sonar.chain.records import NATIVE, PayoutBase, Terms, Verdict
from sonar.units import PPM, Address, Ppm, Wei

__all__ = ["Escrow", "bond_returned", "due_of", "split"]


class Escrow:
    """A campaign's bounty as it is earned; `score` is where it stands, in ppm."""

    def __init__(self, terms: Terms, start: Ppm) -> None:
        self._terms, self._start = terms, start
        self._slope, self._offset, self._raised = int(terms.bounty), 0, False
        self.bounty = terms.bounty
        self.score = start

    @property
    def base(self) -> int:
        """The denominator of the payout formula, in ppm."""
        terms = self._terms
        return terms.target if terms.payout_base is PayoutBase.TARGET else terms.target - self._start

    def paid_at(self, score: int) -> Wei:
        """What has been paid in all once the campaign is at a score, not below the present one."""
        target = self._terms.target
        if self._raised and self._terms.payout_base is PayoutBase.GAIN and score >= target:
            return self.bounty
        return Wei((self._slope * (min(score, target) - self._start) - self._offset) // self.base)

    def advance(self, score: Ppm) -> Wei:
        """Moves to a score, and gives what that pays."""
        payout = self.paid_at(score) - self.paid_at(self.score)
        self.score = score
        return Wei(payout)

    def add(self, amount: int) -> None:
        """Raises the bounty: what is still to be earned rises, what was paid stays."""
        slope = amount
        if self._terms.payout_base is PayoutBase.GAIN:
            slope = slope * self.base // (self._terms.target - self.score)
        self._slope += slope
        self._offset += slope * (self.score - self._start)
        self._raised = True
        self.bounty = Wei(self.bounty + amount)

    @property
    def paid(self) -> Wei:
        """What was paid so far."""
        return self.paid_at(self.score)


def split(payout: int, shares: Sequence[int]) -> list[int]:
    """A payout by shares in ppm, rounded down; the last one with a share takes what that leaves."""
    parts = [payout * share // PPM for share in shares]
    paid = [place for place, share in enumerate(shares) if share]
    if paid:
        parts[paid[-1]] += payout - sum(parts)
    return parts


def due_of(token: Address, bounty: int, bonds: int) -> dict[Address, int]:
    """What must be there, by token, for so much of a bounty in `token`, and for bonds, which are native coin."""
    return {NATIVE: bounty + bonds} if token == NATIVE else {token: bounty, NATIVE: bonds}


def bond_returned(bond: int, slash: int, verdict: Verdict) -> int:
    """What comes back of a bond, in wei."""
    if verdict is Verdict.KEPT:
        return bond
    if verdict in (Verdict.LEFT_OUT, Verdict.UNAVAILABLE):
        return bond - bond * slash // PPM
    return 0
