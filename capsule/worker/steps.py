"""The Capsule's worker: follows the chain, has closed rounds judged, relays settlements, publishes what was kept.

Every step can be repeated: what the chain told is stored with the place to read on, a settlement is stored before it
is sent, and the contract takes each only once. A restart at any instant continues where the database is.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from capsule.policy import check_campaign
from capsule.service import Capsule
from capsule.state import Final, Submission, Told, Version
from capsule.wire import RoundReply
from capsule.worker.settling import Settler
from sonar.chain.calls import settle_round
from sonar.chain.client import entries_head
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ContractRevertError
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    Event,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
)
from sonar.chain.records import CampaignRecord, Entry, RoundRecord, Status
from sonar.errors import SonarError
from sonar.protocol.errors import SpecError
from sonar.storage import Artifact
from sonar.units import CampaignId

__all__ = ["Worker"]

_log = logging.getLogger("capsule.worker")
_RACES = {"Sonar_WrongRound", "Sonar_WrongStatus", "Sonar_RoundOpen", "Sonar_RoundEmpty"}
"""The contract's refusals of a settlement that mean that somebody was faster, or that the chain's clock is behind."""


class Worker:
    """One pass over everything that waits is `step`; `run` repeats it until it is told to stop."""

    def __init__(self, capsule: Capsule, start_block: int = 0) -> None:
        self._capsule = capsule
        self._start_block = start_block
        self._settlers: dict[CampaignId, Settler] = {}
        self._problems: dict[str, str] = {}
        self._stopping = threading.Event()

    def run(self, poll: float = 1.0) -> None:
        """Steps every `poll` seconds until `stop`; a step that has begun is finished."""
        while not self._stopping.is_set():
            self.step()
            self._stopping.wait(poll)

    def stop(self) -> None:
        """Makes `run` return after its present step."""
        self._stopping.set()

    def health(self) -> dict[str, Any]:
        """Whether the last step went through, else what stopped it."""
        problems = dict(self._problems)
        return {"ok": not problems, "problems": problems}

    def step(self) -> None:
        """Reads the chain, serves every running campaign, publishes; trouble with one does not stop the others."""
        if not self._guarded("chain", self._follow):
            return
        running = self._capsule.state.running()
        self._forget_all_but({campaign for campaign, _ in running})
        for campaign, block in running:
            if self._stopping.is_set():
                return
            self._guarded(campaign.hex(), self._serve, campaign, block)
        self._guarded("publishing", self._publish)

    def _forget_all_but(self, running: set[CampaignId]) -> None:
        kept = {"chain", "publishing", *(campaign.hex() for campaign in running)}
        self._problems = {what: problem for what, problem in self._problems.items() if what in kept}
        self._settlers = {campaign: settler for campaign, settler in self._settlers.items() if campaign in running}

    def _guarded(self, what: str, action: Callable[..., None], *arguments: Any) -> bool:
        try:
            action(*arguments)
        except SonarError as error:
            if self._problems.get(what) != str(error):
                _log.warning("%s: %s", what, error)
            self._problems[what] = str(error)
        except Exception as error:  # noqa: BLE001
            # A mistake of ours in one campaign must not silence the Capsule for all others.
            _log.exception("%s failed", what)
            self._problems[what] = f"{type(error).__name__}: see the log"
        else:
            self._problems.pop(what, None)
        return what not in self._problems

    # ---- what the chain tells

    def _follow(self) -> None:
        state = self._capsule.state
        known = state.position()
        cursor = EventCursor(self._capsule.chain, self._start_block if known is None else known.block)
        events = [event for event in cursor.read() if self._is_ours(event)]
        if known is not None and cursor.next_block == known.block:
            return
        latest: dict[CampaignId, Version | None] = {}
        finals = [self._final(event, latest) for event in events if isinstance(event, RoundSettled)]
        told = Told(
            cursor.next_block,
            created=tuple((e.id, e.block) for e in events if isinstance(e, CampaignCreated)),
            submitted=tuple((e.id, _submission(e)) for e in events if isinstance(e, GradientSubmitted)),
            settled=tuple(final for final in finals if final is not None),
            expired=tuple((e.id, e.round, e.block) for e in events if isinstance(e, RoundExpired)),
            over=tuple((e.id, e.block) for e in events if isinstance(e, CampaignFinished | CampaignClosed)),
        )
        state.follow(told, since=known)

    def _is_ours(self, event: Event) -> bool:
        campaign = getattr(event, "id", None)
        return campaign is not None and self._capsule.state.knows(campaign)

    def _final(self, event: RoundSettled, latest: dict[CampaignId, Version | None]) -> Final | None:
        """A settlement that the chain took: an advancing one brings the next model version."""
        state = self._capsule.state
        stored, before = state.round(event.id, event.round), latest.get(event.id) or state.version(event.id)
        settlement = None if stored is None else RoundReply.model_validate_json(stored.settlement).settlement()[0]
        if stored is None or before is None or settlement is None or settlement.model != event.model:
            _log.error(
                "round %d of campaign %s was settled in a way that this database does not hold: restore its backup",
                event.round,
                event.id.hex(),
            )
            return None
        version = None
        if settlement.advances and stored.weights is not None:
            model = Artifact(settlement.model_cid, settlement.model)
            version = Version(before.number + 1, settlement.score, settlement.key, model, stored.weights)
            latest[event.id] = version
        return Final(event.id, event.round, stored.head, event.block, version)

    # ---- campaigns

    def _serve(self, campaign: CampaignId, block: int) -> None:
        chain, state = self._capsule.chain, self._capsule.state
        record = chain.campaign(campaign)
        if record.status is not Status.RUNNING:
            return  # its last events come with the next read
        round_ = chain.round(campaign)
        now = chain.now()
        if round_.count == 0:
            if now >= record.terms.deadline:
                self._capsule.state.end(campaign)
            return
        submissions = state.submissions(campaign, round_.number)
        entries = [submission.entry for submission in submissions]
        if entries_head(campaign, round_.number, entries) != round_.head:
            if len(entries) >= round_.count:
                _log.warning("the chain's history of %s changed: reading it again", campaign.hex()[:16])
                state.rewind(block, since=state.position())
            return
        closed = round_.count >= record.terms.round_size or now >= round_.closes_at
        stored = state.round(campaign, round_.number, round_.head)
        signed = stored is not None and stored.state == "signed"
        if signed or self._judge(record, round_, submissions, closed=closed):
            self._relay(campaign, round_, entries)

    def _judge(
        self, record: CampaignRecord, round_: RoundRecord, submissions: list[Submission], *, closed: bool
    ) -> bool:
        """Whether the round's settlement is signed and stored now."""
        settler = self._settler(record)
        version = self._capsule.state.version(record.id, record.version)
        if settler is None or version is None:
            return False
        results = settler.open_round(version, submissions, closed=closed)
        if not closed or results is None:
            return False
        settler.settle(version, round_, results)
        return True

    def _settler(self, record: CampaignRecord) -> Settler | None:
        """The campaign's judge; None for one whose terms on chain are not those that were admitted."""
        if record.id not in self._settlers:
            stored = self._capsule.state.admission(record.id)
            if stored is None:
                return None
            settler = Settler(self._capsule, record.id, stored)
            try:
                check_campaign(settler.spec, record, self._capsule.address)
            except SpecError as error:
                _log.error("campaign %s is not judged: %s", record.id.hex(), error)
                self._capsule.state.end(record.id)
                return None
            self._settlers[record.id] = settler
        return self._settlers[record.id]

    def _relay(self, campaign: CampaignId, round_: RoundRecord, entries: list[Entry]) -> None:
        stored = self._capsule.state.round(campaign, round_.number, round_.head)
        if stored is None:
            return
        settlement, signature = RoundReply.model_validate_json(stored.settlement).settlement()
        try:
            self._capsule.chain.transact(settle_round(settlement, entries, signature))
        except ContractRevertError as error:
            if error.name not in _RACES:
                raise
            _log.info("round %d of %s: %s", round_.number, campaign.hex()[:16], error)
        else:
            _log.info("settled round %d of %s", round_.number, campaign.hex()[:16])

    # ---- what is final

    def _publish(self) -> None:
        """Stores the kept gradients of final rounds, so that anyone can recompute the next model."""
        capsule = self._capsule
        for campaign, number, head, place, gradient in capsule.state.unpublished():
            capsule.state.publish(campaign, number, head, place, capsule.store.put(gradient))


def _submission(event: GradientSubmitted) -> Submission:
    return Submission(
        event.round, event.index, Entry(event.mine, event.artifact, event.gradient), event.cid, event.block
    )
