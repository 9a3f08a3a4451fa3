"""One mine on one connected chain: what it takes to get from a trained gradient to one that is posted, step by step.

Everything here raises what stops it; `mine.daemon` decides what is waited for and what is left alone. The Capsule is
asked for nothing but the reasons of its verdicts: while it is down a round simply stays unsettled.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from mine.apart.workroom import Workroom
from mine.collecting import Collector
from mine.data import Dataset, Match, Provenance
from mine.deciding import Decider, Decision
from mine.expiring import expire
from mine.follow import deployment_of, follow
from mine.home import Home
from mine.ledger import Ledger
from mine.making import Maker, Trained
from mine.offer import Offer
from mine.policy import Policy
from mine.posting import Poster, aim_of
from mine.reasons import explain, reasons_of
from mine.records import UNSENT, Aim, Fate, KnownCampaign, Prospect, Purpose, State, Submission, hexed
from mine.reporting import Report
from mine.sending import Sender
from mine.withholding import withheld
from sonar.chain.client import SonarClient
from sonar.chain.events import Event, GradientJudged
from sonar.chain.records import Status
from sonar.chain.signing import Signer
from sonar.config import Network
from sonar.protocol.spec import Spec
from sonar.storage import Artifact, ContentStore
from sonar.syft import get_engine
from sonar.syft.schedule import Gathered
from sonar.units import Address, Cid, digest_of, ether

__all__ = ["Options", "Worker"]

_FEE_LIMIT = Policy().money.highest_gas_price
"""The most wei per gas to pay until the owner's policy is known."""


@dataclass(frozen=True, slots=True)
class Options:
    """How patient to be with a sent transaction, in seconds, and whether toy keys are trained (tests only)."""

    patience: float = 30.0
    allow_insecure_small_key: bool = False
    clock: Callable[[], float] = time.time
    """Unix time, by which the policy's rules go."""
    insecurely_in_this_process: bool = False
    """Whether to read and train beside the key; tests of other things are quicker so."""


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
        self._network = network
        self._store = store
        self._report = report
        self._options = options
        self.sender = Sender(
            self.client, ledger, self.deployment, home.sending, options.patience, lambda: self._fee_limit
        )
        self._fee_limit = _FEE_LIMIT
        self._decider = Decider(self.client, ledger, self.deployment, self.address, network, store, options.clock)
        self._collector = Collector(self.client, self.address, self.sender, report, self._signed_last)
        self._poster = Poster(self.client, ledger, self.deployment, self.address, self.sender)
        self._reasons = reasons_of(network, self.client)
        self.room = Workroom(
            lambda warning: report("warning", {"reason": warning}),
            allow_insecure_small_key=options.allow_insecure_small_key,
            insecurely_in_this_process=options.insecurely_in_this_process,
            home=home.path,
        )
        self._maker = Maker(
            self.client, ledger, self.address, account, network, store, report, self._decider, self.room
        )  # fmt: skip

    def close(self) -> None:
        """Closes what asks the Capsule; what it was given stays open."""
        if self._reasons is not None:
            self._reasons.close()

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
        """Withdraws what is owed as far as the policy says; raises ChainError."""
        money = policy.money
        self._collector.step(ether(money.withdraw_above), money.withdraw_tokens, self._options.clock())

    def _signed_last(self, aim: Aim) -> float | None:
        """When the last transaction for an aim that is mined was signed; one under way is gone on with."""
        signed = self.ledger.transactions(self.deployment, Fate.MINED, aim=aim)
        return signed[-1].time if signed else None

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

    def train(self, campaign: KnownCampaign, policy: Policy, *, rehearse: bool = False) -> Trained | None:
        """A gradient for the campaign's present round, as `Maker.train` makes it."""
        return self._maker.train(campaign, policy, rehearse=rehearse)

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
        if not trained.noised:
            self.ledger.note_plain(submission.campaign, submission.round, submission.dataset)
        self.ledger.train(submission, trained.box, {
            "capsule": trained.offer.campaign.admission.oracle, "spec": trained.offer.campaign.spec.digest,
            "records": trained.gradient.records, "data": trained.provenance.to_dict(),
        })  # fmt: skip
        self._report("trained", {
            **_place(submission), "version": trained.version, "dataset": trained.dataset.name,
            "records": trained.gradient.records, "noised": trained.noised, "seconds": round(trained.seconds, 3),
        })  # fmt: skip
        return submission

    def store(self, submission: Submission) -> Submission:
        """Puts a trained gradient into the content store."""
        box = self.ledger.box(submission)
        assert box is not None
        return self.ledger.store(submission, self._store.put(box).cid)

    def post(self, submission: Submission, policy: Policy) -> Submission:
        """Gets a trained gradient into the store and on chain, or finds out how far it got before.

        One that is not signed yet is given up where the owner has since denied the campaign, changed what the policy
        says of who may have what of the data, or removed the data set or put another in its place.
        """
        if submission.state is not State.SIGNED and (reason := withheld(self.ledger, submission, policy)):
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
        self, dataset: Dataset, spec: Spec, policy: Policy, found: Match | None = None, *, rehearse: bool = False
    ) -> tuple[Gathered, Provenance]:
        """What a spec's training needs of a data set, and what was read, as `Maker.gather` has it."""
        return self._maker.gather(dataset, spec, policy, found, rehearse=rehearse)


def _place(submission: Submission) -> dict[str, Any]:
    return {"campaign": hexed(submission.campaign), "round": submission.round}
