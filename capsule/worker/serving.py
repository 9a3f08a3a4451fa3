"""Serves one campaign at a time: has its gradients opened as they come, and its round judged once that is closed.

Everything is seen from one block, up to which the events are read: the contract's views are asked after that block,
so that what the events told and what the contract holds must agree. Where they do not, the node left something out or
made something up, and nothing is judged.
"""

import logging
import threading
import time

from capsule.custody.quarantine import Quarantine
from capsule.errors import CapsuleError
from capsule.parts import Capsule
from capsule.state import Claim, Submission, Version
from capsule.state.posted import posted_head
from capsule.worker.looking import Look, Looks, Newest
from capsule.worker.misfits import Misfits
from capsule.worker.patience import Patience
from capsule.worker.settling import Settler
from capsule.worker.tally import Tally
from sonar.chain.errors import ContractRevertError
from sonar.chain.lookups import Block
from sonar.chain.records import Status
from sonar.units import CampaignId

__all__ = ["Server"]

_log = logging.getLogger("capsule.worker.serving")
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
"""Seconds before a campaign's events are read again once more, while they contradict the contract."""


_OPENINGS = 128
"""How many gradients of all campaigns are being opened at once: each takes a thread for as long as the store looks."""
_PATIENCE_SECONDS, _ROUND_SECONDS = 2.0, 4.0
"""How long a campaign's gradients that are being opened are waited for before others are served, and how long at most
all campaigns may keep the last one waiting by that: gradients that nobody has are cheap to post in many campaigns."""


class Server:
    """The campaigns of one worker. `serve` may be called from several threads, for different campaigns."""

    def __init__(self, capsule: Capsule, tally: Tally) -> None:
        self._capsule, self._tally = capsule, tally
        self._settlers: dict[CampaignId, Settler] = {}
        self._claims: dict[CampaignId, Claim] = {}
        self._contradicted: dict[CampaignId, int] = {}
        self._rereading: dict[CampaignId, Patience] = {}
        self._misfits = Misfits(capsule, tally)
        self._queued: set[CampaignId] = set()
        self._busy: set[CampaignId] = set()
        self._done: set[CampaignId] = set()
        self._rewinds = 0
        self._leaving = False
        self._quarantine = Quarantine(capsule.state)
        self._looks = Looks(capsule, self._is_usual)
        self._openings = threading.BoundedSemaphore(_OPENINGS)
        self._lock = threading.Lock()

    def leave(self) -> None:
        """Gives back what is claimed, so that another worker can go on; what is being served follows at its end.

        Nothing is kept until `stay`. Raises CapsuleDatabaseError where the database does not answer.
        """
        with self._lock:
            self._leaving = True
            claims = [self._claims.pop(campaign) for campaign in set(self._claims) - self._busy]
        for claim in claims:
            claim.release()

    def stay(self) -> None:
        """Keeps again what is claimed for rounds that go on."""
        with self._lock:
            self._leaving = False

    def forget_all_but(self, running: set[CampaignId]) -> None:
        """Gives up what is held for campaigns that are over, and for all of them after the chain took something back.

        Gradients opened before that may be under another version's key.
        """
        position = self._capsule.state.position()
        rewinds = 0 if position is None else position.rewinds
        with self._lock:
            over = set(self._settlers) if rewinds != self._rewinds else set(self._settlers) - running
            if rewinds != self._rewinds:
                self._looks.forget_all_but(set())
            self._rewinds = rewinds
            for campaign in over:
                del self._settlers[campaign]
            claims = [self._claims.pop(campaign) for campaign in set(self._claims) - running - self._busy]
            self._queued &= running
            self._tally.queue_depth.value = len(self._queued)
            self._done &= running
            self._looks.forget_all_but(running)
            self._misfits.forget_all_but(running)
            for about in (self._contradicted, self._rereading):
                for campaign in set(about) - running:
                    about.pop(campaign)
        for claim in claims:
            claim.release()

    def rests(self, campaign: CampaignId, tip: Block, newest: Newest) -> bool:
        """Whether there is nothing to do for it: all was done when it was served last, and nothing was told since."""
        return campaign in self._done and self._looks.has_nothing_due(campaign, tip, newest)

    def serve(self, campaign: CampaignId, block: int, tip: Block, newest: Newest) -> bool:
        """Whether a settlement was signed; `block` is that of the campaign's creation.

        `newest` is the last gradient told of up to the block `tip`. A round that another worker has begun is left to
        it.
        """
        if self.rests(campaign, tip, newest):
            return False
        with self._lock:
            self._busy.add(campaign)
            self._done.discard(campaign)
            claim = self._claims.get(campaign)
        waiting = signed = False
        try:
            claim = claim or self._capsule.state.claims.try_claim(f"campaign {campaign.hex()}")
            if claim is not None:
                waiting, signed = self._serve(campaign, block, tip, newest, claim)
                if not waiting and campaign not in self._contradicted:
                    with self._lock:
                        self._done.add(campaign)
        finally:
            self._put_back(campaign, claim if waiting and not self._misses(campaign) else None, claim)
        return signed

    def _is_usual(self, campaign: CampaignId) -> bool:
        """Whether it need not be looked at after every block: no events contradict it, and no restore is recent."""
        return campaign not in self._contradicted and self._quarantine.has_let_go(campaign)

    def _misses(self, campaign: CampaignId) -> bool:
        """Whether a closed round waits for gradients that this worker's store does not give, and another's may."""
        with self._lock:
            settler = self._settlers.get(campaign)
        return settler is not None and settler.gatherer.misses

    def _put_back(self, campaign: CampaignId, kept: Claim | None, claim: Claim | None) -> None:
        """Keeps a claim for the next time, or gives it back."""
        with self._lock:
            self._busy.discard(campaign)
            self._claims.pop(campaign, None)
            if kept is not None and not self._leaving:
                self._claims[campaign] = kept
                return
        if claim is not None:
            claim.release()

    def _serve(self, campaign: CampaignId, block: int, tip: Block, newest: Newest, claim: Claim) -> tuple[bool, bool]:
        """Whether there is more to do without news from the chain, and whether a settlement was signed."""
        state = self._capsule.state
        if self._misfits.is_due(campaign):
            self._looks.forget(campaign)
        try:
            look = self._looks.look(campaign, tip, newest)
        except ContractRevertError as error:
            return self._contradict(campaign, block, f"the contract does not know it: {error}")
        record, round_ = look.record, look.round
        if record.status is not Status.RUNNING:
            return self._contradict(campaign, block, "no event told of its end")
        version = state.version(campaign, record.version)
        is_held = version is not None and version.score == record.score
        submissions = [one for one in state.submissions(campaign, round_.number) if one.block <= look.tip.number]
        if round_.count == 0:
            if submissions:
                return self._contradict(campaign, block, "it has none of the gradients that were told of")
            if not is_held and campaign not in state.missed():
                return self._contradict(campaign, block, f"its version {record.version} is not in this database")
            self._agree(campaign)
            self._quarantine.check(campaign, round_.number, closed=False, signed=False, seen=look.tip.time)
            if tip.time >= record.terms.deadline:
                if not self._looks.is_latest(look, tip):
                    return True, False
                state.end(campaign, due=record.terms.deadline)
                return False, False
            self._misfits.check(record)
            return False, False
        if posted_head(campaign, round_.number, [one.entry for one in submissions]) != round_.head:
            return self._contradict(campaign, block, f"{len(submissions)} gradients do not make its round's head")
        if version is None or not is_held:
            return self._contradict(campaign, block, f"its version {record.version} is not in this database")
        self._agree(campaign)
        self._misfits.check(record)
        signed = state.round(campaign, round_.number, round_.head) is not None
        closed = round_.count >= record.terms.round_size or tip.time >= round_.closes_at
        self._quarantine.check(campaign, round_.number, closed=closed, signed=signed, seen=look.tip.time)
        if signed:
            self._unqueue(campaign)
            return False, False
        if closed:
            self._queue(campaign)
            state.check_unsigned(campaign, round_.number, round_.head)  # before the work and a key are spent on it
        signed = self._judge(look, tip, version, submissions, claim, closed=closed)
        return not signed, signed

    def _judge(
        self,
        look: Look,
        tip: Block,
        version: Version,
        submissions: list[Submission],
        claim: Claim,
        *,
        closed: bool,
    ) -> bool:
        """Whether the round's settlement is signed and stored now."""
        settler = self._settler(look.record.id)
        opened = settler.gatherer.open_round(version, submissions, closed=closed, patience=self._patience())
        if not closed or opened is None or not self._looks.is_still(look, tip):
            return False
        claim.check()
        begun = time.monotonic()
        settler.settle(version, look.round, opened)
        self._tally.judge_seconds.observe(time.monotonic() - begun)
        self._tally.rounds_judged.add()
        self._tally.gradients_judged.add(len(submissions))
        self._unqueue(look.record.id)
        return True

    def _patience(self) -> float:
        at_once, served = self._capsule.policy.campaigns_at_once, max(len(self._settlers), 1)
        return min(_PATIENCE_SECONDS, _ROUND_SECONDS * at_once / served)

    def _settler(self, campaign: CampaignId) -> Settler:
        """The campaign's judge."""
        with self._lock:
            known = self._settlers.get(campaign)
        if known is not None:
            return known
        stored = self._capsule.state.admission(campaign)
        if stored is None:
            raise CapsuleError(f"the admission of campaign 0x{campaign.hex()} is not in the database: restore a backup")
        settler = Settler(self._capsule, campaign, stored, self._tally, self._openings)
        with self._lock:
            self._settlers[campaign] = settler
        return settler

    def _contradict(self, campaign: CampaignId, block: int, what: str) -> tuple[bool, bool]:
        """Events and contract disagree: at the second time running they are read again, and then less and less often.

        Once is no news: the chain may have changed in between. Raises CapsuleError while reading again did not help.
        """
        times = self._contradicted[campaign] = self._contradicted.get(campaign, 0) + 1
        if times < 2:
            return False, False
        patience = self._rereading.setdefault(campaign, Patience(_FIRST_WAIT, _LONGEST_WAIT))
        if patience.is_over:
            again = patience.failures > 0
            patience.fail()
            if again and campaign in self._capsule.state.missed():
                raise CapsuleError(f"{what}, and no events that are read again can bring it back")
            position = self._capsule.state.position()
            if self._capsule.state.rewind(block, position):
                self._tally.reorganisations.add()
            _log.warning("%s of campaign 0x%s: reading its events again", what, campaign.hex()[:16])
            if not again:
                return False, False
        raise CapsuleError(
            f"the events of campaign 0x{campaign.hex()} contradict the contract, also read again ({what}): check the "
            "node, or restore the database's backup if the database is older than the campaign's last settlement"
        )

    def _agree(self, campaign: CampaignId) -> None:
        """Events and contract agree: a contradiction long after this is a first one.

        One soon after this is not: a node that changes its mind must not have everything read again and again.
        """
        self._contradicted.pop(campaign, None)
        if (patience := self._rereading.get(campaign)) is not None and patience.is_over:
            del self._rereading[campaign]

    def _queue(self, campaign: CampaignId) -> None:
        with self._lock:
            self._queued.add(campaign)
            self._tally.queue_depth.value = len(self._queued)

    def _unqueue(self, campaign: CampaignId) -> None:
        with self._lock:
            self._queued.discard(campaign)
            self._tally.queue_depth.value = len(self._queued)
