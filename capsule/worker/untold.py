"""Campaigns that were admitted and that the chain has, of whose creation no event was told.

A node that leaves a log out, as one of several behind an address does while it lags, would else have a campaign never
served, and nobody told of that. So the contract is asked about each admission whose campaign was not yet seen, less and
less often, for the last time when the admission is good no more. Where the contract has it, its creation is looked for
among its own events, and everything since then is read again.
"""

import logging

from capsule.errors import CapsuleError
from capsule.parts import Capsule
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ContractRevertError
from sonar.chain.events import CampaignCreated
from sonar.chain.lookups import Block
from sonar.units import CampaignId

__all__ = ["UntoldCampaigns"]

_log = logging.getLogger("capsule.worker.untold")
_FIRST_WAIT, _LONGEST_WAIT = 60.0, 3600.0
"""Seconds until the contract is asked once more about a campaign."""
_LOOK_SECONDS = 30.0
"""How often the database is asked which those are, at most."""
_AT_ONCE = 16
"""How many campaigns the contract is asked about in one look."""


class UntoldCampaigns:
    """Looks for them; by one thread at a time. `start_block` is where the contract's events begin."""

    def __init__(self, capsule: Capsule, start_block: int, tally: Tally) -> None:
        self._capsule, self._start_block, self._tally = capsule, start_block, tally
        self._asked: dict[CampaignId, Patience] = {}
        self._never: set[CampaignId] = set()
        self._unknown: set[CampaignId] = set()
        self._rest = Patience(_LOOK_SECONDS, _LOOK_SECONDS)

    def look(self, tip: Block) -> None:
        """Asks about those that are due, after the block `tip` up to which the events are read.

        Raises CapsuleError while the contract has one whose creation the node does not tell either when it is asked
        for that campaign's events alone.
        """
        if self._rest.is_over:
            self._rest.fail()
            self._look(tip)
        for campaign in self._unknown:
            raise CapsuleError(
                f"the contract has campaign 0x{campaign.hex()}, of whose creation the node does not tell, so it is not "
                "served: check the node's logs from the contract's first block on, or use another node"
            )

    def _look(self, tip: Block) -> None:
        state = self._capsule.state
        position = state.position()
        if position is None or position.block <= tip.number:
            return  # something is being read again
        uncreated = state.uncreated()
        self._asked = {campaign: asked for campaign, asked in self._asked.items() if campaign in uncreated}
        self._never &= uncreated.keys()
        self._unknown &= uncreated.keys()
        due = [one for one in uncreated if one not in self._never and self._patience(one).is_over]
        for campaign in due[:_AT_ONCE]:
            self._patience(campaign).fail()
            self._unknown.discard(campaign)
            if not self._is_created(campaign, tip):
                if tip.time > uncreated[campaign]:
                    self._never.add(campaign)
                continue
            block = self._creation(campaign, tip)
            if block is None:
                self._unknown.add(campaign)
                continue
            if state.rewind(block, position):
                self._tally.reorganisations.add()
                _log.warning("campaign 0x%s was created in block %d, of which the node did not tell: reading on from "
                             "there", campaign.hex()[:16], block)  # fmt: skip
            return

    def _patience(self, campaign: CampaignId) -> Patience:
        return self._asked.setdefault(campaign, Patience(_FIRST_WAIT, _LONGEST_WAIT))

    def _is_created(self, campaign: CampaignId, tip: Block) -> bool:
        try:
            self._capsule.chain.campaign(campaign, block=tip.number)
        except ContractRevertError:
            return False
        return True

    def _creation(self, campaign: CampaignId, tip: Block) -> int | None:
        cursor = EventCursor(self._capsule.chain, self._start_block, campaign=campaign)
        while (page := cursor.read_page(tip.number)) is not None:
            for event in page.events:
                if isinstance(event, CampaignCreated) and event.id == campaign:
                    return event.block
        return None
