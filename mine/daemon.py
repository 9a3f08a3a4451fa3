"""The mine's loop: what can be done now is done, what is down is waited for, what will not do is said once and left.

One step reads events first, then goes through the running campaigns; a stop at any point of it is harmless (see
`mine.ledger` and `mine.posting`). Problems of one campaign never stop another.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from mine.errors import ApartError, LedgerError, NotNowError, PolicyError, SourceAwayError
from mine.policy import Policy
from mine.records import KnownCampaign, token_or_none
from mine.reporting import Report
from mine.stopping import Stop
from mine.strategy import in_turn
from mine.worker import Worker
from sonar.chain.errors import (
    ChainError,
    ContractRevertError,
    RpcUnavailableError,
    WrongChainError,
)
from sonar.chain.events import (
    BountyRaised,
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    Event,
    GradientJudged,
    RoundExpired,
)
from sonar.chain.records import NATIVE, Status
from sonar.errors import SonarError
from sonar.signers import SignerError
from sonar.storage import DigestMismatchError, StorageError
from sonar.syft import EngineError
from sonar.units import Address, CampaignId

__all__ = ["Daemon"]

_LONGEST_PAUSE = 30.0
_PROVIDE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Pause:
    error: SonarError
    until: float
    length: float


class Daemon:
    """Runs a worker, connected when first needed and again after its chain was lost.

    `policy` is asked before every step, so that the owner's changes count at once.
    """

    def __init__(
        self,
        connect: Callable[[], Worker],
        policy: Callable[[], Policy],
        report: Report,
        *,
        poll: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        stop: Stop | None = None,
    ) -> None:
        self._connect = connect
        self._policy = policy
        self._report = report
        self._poll = poll
        self._clock = clock
        self._stop = stop or Stop()
        self._worker: Worker | None = None
        self.policy = Policy()
        """The owner's settings as they were read last."""
        self._provided_at: float | None = None
        self._pauses: dict[CampaignId | str, _Pause] = {}
        self._declined: dict[CampaignId, tuple[Hashable, str]] = {}

    def run(self, only: str = "", after: Callable[[], None] = lambda: None) -> None:
        """Steps until a stop is asked for, and calls `after` each step. Raises WrongChainError and LedgerError."""
        while not self._stop.requested:
            self.attempt(only)
            after()
            down = self._pauses.get("chain")
            self._stop.sleep(self._poll if down is None else max(0.0, down.until - self._clock()))

    def close(self) -> None:
        """Lets go of the worker; the next step connects anew."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def attempt(self, only: str = "") -> None:
        """One step that takes an unreachable chain as something to wait for."""
        try:
            self.step(only)
        except RpcUnavailableError as error:
            # The node may come back as another chain, so everything that was learned from it is looked at anew.
            self.close()
            self._provided_at = None
            self._wait("chain", error)
        except PolicyError as error:
            self._wait("policy", error)  # its file was changed and cannot be read: nothing is done until it can be

    def step(self, only: str = "") -> None:
        """Does everything that can be done now, for campaigns whose id in hex starts with `only`.

        Raises RpcUnavailableError and WrongChainError, and PolicyError for a policy that cannot be read.
        """
        if self._worker is None:
            self._worker = self._connect()
        worker, policy = self._worker, self._policy()
        self.policy = policy
        self._resume("policy")
        events = worker.follow(policy)
        self._resume("chain")
        for event in events:
            self._tell(worker, event)
            if isinstance(event, BountyRaised | CampaignTransferred) and event.id in self._declined:
                # It may be worth the work now, or its owner welcome; the same reason is not said again.
                self._declined[event.id] = (None, self._declined[event.id][1])
        self._provide(worker)
        self._collect(worker, policy)
        worker.tend()
        for campaign in in_turn(worker.ledger.campaigns(worker.deployment), worker.ledger.served()):
            if self._stop.requested:
                return
            if campaign.status is Status.RUNNING and campaign.id.hex().startswith(only):
                self._consider(worker, campaign, policy)

    def knows(self, start: str) -> bool:
        """Whether there is a campaign, running or over, whose id in hex starts so; of the chain as it was seen last."""
        worker = self._worker
        return worker is not None and any(
            campaign.id.hex().startswith(start) for campaign in worker.ledger.campaigns(worker.deployment)
        )

    @property
    def worker(self) -> Worker | None:
        """The worker, while the chain is there."""
        return self._worker

    def reasons(self) -> dict[str, str]:
        """What is waited for, and why: `chain`, `store`, `policy`, `withdrawal`, or a campaign by its id."""
        return {
            what if isinstance(what, str) else "0x" + what.hex(): str(pause.error)
            for what, pause in self._pauses.items()
        }

    def waiting(self) -> SonarError | None:
        """The first of the things that are down, if there is one; what the policy puts off is not down."""
        return next((pause.error for pause in self._pauses.values() if not isinstance(pause.error, NotNowError)), None)

    def _provide(self, worker: Worker) -> None:
        """Stores may forget what nobody holds on to, so they are given open gradients again and again."""
        due = self._provided_at is None or self._clock() - self._provided_at >= _PROVIDE_SECONDS
        if not due or self._pausing("store"):
            return
        try:
            worker.provide()
        except StorageError as error:
            self._wait("store", error)
        else:
            self._provided_at = self._clock()
            self._resume("store")

    def _collect(self, worker: Worker, policy: Policy) -> None:
        if self._pausing("withdrawal"):
            return
        try:
            worker.collect(policy)
        except (RpcUnavailableError, WrongChainError, LedgerError):
            raise
        except SonarError as error:
            self._wait("withdrawal", error)
        else:
            self._resume("withdrawal")

    def _consider(self, worker: Worker, campaign: KnownCampaign, policy: Policy) -> None:
        if self._pausing(campaign.id):
            return
        basis = worker.basis(campaign, policy)
        if self._declined.get(campaign.id, (None, ""))[0] == basis:
            return
        try:
            worker.work(campaign, policy)
        except (RpcUnavailableError, WrongChainError, LedgerError):
            raise
        except SonarError as error:
            if _passes(error):
                self._wait(campaign.id, error)
            else:
                self._decline(worker, campaign, basis, error)
        else:
            self._resume(campaign.id)
            self._declined.pop(campaign.id, None)

    def _decline(self, worker: Worker, campaign: KnownCampaign, basis: Hashable, error: SonarError) -> None:
        reason = str(error)
        if self._declined.get(campaign.id, (None, ""))[1] != reason:
            self._report("declined", {"campaign": "0x" + campaign.id.hex(), "reason": reason})
            worker.refuse(campaign, reason)
        self._declined[campaign.id] = (basis, reason)
        self._pauses.pop(campaign.id, None)

    def _pausing(self, what: CampaignId | str) -> bool:
        return what in self._pauses and self._clock() < self._pauses[what].until

    def _wait(self, what: CampaignId | str, error: SonarError) -> None:
        last = self._pauses.get(what)
        length = min(self._poll if last is None else 2 * last.length, max(_LONGEST_PAUSE, self._poll))
        if last is None or _kind(last.error) != _kind(error):
            self._report("waiting", {**_for(what), "reason": str(error)})
        self._pauses[what] = _Pause(error, self._clock() + length, length)

    def _resume(self, what: CampaignId | str) -> None:
        if self._pauses.pop(what, None) is not None:
            self._report("resumed", _for(what))

    def _tell(self, worker: Worker, event: Event) -> None:
        if isinstance(event, CampaignCreated | CampaignFinished | CampaignClosed):
            word = {CampaignCreated: "campaign", CampaignFinished: "finished", CampaignClosed: "closed"}[type(event)]
            self._report(word, _for(event.id))
        elif isinstance(event, GradientJudged) and event.mine == worker.address:
            submission = worker.explain(event)
            self._report("judged", {
                **_for(event.id), "round": event.round, "verdict": event.verdict.name.lower(),
                "reason": (submission and submission.note) or None, "share_ppm": event.share,
                "payout_wei": event.payout, "token": _token(worker, event.id),
                "bond_returned_wei": event.bond_returned, "bond_lost_wei": submission and submission.bond_lost,
            })  # fmt: skip
        elif isinstance(event, BountyRaised):
            self._report("raised", {**_for(event.id), "bounty_wei": event.bounty, "token": _token(worker, event.id)})
        elif isinstance(event, RoundExpired) and worker.ledger.submission(event.id, event.round) is not None:
            self._report("expired", {**_for(event.id), "round": event.round})


def _passes(error: SonarError) -> bool:
    """Whether a problem may end by itself, or by somebody's help elsewhere."""
    if isinstance(error, StorageError):
        return error.transient or isinstance(error, DigestMismatchError)
    if isinstance(error, ChainError):  # a node that is behind, or of a pool that disagrees, catches up
        return not isinstance(error, ContractRevertError | WrongChainError)
    if isinstance(error, ApartError):
        return not error.lasting
    # An engine whose helper process was killed, for memory perhaps, starts another one.
    return isinstance(error, EngineError | NotNowError | SignerError | SourceAwayError)


def _kind(error: SonarError) -> Hashable:
    """What tells one reason to wait from another; sentences hold times and prices, which change all the while."""
    return type(error), error.rules if isinstance(error, NotNowError) else ()


def _token(worker: Worker, campaign: CampaignId) -> Address | None:
    """The token that a campaign pays in; None for native coin."""
    tokens = {known.id: known.token for known in worker.ledger.campaigns(worker.deployment)}
    return token_or_none(tokens.get(campaign, NATIVE))


def _for(what: CampaignId | str) -> dict[str, Any]:
    return {"what": what} if isinstance(what, str) else {"campaign": "0x" + what.hex()}
