"""Campaigns whose terms on chain, as a node tells them, are not those that were admitted: not judged, and asked again.

The owner writes the terms, so that it can be the truth: then nothing is judged until the campaign ends. It can also be
one false answer, of a node that lies or serves a fork, and that must not end the campaign for this Capsule. Nobody can
tell which, so that it is told, and the contract is asked again, less and less often, by each worker through its node.
"""

import threading

from capsule.errors import CapsuleError
from capsule.parts import Capsule
from capsule.policy import check_campaign
from capsule.worker.admitted import check_admitted
from capsule.worker.patience import Patience
from capsule.worker.tally import Tally
from sonar.chain.records import CampaignRecord
from sonar.protocol.errors import SpecError
from sonar.protocol.spec import Spec
from sonar.units import CampaignId

__all__ = ["Misfits"]

_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
"""Seconds until the contract is asked again for a campaign's terms."""


class Misfits:
    """Those that one worker has found. Safe in threads, for different campaigns."""

    def __init__(self, capsule: Capsule, tally: Tally) -> None:
        self._capsule, self._tally = capsule, tally
        self._specs: dict[CampaignId, Spec] = {}
        self._asked: dict[CampaignId, Patience] = {}
        self._lock = threading.Lock()

    def check(self, record: CampaignRecord) -> None:
        """Raises CapsuleError unless the terms are those of the admitted spec, and the oracle is this Capsule.

        So it does where the admission is not in the database as it was signed.
        """
        campaign = record.id
        try:
            check_campaign(self._spec(campaign), record, self._capsule.address)
        except SpecError as error:
            with self._lock:
                patience = self._asked.setdefault(campaign, Patience(_FIRST_WAIT, _LONGEST_WAIT))
                if patience.is_over:
                    patience.fail()
                self._count()
            raise CapsuleError(
                f"it is not judged: {error}. The contract is asked again, in case that this was a false answer; if it "
                "stays, the campaign was not created as it was admitted"
            ) from error
        with self._lock:
            self._asked.pop(campaign, None)
            self._count()

    def is_due(self, campaign: CampaignId) -> bool:
        """Whether it is time to ask the contract again for the terms of a campaign that did not fit."""
        with self._lock:
            return campaign in self._asked and self._asked[campaign].is_over

    def forget_all_but(self, running: set[CampaignId]) -> None:
        """Gives up what is known of other campaigns."""
        with self._lock:
            for about in (self._specs, self._asked):
                for campaign in set(about) - running:
                    about.pop(campaign)
            self._count()

    def _count(self) -> None:
        self._tally.misfits.value = len(self._asked)

    def _spec(self, campaign: CampaignId) -> Spec:
        with self._lock:
            known = self._specs.get(campaign)
        if known is not None:
            return known
        stored = self._capsule.state.admission(campaign)
        if stored is None:
            raise CapsuleError(f"the admission of campaign 0x{campaign.hex()} is not in the database: restore a backup")
        check_admitted(self._capsule.domain, stored)
        spec = Spec.parse(stored.spec)
        with self._lock:
            self._specs[campaign] = spec
        return spec
