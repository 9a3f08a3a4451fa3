"""From a running campaign to a sealed gradient for its present round: decided, read, trained. Nothing leaves the mine.

The content store gives the model, and a network's Capsule its weights; everything raises what stops it.
"""

import time
from dataclasses import dataclass

from mine.apart.workroom import Workroom
from mine.data import Dataset, Match, Provenance, match
from mine.deciding import Decider
from mine.gathering import Gatherer, limits_of
from mine.learning import Learner
from mine.ledger import Ledger
from mine.offer import Offer
from mine.policy import Policy
from mine.records import KnownCampaign, Prospect, State, hexed
from mine.reporting import Report
from mine.strategy import at_risk_alone
from mine.trainer import Gradient, max_model_bytes
from mine.withholding import agreement
from sonar.chain.client import SonarClient
from sonar.chain.records import CampaignRecord
from sonar.chain.signing import Signer
from sonar.config import Network
from sonar.protocol.spec import Spec
from sonar.storage import ContentStore
from sonar.syft.progress import paced
from sonar.syft.schedule import Gathered
from sonar.units import Address

__all__ = ["Maker", "Trained"]

_TOLD_EVERY = 5.0
"""Seconds between two reports of how far a long training is."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A gradient for one round, neither stored nor posted yet; `box` is its sealed bytes."""

    offer: Offer
    terms: CampaignRecord
    round: int
    version: int
    dataset: Dataset
    provenance: Provenance
    gradient: Gradient
    box: bytes
    seconds: float
    rules: str
    """What it was agreed to under, as `agreement` has it."""
    noised: bool = False
    """Whether it is made of sums with noise."""


class Maker:
    """Makes a mine's gradients, on one chain and store."""

    def __init__(
        self,
        client: SonarClient,
        ledger: Ledger,
        address: Address,
        account: Signer,
        network: Network,
        store: ContentStore,
        report: Report,
        decider: Decider,
        room: Workroom,
    ) -> None:
        self._client, self._ledger, self._address, self._account = client, ledger, address, account
        self._store, self._report, self._decider, self._room = store, report, decider, room
        self._gatherer = Gatherer(ledger, store, room, report)
        self._learner = Learner(ledger, account, network, store, room, report)

    def train(self, campaign: KnownCampaign, policy: Policy, *, rehearse: bool = False) -> Trained | None:
        """A gradient for the campaign's present round; None if that round takes none from this mine now.

        To `rehearse` charges no privacy budget, and the gradient must not leave the mine.

        Raises PolicyError, DataError, ProtocolError or SyftError where it should not or cannot be trained, and
        UnfundedAccountError where it could not be posted.
        """
        present = self._client.round(campaign.id)
        if present.number != campaign.round or not present.open:
            return None  # full or over, or its events are still to come
        if self._client.last_submission(campaign.id, self._address) == present.number:
            return None
        decision = self._decider.decide(campaign, policy)
        if decision.dataset is not None:
            self._look(campaign, State.MATCHED, decision.dataset)
        dataset, offer = decision.require(), decision.offer
        if offer.spec.network is None:
            gathered, provenance = self.gather(dataset, offer.spec, policy, decision.match, rehearse=rehearse)
        self._look(campaign, State.APPROVED, dataset)
        model = self._store.get(campaign.model, max_bytes=max_model_bytes(offer.spec))
        started = time.perf_counter()
        progress = paced(lambda done: self._report("training", {
            "campaign": hexed(campaign.id), "round": present.number, "done": round(done, 2),
        }), _TOLD_EVERY)  # fmt: skip
        if offer.spec.network is None:
            gradient = self._room.train(offer.spec, model, campaign.key, gathered, limits_of(policy), progress)
        else:
            found = decision.match or match(dataset, offer.spec)
            gradient, provenance = self._learner.learn(
                campaign, offer, dataset, found, model, policy, progress, rehearse=rehearse
            )
        seconds = time.perf_counter() - started
        terms = decision.facts.record.terms
        if risk := at_risk_alone(terms, present.count):
            self._report("at risk", {
                "campaign": hexed(campaign.id), "round": present.number, "gradients": present.count,
                "needed": terms.min_mines, "bond_wei": risk,
            })  # fmt: skip
        box = offer.seal(gradient.payload, self._account, present.number)
        return Trained(
            offer, decision.facts.record, present.number, campaign.version, dataset, provenance, gradient, box, seconds,
            agreement(policy, dataset), policy.privacy.mode == "on",
        )  # fmt: skip

    def gather(
        self, dataset: Dataset, spec: Spec, policy: Policy, found: Match | None = None, *, rehearse: bool = False
    ) -> tuple[Gathered, Provenance]:
        """What a spec's training needs of a data set, read once for all specs that need the same, and what was read.

        `found` is how the data set fits the spec; by name alone where it is not given. To `rehearse` charges no privacy
        budget. Raises DataError, and PolicyError where the records have become too few.
        """
        return self._gatherer.gather(dataset, found or match(dataset, spec), spec, policy, rehearse=rehearse)

    def _look(self, campaign: KnownCampaign, state: State, dataset: Dataset) -> None:
        self._ledger.look(Prospect(campaign.id, campaign.round, state, dataset.name))
