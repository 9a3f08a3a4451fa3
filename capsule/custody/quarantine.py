"""What a restored Capsule must not sign: a second settlement of a round that it may have signed before.

A backup knows nothing of what was signed after it. The next model of a settlement is under a fresh key, so judging the
same round again gives another settlement, and anyone who has both could choose. So each campaign of a restored database
is held until the chain was seen: a round that is closed then and not signed here may have been signed and is held back;
one that is still open, or empty, cannot have been. A round is held until the chain goes on without it: because somebody
relayed the former settlement, or let the round expire after its settlement window. The operator may release it sooner,
who knows that no other settlement was published.
"""

import logging
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from capsule.errors import CapsuleError
from capsule.state import State
from capsule.state import tables as t
from sonar.units import CampaignId

__all__ = ["Quarantine", "RoundHeldError", "hold"]

_log = logging.getLogger("capsule.quarantine")
_NAME: Final = "held "
_UNSEEN: Final = b"unseen"
_HELD: Final = t.settings.c.name.startswith(_NAME, autoescape=True)


class RoundHeldError(CapsuleError):
    """A round is not judged, because it may have been before the database was restored."""


def hold(db: Connection, campaigns: Iterable[CampaignId]) -> None:
    """Holds campaigns until the chain was seen, within the transaction that restores them.

    What an earlier restore held is not known to be settled either, so it is held anew.
    """
    db.execute(delete(t.settings).where(_HELD))
    for campaign in campaigns:
        db.execute(insert(t.settings).values(name=_name(campaign), value=_UNSEEN))


class Quarantine:
    """The campaigns of a restored database. Safe in threads, and for several workers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._free: set[CampaignId] = set()

    def check(self, campaign: CampaignId, number: int, *, unsigned: bool) -> None:
        """Raises RoundHeldError while the campaign's present round must not be signed.

        Called with each look at the chain; `unsigned` says that the round is closed, and not signed here.
        """
        if campaign in self._free:
            return
        value = self._state.setting(_name(campaign))
        if value is not None and (value == _UNSEEN and unsigned):
            value = self._hold_round(campaign, number)
        if value is not None and value != _UNSEEN and int(value) >= number:
            raise RoundHeldError(
                f"round {number} of campaign {campaign.hex()} may have been signed before this database was restored: "
                "it is held back until it is settled or expired on chain; `capsule held` can release it"
            )
        if value is not None:
            self._drop(campaign)
        self._free.add(campaign)

    def held(self) -> dict[CampaignId, int | None]:
        """The campaigns that are held, with the round that is; None for one that the chain was not yet asked about."""
        with self._state.snapshot() as db:
            rows = db.execute(select(t.settings).where(_HELD).order_by(t.settings.c.name)).all()
            over = set(db.execute(select(t.campaigns.c.campaign).where(t.campaigns.c.state == "over")).scalars())
        found = {CampaignId(bytes.fromhex(row.name.removeprefix(_NAME))): row.value for row in rows}
        return {
            campaign: None if value == _UNSEEN else int(value)
            for campaign, value in found.items()
            if campaign not in over
        }

    def release(self, campaign: CampaignId) -> bool:
        """Lets the campaign's round be signed again, on the operator's word; False where it is not held."""
        with self._state.transaction() as db:
            done = bool(db.execute(delete(t.settings).where(t.settings.c.name == _name(campaign))).rowcount)
            if done:
                self._state.audit.append(db, "released", {"campaign": campaign})
        return done

    def _hold_round(self, campaign: CampaignId, number: int) -> bytes | None:
        """Notes the round; returns what holds the campaign now, where another worker was faster."""
        name = _name(campaign)
        with self._state.transaction() as db:
            value = db.execute(select(t.settings.c.value).where(t.settings.c.name == name)).scalar()
            if value != _UNSEEN:
                return None if value is None else bytes(value)
            db.execute(t.settings.update().where(t.settings.c.name == name).values(value=b"%d" % number))
            self._state.audit.append(db, "held", {"campaign": campaign, "round": number})
        _log.warning("round %d of %s is held back: it may have been signed before", number, campaign.hex()[:16])
        return b"%d" % number

    def _drop(self, campaign: CampaignId) -> None:
        with self._state.transaction() as db:
            db.execute(delete(t.settings).where(t.settings.c.name == _name(campaign)))


def _name(campaign: CampaignId) -> str:
    return _NAME + campaign.hex()
