"""The Capsule's worker: follows the chain, has closed rounds judged, relays settlements, publishes what was kept.

Every step can be repeated: what the chain told is stored with the place to read on, a settlement is stored before it
is sent, and the contract takes each only once. A restart at any instant continues where the database is.

Campaigns are served side by side, each by one thread of one worker at a time; one that is slow or in trouble keeps
nobody waiting. Several workers may share a database: they claim campaigns round by round, and one of them relays.
"""

import logging
import threading
import time
from functools import partial
from typing import Any

from capsule.custody.retention import Retention
from capsule.errors import CapsuleError
from capsule.logs import fields
from capsule.notes import missed_problem
from capsule.parts import Capsule
from capsule.state import Claim
from capsule.worker.crew import Crew
from capsule.worker.following import Follower
from capsule.worker.guarding import AUDIT, NOTING, PASS, Guard
from capsule.worker.looking import Newest
from capsule.worker.missing import MissedCampaigns
from capsule.worker.patience import Patience
from capsule.worker.relaying import Relayer
from capsule.worker.serving import Server
from capsule.worker.tally import Tally
from capsule.worker.untold import UntoldCampaigns
from sonar.chain.lookups import Block
from sonar.units import CampaignId

__all__ = ["Worker"]

_log = logging.getLogger("capsule.worker")
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
"""Seconds that a chain or a database that does not answer is left alone."""
_GIVE_UP = 3
"""How often the chain, the store or the relaying must fail, one time after the other, until this worker leaves what it
claimed to others whose node and store may answer."""
_GATHER_SECONDS = 0.25
"""How long after a settlement was signed others are waited for, which one pass relays together."""
_PAUSE_SECONDS = 5.0
"""How long nothing is done after a pass that failed as a whole."""
_STOP_SECONDS = 10.0
"""How long what is being done may take when the worker stops."""
_FOLLOWING, _CAMPAIGNS, _RELAYING, _PUBLISHING = "chain", "campaigns", "relaying", "publishing"
_CREATIONS = "creations"
_LEAVING = "claims"
_DELETING = "deleting"
_PUBLISHER = "publisher"


class Worker:
    """One pass over everything that waits is `step`; `run` repeats it until it is told to stop."""

    def __init__(self, capsule: Capsule, start_block: int = 0, tally: Tally | None = None) -> None:
        self.tally = Tally() if tally is None else tally
        self._capsule = capsule
        self._follower = Follower(capsule, start_block, self.tally)
        self._server = Server(capsule, self.tally)
        self._relayer = Relayer(capsule, self.tally)
        self._retention = Retention(capsule.state, capsule.policy, capsule.clock)
        self._crew = Crew(capsule.policy.campaigns_at_once)
        self._publisher, self._searcher = Crew(1), Crew(1)
        self._chain = Patience(_FIRST_WAIT, _LONGEST_WAIT)
        self._guard = Guard(capsule, self.tally)
        self._served: dict[CampaignId, float] = {}
        self._missing = MissedCampaigns(capsule)
        self._untold = UntoldCampaigns(capsule, start_block, self.tally)
        self._missed: dict[CampaignId, int] = {}
        self._relay: Claim | None = None
        self._relay_failures = 0
        self._stopping = threading.Event()
        self._wake = threading.Event()

    def run(self, poll: float = 1.0) -> None:
        """Makes a pass every `poll` seconds until `stop`, or soon when a settlement was signed.

        What does not answer is asked less and less often, and whatever stops a pass ends with it: nobody else makes the
        next one. Campaigns that are being served when it stops get a little time to finish; what they have not stored
        by then is done again.
        """
        try:
            while not self._stopping.is_set():
                self._guard.beat()
                if self._chain.is_over and not self._guard.guarded(PASS, self._present_pass):
                    self._stopping.wait(_PAUSE_SECONDS)
                if self._wake.wait(poll):
                    self._stopping.wait(min(poll, _GATHER_SECONDS))
                self._wake.clear()
        finally:
            self._guard.end()
            self._crew.wait(timeout=_STOP_SECONDS)
            self._publisher.wait(timeout=_STOP_SECONDS)
            self._searcher.wait(timeout=_STOP_SECONDS)
            self.close()

    def stop(self) -> None:
        """Makes `run` return after its present pass."""
        self._guard.stop()
        self._stopping.set()
        self._wake.set()

    def close(self) -> None:
        """Leaves what this worker has claimed to the others."""
        self._guard.close()
        self._leave()

    def health(self) -> dict[str, Any]:
        """Whether everything went through last time, else what stopped it, and since when (seconds since 1970)."""
        return self._guard.health()

    def step(self) -> None:
        """One pass that waits for everything it began, and asks also what did not answer before."""
        self._pass(wait=True)
        self._guard.note()

    def _present_pass(self) -> None:
        with self._guard.timing_pass():
            self._pass(wait=False)
            self._guard.note()

    def _pass(self, *, wait: bool) -> None:
        found: list[Block | None] = []
        if not self._guard.guarded(_FOLLOWING, lambda: found.append(self._follow())):
            if self._chain.failures >= _GIVE_UP:
                self._guard.guarded(_LEAVING, self._leave)
            return
        (tip,) = found
        if tip is None:
            return
        store_answers = wait or self._guard.store.is_over
        if store_answers:
            self._guard.guarded(_CAMPAIGNS, partial(self._begin_campaigns, tip, wait=wait))
        elif self._guard.store.failures >= _GIVE_UP:
            self._guard.guarded(_LEAVING, self._server.leave)
        self._relay_failures = (
            0 if self._guard.guarded(_RELAYING, partial(self._bring_on_chain, tip)) else self._relay_failures + 1
        )
        if self._relay_failures >= _GIVE_UP:
            self._guard.guarded(_LEAVING, self._leave_relaying)
        self._guard.guarded(_DELETING, partial(self._retention.step, tip))
        if store_answers:
            self._guard.guarded(_PUBLISHER, partial(self._publisher.start, _PUBLISHING, self._publish_guarded))
        if wait:
            self._publisher.wait()

    def _follow(self) -> Block | None:
        try:
            tip = self._follower.follow()
        except Exception:
            if not self._chain.failures:
                self.tally.outages.add()
            self._chain.fail()
            raise
        self._chain.succeed()
        return tip

    def _leave(self) -> None:
        """Gives back all claims: whoever gets nowhere must not keep others from the work."""
        self._server.leave()
        self._leave_relaying()

    def _leave_relaying(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.release()

    # ---- campaigns

    def _begin_campaigns(self, tip: Block, *, wait: bool) -> None:
        """Serves every running campaign, those first that waited longest."""
        self._server.stay()
        running, newest = dict(self._capsule.state.running()), self._capsule.state.newest()
        self._missed = self._missing.present(tip)
        self.tally.undeliverable.value = len(self._missed)
        self._forget_all_but(set(running))
        for campaign in self._missed.keys() - running.keys():
            self._guard.troubles.tell(campaign.hex(), missed_problem(self._missed[campaign]))
        for campaign in sorted(running, key=lambda one: self._served.get(one, 0.0)):
            last = newest.get(campaign)
            if campaign.hex() not in self._guard.troubles and self._server.rests(campaign, tip, last):
                continue
            job = partial(self._serve, campaign, running[campaign], tip, last)
            while not (begun := self._crew.start(campaign.hex(), job)) and wait:
                self._crew.wait(self._capsule.policy.campaigns_at_once - 1)
            if begun:
                self._served[campaign] = time.monotonic()
        self._searcher.start(_CREATIONS, partial(self._look_for_untold, tip))
        if wait:
            self._crew.wait()
            self._searcher.wait()

    def _look_for_untold(self, tip: Block) -> None:
        with self._guard.timing_job(_CREATIONS):
            self._guard.guarded(_CREATIONS, partial(self._untold.look, tip))

    def _serve(self, campaign: CampaignId, block: int, tip: Block, newest: Newest) -> None:
        signed: list[bool] = []
        serve = partial(self._serve_unless_missed, campaign, block, tip, newest)
        with fields(campaign="0x" + campaign.hex()), self._guard.timing_job(campaign.hex()):
            self._guard.guarded(campaign.hex(), lambda: signed.append(serve()))
        if any(signed):
            self._wake.set()

    def _serve_unless_missed(self, campaign: CampaignId, block: int, tip: Block, newest: Newest) -> bool:
        """Serves also one whose version is missed, whose events are read again then: perhaps the node left some out."""
        missed = self._missed.get(campaign)
        try:
            signed = self._server.serve(campaign, block, tip, newest)
        except CapsuleError as error:
            if missed is None:
                raise
            raise CapsuleError(missed_problem(missed)) from error
        if missed is not None:
            raise CapsuleError(missed_problem(missed))
        return signed

    def _forget_all_but(self, running: set[CampaignId]) -> None:
        self._server.forget_all_but(running)
        self._served = {campaign: since for campaign, since in self._served.items() if campaign in running}
        kept = {
            _FOLLOWING,
            _PUBLISHING,
            _PUBLISHER,
            PASS,
            NOTING,
            _CREATIONS,
            _DELETING,
            AUDIT,
            _LEAVING,
            *(campaign.hex() for campaign in running | self._missed.keys()),
        }
        self._guard.troubles.forget(lambda what: what not in kept and not what.startswith(_RELAYING))

    # ---- settlements and what is final

    def _bring_on_chain(self, tip: Block) -> None:
        """Relays, as long as no other worker does."""
        state = self._capsule.state
        try:
            if self._relay is not None:
                self._relay.check()
        except CapsuleError:
            self._relay = None
            raise
        self._relay = self._relay or state.claims.try_claim("relay")
        if self._relay is None:
            return
        try:
            self._relayer.step(tip)
        finally:
            told = {f"{_RELAYING} {what}": problem for what, problem in self._relayer.problems.items()}
            for what in self._guard.troubles.present():
                if what.startswith(f"{_RELAYING} ") and what not in told:
                    self._guard.troubles.end(what)
            for what, problem in told.items():
                self._guard.troubles.tell(what, problem)

    def _publish_guarded(self) -> None:
        with self._guard.timing_job(_PUBLISHING):
            self._guard.guarded(_PUBLISHING, self._publish)

    def _publish(self) -> None:
        """Stores the kept gradients of final rounds, so that anyone can recompute the next model."""
        capsule, stored = self._capsule, []
        try:
            for campaign, number, head, place, gradient in capsule.state.unpublished():
                stored.append((campaign, number, head, place, capsule.store.put(gradient)))
        finally:  # also where the store took some of them only
            if stored:
                capsule.state.publish(stored)
