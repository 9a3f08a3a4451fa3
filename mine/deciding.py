"""Whether to work for a campaign, and with which data set: its offer, the facts, and every rule's word on them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from mine.data import Dataset, Match, file_state, match
from mine.errors import DataError
from mine.ledger import Ledger
from mine.offer import Offer, read_offer
from mine.policy import Finding, Policy
from mine.policy.data_rules import best_offer
from mine.policy.facts import Facts, Offered
from mine.policy.reading import FactReader
from mine.policy.rules import judge, require
from mine.privacy.release import clip_of, statistic_key
from mine.records import KnownCampaign
from sonar.chain.client import SonarClient
from sonar.chain.errors import UnfundedAccountError
from sonar.config import Network
from sonar.protocol.spec import Spec
from sonar.storage import ContentStore
from sonar.units import Address, CampaignId

__all__ = ["Decider", "Decision"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of a campaign now; `dataset` is what would be trained on, and `match` how it fits; None
    where nothing does.
    """

    offer: Offer
    facts: Facts
    findings: tuple[Finding, ...]
    dataset: Dataset | None
    match: Match | None = None

    def require(self) -> Dataset:
        """The data set; raises PolicyError or UnfundedAccountError with the sentences of the rules that refuse."""
        refused = [finding for finding in self.findings if not finding.ok]
        if [finding.rule for finding in refused] == ["funds"]:
            raise UnfundedAccountError(refused[0].sentence)
        require(self.findings)
        assert self.dataset is not None
        return self.dataset


class Decider:
    """Decides for one mine on one chain and store; keeps offers, which never change."""

    def __init__(
        self,
        client: SonarClient,
        ledger: Ledger,
        deployment: str,
        mine: Address,
        network: Network,
        store: ContentStore,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._network = network
        self._store = store
        self._reader = FactReader(client, ledger, deployment, mine, network.capsule, clock)
        self._offers: dict[tuple[CampaignId, str | None], Offer] = {}

    def offer(self, campaign: KnownCampaign, policy: Policy) -> Offer:
        """The campaign's verified offer, read once, and again when the policy names other signers.

        Raises as `read_offer` does.
        """
        committee = policy.trusts(campaign.admission.oracle, self._network.capsule)
        key = campaign.id, None if committee is None else committee.model_dump_json()
        if key not in self._offers:
            self._offers[key] = read_offer(self._client, self._store, campaign, policy, self._network.capsule)
        return self._offers[key]

    def decide(self, campaign: KnownCampaign, policy: Policy) -> Decision:
        """Every rule's word. Raises PolicyError for a Capsule that is not trusted, for nothing else can be believed
        then, and ProtocolError, StorageError and ChainError where something does not hold or cannot be had.
        """
        offer = self.offer(campaign, policy)
        facts = self._reader.facts(campaign, offer.spec)
        fitting, unfit = self.fitting(campaign.id, offer.spec)
        facts = best_offer(
            policy,
            replace(facts, unfit=unfit),
            [self._offered(found, offer.spec, policy) for found in fitting.values()],
        )
        dataset, found = (None, None) if facts.offered is None else fitting[facts.offered.name]
        return Decision(offer, facts, tuple(judge(policy, facts)), dataset, found)

    def basis(self, campaign: KnownCampaign, policy: Policy) -> Hashable:
        """All that a lasting refusal may go by and that can change: round, policy, data, the owner's word."""
        datasets = [
            (dataset, file_state(dataset), tuple(self._ledger.saved_match(campaign.id, dataset.name).items()))
            for dataset in self._ledger.datasets()
        ]
        return campaign.round, policy.model_dump_json(), tuple(datasets), self._ledger.approval(campaign.id)

    def fitting(self, campaign: CampaignId, spec: Spec) -> tuple[dict[str, tuple[Dataset, Match]], str]:
        """The data sets that fit a campaign's spec, by name, with how, and why the others do not.

        What the owner confirmed with `mine match` counts; what is unsure does not fit.
        """
        fitting, reasons = {}, []
        for dataset in self._ledger.datasets():
            try:
                found = match(dataset, spec, self._ledger.saved_match(campaign, dataset.name))
            except DataError as error:
                reasons.append(str(error))
            else:
                fitting[dataset.name] = dataset, found
        if not fitting and not reasons:
            reasons.append("there is no data set: add one with `mine add`")
        return fitting, "; ".join(reasons)

    def _offered(self, fitting: tuple[Dataset, Match], spec: Spec, policy: Policy) -> Offered:
        dataset, found = fitting
        offered = Offered(dataset.name, dataset.records, tuple(dataset.labels) if spec.classes else ())
        pool = self._ledger.pool_of(dataset.name)
        if pool is None:
            return offered
        key = statistic_key(spec, (*found.columns, *found.target_columns), clip_of(spec, policy.privacy))
        served = self._ledger.serving(pool, key, dataset.name, dataset.records) is not None
        return replace(offered, spent=self._ledger.spent(pool), served=served)
