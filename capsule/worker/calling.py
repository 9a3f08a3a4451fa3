"""From a signed settlement to the call that the chain takes now, if it takes it.

A round's head names its gradients, but not the version that they were judged on. A reorganisation can leave a round its
gradients and take the settlement before it away, and then the same head stands on another version. A settlement is
signed once for a head, so that round cannot be judged again: it expires, bonds go back, and the next one is judged.
"""

from collections.abc import Callable
from dataclasses import dataclass

from capsule.parts import Capsule
from capsule.state import StoredRound
from capsule.state.posted import posted_head
from capsule.wire import RoundReply
from sonar.chain.calls import Call, settle_round
from sonar.chain.errors import ContractRevertError
from sonar.chain.records import Settlement
from sonar.units import CampaignId

__all__ = ["Caller", "Place"]

Place = tuple[CampaignId, int, bytes]
"""A settlement's campaign, round and head."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes calls of stored settlements; `tell` hears of those that can only expire."""

    capsule: Capsule
    tell: Callable[[CampaignId, str], None]

    def call(self, place: Place) -> Call | None:
        """The settlement as a call; None while the chain's present round is another one."""
        campaign, number, head = place
        chain, state = self.capsule.chain, self.capsule.state
        try:
            present = chain.round(campaign)
        except ContractRevertError:
            return None  # the chain took back the campaign's creation
        entries = [submission.entry for submission in state.submissions(campaign, number)]
        stored = state.round(campaign, number, head)
        if (present.number, present.head) != (number, head) or stored is None:
            return None
        if posted_head(campaign, number, entries) != head:
            return None  # not read yet, or not any more
        settlement, signature = RoundReply.model_validate_json(stored.settlement).settlement()
        if self._rewound() and not self._continues(stored, settlement):
            self.tell(campaign, f"round {number} was signed on a version that the chain took back: it can only expire")
            return None
        return settle_round(settlement, entries, signature)

    def _rewound(self) -> bool:
        """Whether the chain ever took something back: only then may a head stand on another version."""
        position = self.capsule.state.position()
        return position is not None and position.rewinds > 0

    def _continues(self, stored: StoredRound, settlement: Settlement) -> bool:
        """Whether the round was judged on the version that the chain has now.

        One that does not advance changes no model, and the contract checks that it names the present score. Nothing is
        fetched for this: a store that has lost something must not keep settlements from the chain.
        """
        if not settlement.advances:
            return True
        present = self.capsule.chain.campaign(settlement.campaign).version
        version = self.capsule.state.version(settlement.campaign, present)
        return version is not None and version.key == stored.base
