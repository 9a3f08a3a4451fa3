"""Whether to work for a campaign, and with which data set: its offer, the facts, and every rule's word on them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from mine.data import Dataset, Match, consider, file_state, listed, match, nearness
from mine.errors import DataError
from mine.ledger import Ledger
from mine.offer import Offer, read_offer
from mine.policy import Finding, Policy
from mine.policy.data_rules import best_offer
from mine.policy.facts import Facts, Offered
from mine.policy.reading import FactReader
from mine.policy.rules import judge, require
from mine.privacy.declared import about, declared
from mine.privacy.release import clip_of, statistic_key
from mine.privacy.rounds import Place, noise_of, round_key
from mine.readiness import require_ready, source_finding
from mine.records import KnownCampaign
from sonar.chain.client import SonarClient
from sonar.chain.errors import UnfundedAccountError
from sonar.config import Network
from sonar.protocol.spec import Spec
from sonar.storage import ContentStore
from sonar.units import Address, CampaignId

__all__ = ["Decider", "Decision"]

_LOOK_AGAIN = 3600.0
"""Seconds for which a refusal holds where a server has the records."""


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
    fitting: int = 0
    """How many data sets fit; the largest of them that the rules allow is taken."""

    def require(self) -> Dataset:
        """The data set; raises PolicyError or UnfundedAccountError with the sentences of the rules that refuse."""
        refused = [finding for finding in self.findings if not finding.ok]
        if [finding.rule for finding in refused] == ["funds"]:
            raise UnfundedAccountError(refused[0].text)
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
        self._clock = clock
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
        facts = self._reader.facts(campaign, offer.spec, noised=policy.privacy.mode == "on")
        fitting, unfit = self.fitting(campaign.id, offer.spec, policy)
        facts = best_offer(
            policy,
            replace(facts, unfit=unfit),
            [self._offered(campaign, found, offer.spec, policy) for found in fitting.values()],
        )
        findings = judge(policy, facts)
        if facts.offered is None:
            return Decision(offer, facts, tuple(findings), None)
        dataset, found = fitting[facts.offered.name]
        source = source_finding(dataset, found, offer.spec, policy)
        return Decision(offer, facts, (*findings, source), dataset, found, len(fitting))

    def basis(self, campaign: KnownCampaign, policy: Policy) -> Hashable:
        """All that a lasting refusal may go by and that can change: round, policy, data, the owner's word."""
        datasets = [
            (dataset, self._state(dataset), tuple(self._ledger.saved_match(campaign.id, dataset.name).items()))
            for dataset in self._ledger.datasets()
        ]
        return campaign.round, policy.model_dump_json(), tuple(datasets), self._ledger.approval(campaign.id)

    def _state(self, dataset: Dataset) -> Hashable:
        """What changes when the records do; of a server nobody can tell, so what was refused is looked at each hour."""
        return int(self._clock() // _LOOK_AGAIN) if dataset.source.remote else file_state(dataset)

    def fitting(self, campaign: CampaignId, spec: Spec, policy: Policy) -> tuple[dict[str, tuple[Dataset, Match]], str]:
        """The data sets that fit a campaign's spec and can be read, by name, with how, and why the others do not.

        Of those the one that comes nearest has its reason told, the rest their names.
        What the owner confirmed with `mine match` counts; what is unsure does not fit.
        """
        fitting, misses = {}, []
        for dataset in self._ledger.datasets():
            seen, saved = _seen(dataset, policy), self._ledger.saved_match(campaign, dataset.name)
            try:
                found = match(seen, spec, saved)
                require_ready(dataset, found, spec, policy)
            except DataError as error:
                misses.append((nearness(consider(seen, spec, saved)), dataset.name, str(error)))
            else:
                fitting[dataset.name] = dataset, found
        if not misses:
            return fitting, "" if fitting else "there is no data set: add one with `mine add`"
        (_, _, nearest), *others = sorted(misses)
        if others:
            nearest += f"; nor {'does' if len(others) == 1 else 'do'} {listed([name for _, name, _ in others])}"
        return fitting, nearest

    def _offered(self, campaign: KnownCampaign, fitting: tuple[Dataset, Match], spec: Spec, policy: Policy) -> Offered:
        (dataset, found), rule = fitting, policy.privacy
        seen = _seen(dataset, policy)
        offered = Offered(dataset.name, seen.records, tuple(seen.labels) if spec.classes else ())
        pool = self._ledger.pool_of(dataset.name)
        if pool is None:
            return offered
        spent, chosen = self._ledger.spent(pool), (*found.columns, *found.target_columns)
        if spec.network is not None:
            place = Place(campaign.id, campaign.round, campaign.version)
            key = round_key(
                spec, dataset.name, dataset.digest, chosen, noise_of(spec, about(dataset.records), rule), place
            )
            return replace(offered, spent=spent, served=self._ledger.reserved(key))
        key = statistic_key(spec, chosen, clip_of(spec, rule))
        return replace(offered, spent=spent, served=self._ledger.serves(dataset.name, key))


def _seen(dataset: Dataset, policy: Policy) -> Dataset:
    """A data set as the rules may see it: with privacy on a decision must not tell of its records."""
    return declared(dataset, policy.data.min_class_records) if policy.privacy.mode == "on" else dataset
