"""Campaigns that seem to have gone on without this database, until the contract says otherwise.

A node that tells of a settlement which never was cannot be told from one that tells of another Capsule's. Whichever it
is shows in the contract at a later block: it has a version that this database does not hold, or just the one it holds.
"""

import logging

from capsule.parts import Capsule
from capsule.worker.patience import Patience
from sonar.chain.errors import ContractRevertError
from sonar.chain.lookups import Block
from sonar.units import CampaignId

__all__ = ["MissedCampaigns"]

_log = logging.getLogger("capsule.worker.missing")
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
"""Seconds until the contract is asked once more about a campaign."""


class MissedCampaigns:
    """The campaigns whose versions are missed, by one worker. Not safe in threads."""

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule
        self._asked: dict[CampaignId, Patience] = {}

    def present(self, tip: Block) -> dict[CampaignId, int]:
        """The missed campaigns, each with its first round that this database has no settlement of.

        One is forgotten where the contract, after `tip`, has the version and the score that this database has.
        """
        state, found = self._capsule.state, {}
        missed = state.missed_blocks()
        self._asked = {campaign: asked for campaign, asked in self._asked.items() if campaign in missed}
        for campaign, (number, block) in missed.items():
            if tip.number > block and self._is_held(campaign, tip):
                state.forget_missed(campaign, number, block)
                _log.warning("round %d of 0x%s was not settled without this database: the node told of what never was",
                             number, campaign.hex()[:16])  # fmt: skip
            else:
                found[campaign] = number
        return found

    def _is_held(self, campaign: CampaignId, tip: Block) -> bool:
        patience = self._asked.setdefault(campaign, Patience(_FIRST_WAIT, _LONGEST_WAIT))
        if not patience.is_over:
            return False
        patience.fail()
        newest = self._capsule.state.version(campaign)
        try:
            record = self._capsule.chain.campaign(campaign, block=tip.number)
        except ContractRevertError:
            return False
        return newest is not None and (newest.number, newest.score) == (record.version, record.score)
