"""One mine on one connected chain: what it takes to get from a campaign to a posted gradient, step by step.

Everything here raises what stops it; `mine.daemon` decides what is waited for and what is left alone. The Capsule is
asked for nothing but the reasons of its verdicts: while it is down a round simply stays unsettled.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from mine.apart.workroom import Workroom
from mine.collecting import Collector
from mine.data import Dataset, Match, Provenance, match
from mine.deciding import Decider, Decision
from mine.expiring import expire
from mine.follow import deployment_of, follow
from mine.gathering import Gatherer, limits_of
from mine.home import Home
from mine.ledger import Ledger
from mine.offer import Offer
from mine.policy import Policy
from mine.posting import Poster, aim_of
from mine.reasons import explain, reasons_of
from mine.records import UNSENT, Aim, Fate, KnownCampaign, Prospect, Purpose, State, Submission, hexed
from mine.sending import Sender
from mine.trainer import Gradient, max_model_bytes
from sonar.chain.client import SonarClient
from sonar.chain.events import Event, GradientJudged
from sonar.chain.records import CampaignRecord, Status
from sonar.chain.signing import Signer
from sonar.config import Network
from sonar.protocol.spec import Spec
from sonar.storage import Artifact, ContentStore
from sonar.syft import get_engine
from sonar.syft.progress import paced
from sonar.syft.schedule import Gathered
from sonar.units import Address, Cid, digest_of, ether

__all__ = ["Options", "Report", "Trained", "Worker"]

Report = Callable[[str, dict[str, Any]], None]
"""Takes what happened, as a word, and its facts."""

_FEE_LIMIT = Policy().money.highest_gas_price
"""The most wei per gas to pay until the owner's policy is known."""
_TOLD_EVERY = 5.0
"""Seconds between two reports of how far a long training is."""


@dataclass(frozen=True, slots=True)
class Options:
    """How patient to be with a sent transaction, in seconds, and whether toy keys are trained (tests only)."""

    patience: float = 30.0
    allow_insecure_small_key: bool = False
    clock: Callable[[], float] = time.time
    """Unix time, by which the policy's rules go."""
    insecurely_in_this_process: bool = False
    """Whether to read and train beside the key; tests of other things are quicker so."""


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
    """`Policy.release_digest` of the policy that agreed."""


class Worker:
    """A mine's account, ledger and data on one chain and store.

    Raises AuditError, RpcUnavailableError and WrongChainError, and EngineError where the engine that is asked for
    cannot be used.
    """

    def __init__(
        self,
        home: Home,
        ledger: Ledger,
        account: Signer,
        network: Network,
        store: ContentStore,
        report: Report,
        options: Options,
    ) -> None:
        ledger.check_audit()  # what cannot be recorded is not done
        get_engine()  # one that cannot be used is told now, and not when a round is open
        self.client = SonarClient.from_network(network, account, timeout=options.patience)
        self.deployment = deployment_of(self.client, network.start_block)
        self.address = Address(account.address)
        self.ledger = ledger
        self._account = account
        self._network = network
        self._store = store
        self._report = report
        self._options = options
        self.sender = Sender(
            self.client, ledger, self.deployment, home.sending, options.patience, lambda: self._fee_limit
        )
        self._fee_limit = _FEE_LIMIT
        self._decider = Decider(self.client, ledger, self.deployment, self.address, network, store, options.clock)
        self._collector = Collector(self.client, self.address, self.sender, report)
        self._poster = Poster(self.client, ledger, self.deployment, self.address, self.sender)
        self._reasons = reasons_of(network, self.client)
        self.room = Workroom(
            lambda warning: report("warning", {"reason": warning}),
            allow_insecure_small_key=options.allow_insecure_small_key,
            insecurely_in_this_process=options.insecurely_in_this_process,
        )
        self._gatherer = Gatherer(ledger, store, self.room, report)

    def follow(self, policy: Policy) -> list[Event]:
        """Takes note of what is new on chain, and of what the policy lets transactions cost."""
        self._fee_limit = policy.money.highest_gas_price
        self.ledger.record_change("policy", {"settings": policy.model_dump(mode="json", exclude_defaults=True)})
        return follow(
            self.client, self.ledger, self.deployment, self.address,
            start_block=self._network.start_block, confirmations=policy.work.confirmations,
        )  # fmt: skip

    def provide(self) -> None:
        """Gives the store every box that the Capsule may still want: an unavailable gradient costs part of its bond."""
        for submission in self.ledger.submissions(self.deployment, State.STORED, State.SIGNED, State.SENT):
            box = self.ledger.box(submission)
            if box is not None:
                self._store.put(box)

    def collect(self, policy: Policy) -> None:
        """Withdraws what is owed in native coin once it is as much as the policy says; raises ChainError."""
        self._collector.step(ether(policy.money.withdraw_above))

    def tend(self) -> None:
        """Looks after transactions whose aim was reached without them, or is out of reach."""
        self.sender.tend(self._wanted)

    def _wanted(self, aim: Aim) -> bool:
        if aim.purpose is Purpose.WITHDRAW:
            return False
        campaign = self.ledger.campaign(aim.campaign)
        if campaign.status is not Status.RUNNING or campaign.round != aim.round:
            return False
        submission = self.ledger.submission(aim.campaign, aim.round)
        return aim.purpose is Purpose.EXPIRE or (submission is not None and submission.state is State.SIGNED)

    def work(self, campaign: KnownCampaign, policy: Policy) -> None:
        """Takes a running campaign as far as it can go now."""
        submission = self.ledger.submission(campaign.id, campaign.round)
        if submission is None:
            trained = self.train(campaign, policy)
            if trained is None:
                return
            submission = self.prepare(trained)
        if submission.state in UNSENT:
            self.post(submission, policy)
        elif submission.state is State.SENT and not (policy.work.confirmations and self._taken_back(submission)):
            self.expire(campaign)

    def _taken_back(self, submission: Submission) -> bool:
        """Whether the chain took back the block with a gradient; then it is posted again."""
        if self.client.last_submission(submission.campaign, self.address) == submission.round:
            return False
        for transaction in self.ledger.transactions(self.deployment, Fate.MINED, aim=aim_of(submission)):
            if self.client.receipt(transaction.hash) is None:
                self.ledger.change_fate(self.deployment, transaction, Fate.SIGNED)
        self.ledger.take_back(submission)
        return True

    def train(self, campaign: KnownCampaign, policy: Policy) -> Trained | None:
        """A gradient for the campaign's present round; None if that round takes none from this mine now.

        Raises PolicyError, DataError, ProtocolError or SyftError where it should not or cannot be trained, and
        UnfundedAccountError where it could not be posted.
        """
        present = self.client.round(campaign.id)
        if present.number != campaign.round or not present.open:
            return None  # full or over, or its events are still to come
        if self.client.last_submission(campaign.id, self.address) == present.number:
            return None
        decision = self.decide(campaign, policy)
        if decision.dataset is not None:
            self._look(campaign, State.MATCHED, decision.dataset)
        dataset, offer = decision.require(), decision.offer
        gathered, provenance = self.gather(dataset, offer.spec, policy, decision.match)
        self._look(campaign, State.APPROVED, dataset)
        model = self._store.get(campaign.model, max_bytes=max_model_bytes(offer.spec))
        started = time.perf_counter()
        gradient = self.room.train(
            offer.spec, model, campaign.key, gathered, limits_of(policy),
            paced(lambda done: self._report("training", {
                "campaign": hexed(campaign.id), "round": present.number, "done": round(done, 2),
            }), _TOLD_EVERY),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        box = offer.seal(gradient.payload, self._account, present.number)
        return Trained(
            offer, decision.facts.record, present.number, campaign.version, dataset, provenance, gradient, box, seconds,
            policy.release_digest,
        )  # fmt: skip

    def refuse(self, campaign: KnownCampaign, reason: str) -> None:
        """Writes down why the campaign's present round is left alone."""
        self.ledger.look(Prospect(campaign.id, campaign.round, State.REFUSED, note=reason))

    def prepare(self, trained: Trained) -> Submission:
        """Writes down a sealed gradient: it is posted, whatever happens to this process, while its owner agrees."""
        submission = Submission(
            campaign=trained.offer.campaign.id,
            round=trained.round,
            state=State.TRAINED,
            version=trained.version,
            dataset=trained.dataset.name,
            artifact=Artifact(Cid(""), digest_of(trained.box)),
            gradient=trained.gradient.digest,
            bond=trained.terms.terms.bond,
            rules=trained.rules,
        )
        self.ledger.train(submission, trained.box, {
            "capsule": trained.offer.campaign.admission.oracle, "spec": trained.offer.campaign.spec.digest,
            "records": trained.gradient.records, "data": trained.provenance.to_dict(),
        })  # fmt: skip
        self._report("trained", {
            **_place(submission), "version": trained.version, "dataset": trained.dataset.name,
            "records": trained.gradient.records, "seconds": round(trained.seconds, 3),
        })  # fmt: skip
        return submission

    def store(self, submission: Submission) -> Submission:
        """Puts a trained gradient into the content store."""
        box = self.ledger.box(submission)
        assert box is not None
        return self.ledger.store(submission, self._store.put(box).cid)

    def post(self, submission: Submission, policy: Policy) -> Submission:
        """Gets a trained gradient into the store and on chain, or finds out how far it got before.

        One that is not signed yet is given up where the owner has since denied the campaign, or changed what the policy
        says of who may have what of the data.
        """
        if submission.state is not State.SIGNED and (reason := self._withheld(submission, policy)):
            submission = self.ledger.miss(submission, reason)
            self._report("missed", {**_place(submission), "reason": reason})
            return submission
        if submission.state is State.TRAINED:
            submission = self.store(submission)
        after = self._poster.advance(submission)
        if after.state is State.SENT:
            self._report(
                "posted", {**_place(after), "index": after.index, "transaction": after.hash and hexed(after.hash)}
            )
        elif after.state is State.MISSED:
            self._report("missed", {**_place(after), "reason": after.note})
        return after

    def _withheld(self, submission: Submission, policy: Policy) -> str | None:
        word = self.ledger.approval(submission.campaign)
        if word is not None and not word.approved:
            return "the campaign was denied after it was trained"
        if submission.rules != policy.release_digest:
            return "what the policy says of campaigns, data or privacy was changed after it was trained"
        return None

    def expire(self, campaign: KnownCampaign) -> bool:
        """Gives up a round that nobody settled in time, so that the bonds in it come back; whether it did."""
        return expire(self.client, self.sender, campaign)

    def explain(self, event: GradientJudged) -> Submission | None:
        """This mine's judged gradient, with the Capsule's reason as its note where that can be had."""
        submission = self.ledger.submission(event.id, event.round)
        return None if submission is None else explain(self.ledger, self._reasons, submission)

    def offer(self, campaign: KnownCampaign, policy: Policy) -> Offer:
        """The campaign's verified offer; raises as `read_offer` does."""
        return self._decider.offer(campaign, policy)

    def decide(self, campaign: KnownCampaign, policy: Policy) -> Decision:
        """What every rule of the policy says of a campaign; raises as `Decider.decide` does."""
        return self._decider.decide(campaign, policy)

    def basis(self, campaign: KnownCampaign, policy: Policy) -> Hashable:
        """What a refusal goes by: while it is the same, the same is refused again."""
        return self._decider.basis(campaign, policy)

    def gather(
        self, dataset: Dataset, spec: Spec, policy: Policy, found: Match | None = None
    ) -> tuple[Gathered, Provenance]:
        """What a spec's training needs of a data set, read once for all specs that need the same, and what was read.

        `found` is how the data set fits the spec; by name alone where it is not given. Raises DataError, and
        PolicyError where the records have become too few.
        """
        return self._gatherer.gather(dataset, found or match(dataset, spec), spec, policy)

    def _look(self, campaign: KnownCampaign, state: State, dataset: Dataset) -> None:
        self.ledger.look(Prospect(campaign.id, campaign.round, state, dataset.name))


def _place(submission: Submission) -> dict[str, Any]:
    return {"campaign": hexed(submission.campaign), "round": submission.round}
