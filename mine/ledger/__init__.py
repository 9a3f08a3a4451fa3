"""The mine's ledger: data sets, campaigns as followed on chain, and every submission, in one SQLite file.

Events and the cursor behind them are one transaction, so each event counts once. A gradient's sealed
bytes are written here before they are stored, and its signed transaction before it is sent, so a restart can look them
up and repeat what was cut short instead of guessing.

Each part of the ledger has its tables in a module of its own; `schema` joins them to one format.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from mine.ledger.approvals import Approvals
from mine.ledger.campaigns import Campaigns
from mine.ledger.database import Database
from mine.ledger.datasets import Datasets
from mine.ledger.matches import Matches
from mine.ledger.moments import Moments
from mine.ledger.prospects import Prospects
from mine.ledger.quorums import Quorums
from mine.ledger.rounds import Rounds
from mine.ledger.schema import TABLES, VERSION
from mine.ledger.submissions import Submissions
from mine.ledger.turns import Turns
from mine.records import token_or_none
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.records import Status
from sonar.units import Address, CampaignId

__all__ = ["Ledger"]


class Ledger(Datasets, Matches, Campaigns, Prospects, Submissions, Moments, Rounds, Approvals, Turns, Quorums):
    """An open ledger; a context manager. Several processes may have it open, one at a time writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(Database(path, TABLES, VERSION))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def apply(self, deployment: str, mine: Address, events: Iterable[Event], *, before: int | None, after: int) -> bool:
        """Applies events in chain order and moves the cursor from `before` to `after`, both or neither.

        Returns False, with nothing done, if another process has moved the cursor meanwhile.
        """
        with self._database.write():
            if self.cursor(deployment) != before:
                return False
            for event in events:
                self._apply(deployment, mine, event)
            self._database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", deployment, after)
        return True

    def _apply(self, deployment: str, mine: Address, event: Event) -> None:
        if isinstance(event, GradientSubmitted):
            self._counted(event)
        match event:
            case CampaignCreated():
                self._created(deployment, event)
                self._quorum(event)
                self._found(event.id, 0)
            case GradientSubmitted() if event.mine == mine:
                self._submitted(event)
                self._told_of(deployment, event.transaction, event.id, event.block)
            case GradientJudged() if event.mine == mine:
                self._judged(event, **self._shortage(event))
                self._judged_in(event.id, event.round, event.block)
            case RoundSettled():
                self._missed(event.id, event.round, "the round was settled without it")
                if event.advances:
                    self._advanced(event)
                self._next_round(event.id, event.round + 1)
                self._found(event.id, event.round + 1)
            case RoundExpired():
                self._expired(event)
                self._missed(event.id, event.round, "the round expired without it")
                self._next_round(event.id, event.round + 1)
                self._found(event.id, event.round + 1)
            case Withdrawn() if event.account == mine:
                self._paid(deployment, event.token)
                self._told_of(deployment, event.transaction, CampaignId(b""), event.block)
                self.record("withdrawn", {
                    "token": token_or_none(event.token), "amount": event.amount, "to": event.to,
                    "transaction": event.transaction,
                })  # fmt: skip
            case CampaignTransferred():
                self._owned(event.id, event.new_owner)
            case CampaignFinished():
                self._status(event.id, Status.FINISHED)
            case CampaignClosed():
                self._missed(event.id, self.campaign(event.id).round, "the campaign was closed without it")
                self._status(event.id, Status.CLOSED)
            case _:
                pass  # what a bounty is, and to whom a campaign is offered, is asked of the chain when it matters
