"""Deletion: what decrypts a campaign does not outlive its use.

After a campaign's delivery and a retention time, or a longer time after the end of one whose model nobody fetched, the
secrets of its keys, its validation set and its weights are deleted; their rows stay. What a running campaign needs is
never deleted, whatever the clock says.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import or_, select

from capsule.policy import Policy
from capsule.state import State
from capsule.state import tables as t
from sonar.units import CampaignId, KeyId

__all__ = ["Kept", "Retention", "is_due"]

_log = logging.getLogger("capsule.retention")
_PAUSE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A campaign that has secrets left; times in seconds of the Capsule's clock.

    `state`, `ended` and `delivered` are None for one that is not on chain, as far as the chain was read.
    """

    campaign: CampaignId
    valid_until: int
    state: str | None
    ended: float | None
    delivered: float | None


def is_due(kept: Kept, policy: Policy, now: float) -> bool:
    """Whether the campaign's secrets are to be deleted."""
    if kept.state is None:  # its admission was never used
        return now >= kept.valid_until + policy.abandoned_seconds
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

    def step(self) -> None:
        """Deletes what is due, one campaign after the other; killed in between, the next step goes on."""
        now = self._clock()
        if now < self._next:
            return
        deleted = 0
        for kept in self._kept():
            if is_due(kept, self._policy, now):
                for key in self._keys_of(kept.campaign):
                    self._state.delete_key(key, now)
                self._state.delete_secrets(kept.campaign)
                _log.info("deleted the secrets of campaign %s", kept.campaign.hex()[:16])
                deleted += 1
        for key in self._useless_keys(now - self._policy.retention_seconds):
            self._state.delete_key(key, now)
            deleted += 1
        if deleted:
            self._state.scrub()
        self._next = now + _PAUSE_SECONDS

    def _kept(self) -> list[Kept]:
        admitted, on_chain = t.admissions.c, t.campaigns.c
        left = or_(
            admitted.validation.is_not(None),
            *(
                select(table.c.campaign).where(table.c.campaign == admitted.campaign, column.is_not(None)).exists()
                for table, column in ((t.versions, t.versions.c.weights), (t.rounds, t.rounds.c.weights))
            ),
            select(t.keys.c.id)
            .where(
                or_(t.keys.c.campaign == admitted.campaign, t.keys.c.id == admitted.key), t.keys.c.secret.is_not(None)
            )
            .exists(),
        )
        query = (
            select(admitted.campaign, admitted.valid_until, on_chain.state, on_chain.ended, on_chain.delivered)
            .outerjoin_from(t.admissions, t.campaigns, admitted.campaign == on_chain.campaign)
            .where(left)
        )
        with self._state.snapshot() as db:
            rows = db.execute(query).all()
        return [Kept(CampaignId(row[0]), *row[1:]) for row in rows]

    def _keys_of(self, campaign: CampaignId) -> list[KeyId]:
        """The key of its start model, and every key that was claimed for one of its rounds."""
        start = select(t.admissions.c.key).where(t.admissions.c.campaign == campaign)
        its = or_(t.keys.c.campaign == campaign, t.keys.c.id == start.scalar_subquery())
        with self._state.snapshot() as db:
            found = db.execute(select(t.keys.c.id).where(its, t.keys.c.secret.is_not(None))).scalars().all()
        return [KeyId(key) for key in found]

    def _useless_keys(self, before: float) -> list[KeyId]:
        """Keys that were used up by an admission that failed."""
        admitted = select(t.admissions.c.campaign).where(t.admissions.c.key == t.keys.c.id).exists()
        useless = (t.keys.c.use == "used", t.keys.c.secret.is_not(None), t.keys.c.time < before, ~admitted)
        with self._state.snapshot() as db:
            found = db.execute(select(t.keys.c.id).where(*useless)).scalars().all()
        return [KeyId(key) for key in found]
