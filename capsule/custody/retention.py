"""Deletion: what decrypts a campaign does not outlive its use.

After a campaign's delivery and a retention time, or a longer time after the end of one whose model nobody fetched, the
secrets of its keys, its validation set and its weights are deleted; their rows stay. What a running campaign needs is
never deleted, whatever the clock says: only what the chain, read up to its last confirmed block, shows as over, or as
never made by when it had to be. That is looked at again in the transaction that deletes, since another thread or worker
may have forgotten a part of the chain meanwhile, to read it again.

A time has passed when it has by this machine's clock and by the chain's too: a clock that jumps ahead, as one that is
set over the network may, deletes nothing early, and neither does a node that shows a block of a later time.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, or_, select, update

from capsule.policy import Policy
from capsule.state import State
from capsule.state import tables as t
from capsule.state.chainfacts import forget_end, forget_missed, position_in
from sonar.chain.lookups import Block
from sonar.units import CampaignId

__all__ = ["Kept", "Retention", "delete_secrets", "is_due"]

_log = logging.getLogger("capsule.retention")
_PAUSE_SECONDS: Final = 3600.0
_ADMISSION_SECONDS: Final = 3600.0
"""How long a key that is used up is left alone at least: far longer than any admission takes."""
_SCRUB_SECONDS: Final = 0.25
"""How long a try to empty SQLite's log may keep writers waiting."""
_SCRUB_AGAIN_SECONDS: Final = 10.0
_WARN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A campaign that has secrets left; times in seconds of the Capsule's clock.

    `state` and `ended` are None for one that is not on chain, as far as the chain was read, `delivered` for one whose
    model was not fetched.
    """

    campaign: CampaignId
    valid_until: int
    state: str | None
    ended: float | None
    delivered: float | None


def is_due(kept: Kept, policy: Policy, now: float, seen: float) -> bool:
    """Whether the campaign's secrets are to be deleted; `seen` is the time of the last block that was read."""
    now = min(now, seen)
    if kept.state is None:  # its admission was never used, and cannot be any more
        return now > kept.valid_until and now >= kept.valid_until + policy.abandoned_seconds
    if kept.state != "over" or kept.ended is None:
        return False
    if kept.delivered is None:
        return now >= kept.ended + policy.abandoned_seconds
    return now >= max(kept.ended, kept.delivered) + policy.retention_seconds


class Retention:
    """Deletes what is due; `step` is called after each read of the chain, and looks once an hour."""

    def __init__(self, state: State, policy: Policy, clock: Callable[[], float] = time.time) -> None:
        self._state, self._policy, self._clock = state, policy, clock
        self._next = 0.0
        # Who was here before may have been killed between a deletion and this.
        self._unscrubbed_since: float | None = clock()
        self._next_scrub, self._warned = 0.0, False

    def step(self, tip: Block) -> None:
        """Deletes what is due, one campaign after the other; killed in between, the next step goes on.

        `tip` is the confirmed block up to which the chain was read.
        """
        now = self._clock()
        if now >= self._next:
            due = [kept.campaign for kept in self._kept() if is_due(kept, self._policy, now, tip.time)]
            deleted = sum(self._delete(campaign, tip, now) for campaign in due) + self._delete_useless_keys(tip, now)
            if deleted:
                self._unscrubbed_since, self._next_scrub = self._unscrubbed_since or now, now
            self._next = now + _PAUSE_SECONDS
        self._scrub(now)

    def _kept(self) -> list[Kept]:
        with self._state.snapshot() as db:
            return [_found(row) for row in db.execute(_kept())]

    def _delete(self, campaign: CampaignId, tip: Block, now: float) -> bool:
        """Whether the campaign's secrets were deleted: not if it is not due any more, now that nothing can change."""
        with self._state.transaction() as db:
            position = position_in(db)
            row = db.execute(_kept().where(t.admissions.c.campaign == campaign)).one_or_none()
            if row is None or position is None or position.block <= tip.number:
                return False
            if not is_due(_found(row), self._policy, now, tip.time):
                return False
            delete_secrets(self._state, db, campaign, now)
        _log.info("deleted the secrets of campaign 0x%s", campaign.hex()[:16])
        return True

    def _delete_useless_keys(self, tip: Block, now: float) -> int:
        """Keys that were used up by an admission that failed, and keys that nobody has used for long."""
        passed = min(now, tip.time)
        admitted = select(t.admissions.c.campaign).where(t.admissions.c.key == t.keys.c.id).exists()
        failed_before = passed - max(self._policy.retention_seconds, _ADMISSION_SECONDS)
        used_up = and_(t.keys.c.use == "used", func.coalesce(t.keys.c.used, t.keys.c.time) < failed_before, ~admitted)
        unused = and_(t.keys.c.use == "issued", t.keys.c.time < passed - self._policy.abandoned_seconds)
        with self._state.transaction() as db:
            retired = update(t.keys).where(unused).values(use="used", used=now).returning(t.keys.c.id, t.keys.c.owner)
            for key, owner in db.execute(retired).all():
                self._state.audit.append(db, "key", {"key": key, "use": "used", "account": owner, "campaign": None})
                _delete_keys(self._state, db, t.keys.c.id == key, now)
            return _delete_keys(self._state, db, used_up, now)

    def _scrub(self, now: float) -> None:
        """Empties SQLite's log of what was deleted, tried every now and then until nobody reads it."""
        if self._unscrubbed_since is None or now < self._next_scrub:
            return
        self._next_scrub = now + _SCRUB_AGAIN_SECONDS
        if self._state.scrub(_SCRUB_SECONDS):
            self._unscrubbed_since, self._warned = None, False
        elif not self._warned and now - self._unscrubbed_since >= _WARN_SECONDS:
            self._warned = True
            _log.warning(
                "what was deleted may still be in the log beside %s, which something has been reading for %.0f s: a "
                "backup or another program; it is emptied when that ends",
                self._state.where,
                now - self._unscrubbed_since,
            )


def delete_secrets(state: State, db: Connection, campaign: CampaignId, now: float) -> None:
    """Deletes for ever what decrypts the campaign, its plaintext weights and its unpublished gradients."""
    _delete_keys(state, db, _keys_of(campaign), now)
    db.execute(update(t.admissions).where(t.admissions.c.campaign == campaign).values(validation=None))
    for table in (t.versions, t.rounds):
        db.execute(update(table).where(table.c.campaign == campaign).values(weights=None))
    db.execute(delete(t.kept).where(t.kept.c.campaign == campaign, t.kept.c.cid.is_(None)))
    db.execute(delete(t.held).where(t.held.c.campaign == campaign))
    forget_missed(db, campaign)
    forget_end(db, campaign)
    state.audit.append(db, "campaign deleted", {"campaign": campaign})


def _delete_keys(state: State, db: Connection, which: ColumnElement[bool], now: float) -> int:
    """Deletes keys' secrets and keeps their rows; returns how many had one."""
    gone = update(t.keys).where(which, t.keys.c.secret.is_not(None)).values(secret=None, deleted=now)
    keys = db.execute(gone.returning(t.keys.c.id)).scalars().all()
    for key in keys:
        state.audit.append(db, "key deleted", {"key": key})
    return len(keys)


def _keys_of(campaign: CampaignId) -> ColumnElement[bool]:
    """The key of its start model, and every key that was claimed for one of its rounds."""
    start = select(t.admissions.c.key).where(t.admissions.c.campaign == campaign)
    return or_(t.keys.c.campaign == campaign, t.keys.c.id == start.scalar_subquery())


def _found(row: Row[Any]) -> Kept:
    return Kept(CampaignId(row.campaign), row.valid_until, row.state, row.ended, row.delivered)


def _kept() -> Select[Any]:
    """The campaigns that have secrets left."""
    admitted, on_chain = t.admissions.c, t.campaigns.c
    left = or_(
        admitted.validation.is_not(None),
        *(
            select(table.c.campaign).where(table.c.campaign == admitted.campaign, column.is_not(None)).exists()
            for table, column in ((t.versions, t.versions.c.weights), (t.rounds, t.rounds.c.weights))
        ),
        select(t.keys.c.id)
        .where(or_(t.keys.c.campaign == admitted.campaign, t.keys.c.id == admitted.key), t.keys.c.secret.is_not(None))
        .exists(),
    )
    return (
        select(admitted.campaign, admitted.valid_until, on_chain.state, on_chain.ended, admitted.delivered)
        .outerjoin_from(t.admissions, t.campaigns, admitted.campaign == on_chain.campaign)
        .where(left)
    )
