"""What is asked of the chain and the ledger so that rules can judge."""

from collections.abc import Callable
from datetime import datetime

from mine.ledger import Ledger
from mine.policy.effort import training_seconds
from mine.policy.facts import Facts, PastCampaign
from mine.reasons import shortage
from mine.records import UNSENT, KnownCampaign, State, hexed
from mine.strategy import OwnRound, promised
from sonar.chain.client import SonarClient
from sonar.chain.errors import ChainError
from sonar.chain.records import CampaignRecord, PayoutBase, Status
from sonar.protocol.spec import Spec
from sonar.units import Address, CampaignId, Wei

__all__ = ["FactReader"]

_PAST_CAMPAIGNS = 50
"""So many of an owner's campaigns are looked at, the latest."""


class FactReader:
    """Reads the facts of campaigns for one mine on one chain; `clock` gives Unix time.

    What ended campaigns paid does not change any more and is asked once.
    """

    def __init__(
        self,
        client: SonarClient,
        ledger: Ledger,
        deployment: str,
        mine: Address,
        network_capsule: str | None,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._deployment = deployment
        self._mine = mine
        self._network_capsule = network_capsule
        self._clock = clock
        self._past: dict[CampaignId, PastCampaign | None] = {}

    def facts(self, campaign: KnownCampaign, spec: Spec, *, noised: bool = False) -> Facts:
        """Everything but the data set; `noised` says that networks are trained with noise.

        Raises ChainError where the chain does not answer, and it or SpecError for answers that cannot be true.
        """
        record, present = self._client.campaign(campaign.id), self._client.round(campaign.id)
        _check(record, campaign)
        spec.check_terms(record.terms)
        market = self._client.fee_market()
        now = self._clock()
        local = datetime.fromtimestamp(now).astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        own = self._own(campaign.id, now)
        return Facts(
            mine=self._mine,
            record=record,
            spec=spec,
            creator=campaign.admission.owner,
            network_capsule=self._network_capsule,
            round=present.number,
            settled=present.settled,
            past=self._earlier(record.owner, campaign),
            own=own,
            submitted=self._submitted(campaign.id, present.number),
            submitted_today=self._today(midnight.timestamp()),
            at_stake=self._at_stake(),
            balance=self._client.balance(self._mine),
            gas_price=Wei((market.base or 0) + market.tip),
            highest_fee=market.usual.highest,
            approval=self._ledger.approval(campaign.id),
            training_seconds=training_seconds(
                spec, max((one.records for one in self._ledger.datasets()), default=0), noised=noised
            ),
            now=local,
            present=present.count,
            before=self._ledger.gradients_in(campaign.id, present.number - 1),
            chain_id=self._client.chain_id,
        )

    def _own(self, campaign: CampaignId, now: float) -> tuple[OwnRound, ...]:
        """This mine's rounds that are over, the latest first; only of that one the end is known."""
        over = self._ledger.history(campaign)
        if not over:
            return ()
        ended = self._ledger.ended(campaign, over[0].round, now)
        return tuple(
            OwnRound(one.round, one.verdict, one.payout or Wei(0), ended, shortage(self._ledger, one) is not None)
            for one in over
        )

    def _submitted(self, campaign: CampaignId, present: int) -> int:
        over = sum(one.state is not State.MISSED for one in self._ledger.history(campaign))
        now = self._ledger.submission(campaign, present)
        return over + (now is not None and now.state in {*UNSENT, State.SENT})

    def _today(self, midnight: float) -> int:
        """Gradients that were signed since midnight, and those that wait for being signed."""
        waiting = self._ledger.submissions(self._deployment, State.TRAINED, State.STORED)
        return self._ledger.posted_since(midnight) + len(waiting)

    def _at_stake(self) -> Wei:
        posted = self._ledger.submissions(self._deployment, *UNSENT, State.SENT)
        return Wei(sum(one.bond for one in posted))

    def _earlier(self, owner: Address, campaign: KnownCampaign) -> tuple[PastCampaign, ...]:
        """The ended campaigns that somebody began or owned, in the same coin, in which a round was judged."""
        ended = [
            known
            for known in self._ledger.campaigns(self._deployment)
            if owner in {known.owner, known.admission.owner}
            and known.status is not Status.RUNNING
            and known.token == campaign.token
        ]
        found = [self._look_back(known.id) for known in ended[-_PAST_CAMPAIGNS:]]
        return tuple(past for past in found if past is not None)

    def _look_back(self, campaign: CampaignId) -> PastCampaign | None:
        if campaign not in self._past:
            record, last = self._client.campaign(campaign), self._client.round(campaign)
            judged = last.settled > 0 and record.base > 0
            self._past[campaign] = PastCampaign(promised(record), record.paid) if judged else None
        return self._past[campaign]


def _check(record: CampaignRecord, campaign: KnownCampaign) -> None:
    """Raises ChainError for a node's record that is not of what was admitted: pay is reckoned from it."""
    admission, terms = campaign.admission, record.terms
    base = terms.target - admission.start_score if terms.payout_base is PayoutBase.GAIN else terms.target
    if (record.start_score, record.oracle, record.base) != (admission.start_score, admission.oracle, base) or base <= 0:
        raise ChainError(
            f"the node's record of campaign {hexed(campaign.id)} is not of what was admitted: is it honest?"
        )
