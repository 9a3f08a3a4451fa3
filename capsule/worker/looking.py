"""What the contract says of a campaign after a block, asked as rarely as the events allow.

It is asked when a gradient was told of, every half a minute of the chain's time in any case, and after the present
block before anything is signed or given up.
"""

from collections.abc import Callable
from dataclasses import dataclass

from capsule.parts import Capsule
from sonar.chain.lookups import Block
from sonar.chain.records import CampaignRecord, RoundRecord
from sonar.units import CampaignId

__all__ = ["LOOK_SECONDS", "Look", "Looks", "Newest"]

LOOK_SECONDS = 30
"""For how long, in the chain's time, what the contract said of a campaign is believed while no gradient is told of: a
node may leave out the one that closes a round."""

Newest = tuple[int, int, int] | None
"""Round, place and block of a campaign's last gradient, None before there is one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the contract said of a campaign after the block `tip`, and which gradient was the last one told of then."""

    tip: Block
    newest: Newest
    record: CampaignRecord
    round: RoundRecord


class Looks:
    """The last look at each campaign. Safe in threads, for different campaigns.

    `is_usual` says of a campaign whether it need not be looked at after every block.
    """

    def __init__(self, capsule: Capsule, is_usual: Callable[[CampaignId], bool]) -> None:
        self._capsule, self._is_usual = capsule, is_usual
        self._last: dict[CampaignId, Look] = {}

    def look(self, campaign: CampaignId, tip: Block, newest: Newest) -> Look:
        """What the contract says of the campaign after `tip`, as far as is known without asking it needlessly.

        `newest` is the last gradient told of. Raises ContractRevertError where the contract does not know the campaign.
        """
        known = self._last.get(campaign)
        if known is not None and self._holds(known, tip, newest):
            return known
        chain = self._capsule.chain
        found = chain.campaign(campaign, block=tip.number), chain.round(campaign, block=tip.number)
        # Another worker may have read on: what it was told of is news for the next look.
        told = newest if newest is None or newest[2] <= tip.number else None
        self._last[campaign] = look = Look(tip, told, *found)
        return look

    def has_nothing_due(self, campaign: CampaignId, tip: Block, newest: Newest) -> bool:
        """Whether the last look still holds, and the campaign has not come to an end by itself since."""
        look = self._last.get(campaign)
        if look is None or not self._holds(look, tip, newest):
            return False
        return look.round.count > 0 or tip.time < look.record.terms.deadline

    def is_latest(self, look: Look, tip: Block) -> bool:
        """Whether it was taken after `tip`; else the contract is asked anew the next time."""
        if look.tip.hash == tip.hash:
            return True
        self.forget(look.record.id)
        return False

    def is_still(self, look: Look, tip: Block) -> bool:
        """Whether the contract holds the same version and round after `tip`: a signature is never taken back."""
        return self.is_latest(look, tip) or _decisive(self.look(look.record.id, tip, look.newest)) == _decisive(look)

    def forget(self, campaign: CampaignId) -> None:
        """Has the contract asked anew at the next look."""
        self._last.pop(campaign, None)

    def forget_all_but(self, running: set[CampaignId]) -> None:
        """Gives up what is known of other campaigns."""
        for campaign in set(self._last) - running:
            self._last.pop(campaign, None)

    def _holds(self, look: Look, tip: Block, newest: Newest) -> bool:
        """Whether it is what the contract says after `tip` too, as far as events tell."""
        if look.tip.hash == tip.hash:
            return True
        is_recent = newest == look.newest and 0 <= tip.time - look.tip.time < LOOK_SECONDS
        return is_recent and self._is_usual(look.record.id)


def _decisive(look: Look) -> tuple[object, ...]:
    """What a settlement is about."""
    record, round_ = look.record, look.round
    return record.status, record.version, record.score, round_.number, round_.head
