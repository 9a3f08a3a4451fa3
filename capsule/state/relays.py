"""The transactions that carry settlements, each stored before it is sent."""

from typing import Any

from sqlalchemy import ColumnElement, Row, and_, select, update

from capsule.state import tables as t
from capsule.state._topic import Topic, put
from capsule.state.records import Relay
from sonar.units import CampaignId

__all__ = ["Relays"]

_OPEN = ("intent", "sent")


class Relays(Topic):
    """One row a signed transaction; replacements share a nonce, and nothing else does while it may be mined."""

    def add_relay(self, relay: Relay) -> bool:
        """Stores a signed transaction that is to be sent; it must not be sent before this returns True.

        False, and nothing is stored, where one that may still be mined has this nonce for another settlement, or
        another nonce for this one: another worker relays at the same time.

        The same call, nonce and fees give the same bytes: one that was given up before is taken up again.
        """
        row = {
            "hash": relay.hash, "campaign": relay.campaign, "round": relay.round, "head": relay.head,
            "nonce": relay.nonce, "raw": relay.raw, "fee": str(relay.fee), "tip": str(relay.tip), "state": relay.state,
            "time": relay.time,
        }  # fmt: skip
        with self._recording() as (db, record):
            if db.execute(select(t.relays.c.hash).where(_competes_with(relay)).limit(1)).first() is not None:
                return False
            put(db, t.relays, row)
            record(
                "relay", campaign=relay.campaign, round=relay.round, head=relay.head, nonce=relay.nonce,
                transaction=relay.hash, fee=str(relay.fee),
            )  # fmt: skip
        return True

    def set_relay(self, transaction: bytes, state: str) -> None:
        """Says what has become of a transaction."""
        with self._writing() as db:
            db.execute(update(t.relays).where(t.relays.c.hash == transaction).values(state=state))

    def open_relays(self) -> list[Relay]:
        """The transactions that may still be mined, by nonce and time."""
        return self._relays(t.relays.c.state.in_(_OPEN))

    def relays(self, campaign: CampaignId, number: int) -> list[Relay]:
        """All transactions for a round, by nonce and time."""
        return self._relays((t.relays.c.campaign == campaign) & (t.relays.c.round == number))

    def _relays(self, where: Any) -> list[Relay]:
        with self._reading() as db:
            rows = db.execute(select(t.relays).where(where).order_by(t.relays.c.nonce, t.relays.c.time)).all()
        return [_relay(row) for row in rows]


def _competes_with(relay: Relay) -> ColumnElement[bool]:
    its = t.relays.c
    same_place = and_(its.campaign == relay.campaign, its.round == relay.round, its.head == relay.head)
    return and_(its.state.in_(_OPEN), (its.nonce == relay.nonce) != same_place)


def _relay(row: Row[Any]) -> Relay:
    return Relay(
        row.hash, CampaignId(row.campaign), row.round, row.head, row.nonce, row.raw, int(row.fee), int(row.tip),
        row.state, row.time,
    )  # fmt: skip
