"""What a restored Capsule must not sign: a second settlement of a round that it may have signed before.

A backup knows nothing of what was signed after it. The next model of a settlement is under a fresh key, so judging the
same round again gives another settlement, and anyone who has both could choose. So each campaign of a restored database
is held until the chain was seen as it was after the restore, when the former Capsule had signed its last: a round that
is closed then may have been signed and is held back; one that is still open, or empty, cannot have been. A chain that
was seen as it was before, by a node that lags, tells nothing of that and frees nothing.

A round is held until the chain goes on without it: because somebody relayed the former settlement, or let the round
expire after its settlement window. The operator may release it sooner, who knows that no other settlement was
published. What was found out is kept as long as the campaign's secrets are, for a node that forgets what it told.

The audit log tells of all this too, and a row that says something else is not believed: whoever writes to the database
could have a round signed again otherwise.
"""

import logging
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from capsule.errors import AuditLogError, CapsuleError
from capsule.state import State
from capsule.state import tables as t
from capsule.state.holding import row_of
from sonar.units import CampaignId

__all__ = ["Quarantine", "RoundHeldError", "hold"]

_log = logging.getLogger("capsule.quarantine")


class RoundHeldError(CapsuleError):
    """A round is not judged, because it may have been before the database was restored."""


def hold(db: Connection, campaigns: Iterable[CampaignId], since: float) -> None:
    """Holds campaigns until the chain was seen after `since`, within the transaction that restores them then.

    `since` is in seconds since 1970. What an earlier restore held is not known to be settled either, so it is held
    anew.
    """
    db.execute(delete(t.held))
    for campaign in campaigns:
        db.execute(insert(t.held).values(campaign=campaign, since=since, round=None, holding=1))


class Quarantine:
    """The campaigns of a restored database. Safe in threads, and for several workers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._never_held: set[CampaignId] = set()

    def check(self, campaign: CampaignId, number: int, *, closed: bool, signed: bool, seen: float) -> None:
        """Raises RoundHeldError while the campaign's present round must not be signed.

        Called with each look at the chain: `seen` is the time of the block that was looked at, which has its
        confirmations; `closed` says that the round takes no more gradients, `signed` that it was signed here. Raises
        AuditLogError where the campaign's row was changed; one that is gone is missed by `State.check_unsigned`.
        """
        if campaign in self._never_held:
            return
        row = self._row(campaign)
        if row is None:
            self._never_held.add(campaign)
            return
        row = self._agreed(campaign)
        if row is None:
            return
        since, last, was_holding = row
        if last is None:
            if seen <= since:
                if closed and not signed:
                    raise RoundHeldError(
                        f"round {number} of campaign 0x{campaign.hex()} may have been signed before this database was "
                        "restored: it is held back, and the chain was not yet seen as it was after that"
                    )
                return
            last = number if closed else number - 1
        holding = closed and not signed and number <= last
        if holding != was_holding or row[1] is None:
            self._note(campaign, last, holding=holding)
        if holding:
            raise RoundHeldError(
                f"round {number} of campaign 0x{campaign.hex()} may have been signed before this database was "
                "restored: it is held back until it is settled or expired on chain; `capsule held` can release it"
            )

    def has_let_go(self, campaign: CampaignId) -> bool:
        """Whether `check` has found that no restore ever held the campaign, so that it need not see every block."""
        return campaign in self._never_held

    def held(self) -> dict[CampaignId, int | None]:
        """The campaigns that are held, with the round that is; None for one of which the chain was not yet seen."""
        with self._state.snapshot() as db:
            rows = db.execute(select(t.held).where(_holding()).order_by(t.held.c.campaign)).all()
        return {CampaignId(row.campaign): row.round for row in rows}

    def release(self, campaign: CampaignId) -> bool:
        """Lets the campaign's round be signed again, on the operator's word; False where it is not held."""
        with self._state.transaction() as db:
            its = delete(t.held).where(t.held.c.campaign == campaign, _holding())
            done = bool(db.execute(its).rowcount)
            if done:
                self._state.audit.append(db, "released", {"campaign": campaign})
        return done

    def _row(self, campaign: CampaignId) -> tuple[float, int | None, bool] | None:
        with self._state.snapshot() as db:
            return row_of(db, campaign)

    def _agreed(self, campaign: CampaignId) -> tuple[float, int | None, bool] | None:
        """The campaign's row, as the audit log tells it too; None where it was let go of meanwhile."""
        with self._state.snapshot() as db:
            hold = self._state.hold_of(db, campaign)
            row = row_of(db, campaign)
        if hold is None and row is None:
            return None
        if hold is None or row is None or not hold.is_told_by(row[:2]):
            raise AuditLogError(
                self._state.audit_head().length if hold is None else hold.sequence,
                f"what a restore holds back of campaign 0x{campaign.hex()} is not in the database as the log tells: "
                "run capsule audit verify, and restore a backup",
            )
        return row

    def _note(self, campaign: CampaignId, last: int, *, holding: bool) -> None:
        """Stores what was found out, unless another worker was faster or the operator has released it."""
        with self._state.transaction() as db:
            found = row_of(db, campaign)
            if found is None or found[1:] == (last, holding):
                return
            if found[1] is None:
                self._state.audit.append(db, "cleared", {"campaign": campaign, "from": last + 1})
            else:
                last = found[1]
            its = update(t.held).where(t.held.c.campaign == campaign)
            db.execute(its.values(round=last, holding=int(holding)))
            if holding:
                self._state.audit.append(db, "held", {"campaign": campaign, "round": last})
        if holding:
            _log.warning("round %d of 0x%s is held back: it may have been signed before", last, campaign.hex()[:16])


def _holding() -> ColumnElement[bool]:
    """What waits for the chain or the operator: not a campaign that is over, unless the chain takes its end back."""
    over = select(t.campaigns.c.campaign).where(t.campaigns.c.state == "over")
    return and_(t.held.c.holding == 1, t.held.c.campaign.not_in(over))
