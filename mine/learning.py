"""What a network learns of a mine's records: on its Capsule's weights, in a process apart, noised where it must be."""

from mine.apart.workroom import Workroom
from mine.data import Dataset, Match, Provenance
from mine.gathering import limits_of
from mine.ledger import Ledger
from mine.offer import Offer
from mine.policy import Policy
from mine.policy.data_rules import check_count
from mine.privacy.rounds import Place
from mine.privacy.sketch import Contents
from mine.privacy.steps import Noise
from mine.privacy.working import Learning, RoomReader, learn_privately
from mine.records import KnownCampaign, hexed
from mine.reporting import Report
from mine.trainer import Gradient
from mine.weights import fetch_weights
from sonar.chain.signing import Signer
from sonar.config import Network
from sonar.storage import ContentStore
from sonar.syft import Progress
from sonar.syft.progress import paced

__all__ = ["Learner"]

_TOLD_EVERY = 5.0
"""Seconds between two reports of how far a reading is."""


class Learner:
    """Makes the gradients of campaigns for networks; `account` asks their Capsules for the weights."""

    def __init__(
        self, ledger: Ledger, account: Signer, network: Network, store: ContentStore, room: Workroom, report: Report
    ) -> None:
        self._ledger, self._account, self._network = ledger, account, network
        self._store, self._room, self._report = store, room, report
        self._recognised: dict[object, Contents] = {}

    def learn(
        self,
        campaign: KnownCampaign,
        offer: Offer,
        dataset: Dataset,
        found: Match,
        model: bytes,
        policy: Policy,
        progress: Progress,
        *,
        rehearse: bool = False,
    ) -> tuple[Gradient, Provenance]:
        """The gradient of a data set that fits as `found` says, and what was read for it.

        To `rehearse` charges no privacy budget, and the gradient must not leave the mine.

        Raises PolicyError where the Capsule gives no weights or there are too few records, with privacy on BudgetError
        past the budget, and DataError and NetworkError where it cannot be trained.
        """
        spec, limits = offer.spec, limits_of(policy)
        if policy.privacy.mode == "on":
            return self._privately(campaign, offer, dataset, found, model, policy, progress, rehearse=rehearse)
        weights = fetch_weights(self._network, self._account, offer, campaign.version)
        gradient, provenance = self._room.learn(
            spec, model, campaign.key, weights, dataset, found, policy.data.on_bad_records, limits, progress
        )
        check_count(policy, gradient.records, spec)
        return gradient, provenance

    def _privately(
        self,
        campaign: KnownCampaign,
        offer: Offer,
        dataset: Dataset,
        found: Match,
        model: bytes,
        policy: Policy,
        progress: Progress,
        *,
        rehearse: bool,
    ) -> tuple[Gradient, Provenance]:
        """The same from noised steps: charged before the first, and kept in the ledger until it is sent."""
        rule, limits = policy.privacy, limits_of(policy)
        reading = paced(
            lambda done: self._report("reading", {"what": dataset.name, "done": round(done, 2)}), _TOLD_EVERY
        )
        reader = RoomReader(self._room, dataset, found, offer.spec, limits, reading, self._recognised)

        def prepare() -> Learning:
            weights = fetch_weights(self._network, self._account, offer, campaign.version)

            def train(noise: Noise) -> tuple[Gradient, Provenance]:
                return self._room.learn_with_noise(
                    offer.spec, model, campaign.key, weights, dataset, found, noise, limits, progress
                )

            return train

        place = Place(campaign.id, campaign.round, campaign.version)
        done, gradient, provenance = learn_privately(
            self._ledger, self._store, reader, rule, place, prepare, rehearse=rehearse
        )
        for reason in done.said:
            self._report("warning", {"reason": reason})
        if done.charged:
            self._report("rehearsed" if rehearse else "released", {
                "campaign": hexed(campaign.id), "round": campaign.round, "dataset": dataset.name,
                "epsilon": round(done.epsilon, 4), "budget": rule.budget,
            })  # fmt: skip
        return gradient, provenance
