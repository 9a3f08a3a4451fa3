"""Signed settlements: one for each round and history, never replaced; and the gradients that they keep."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, case, func, insert, select, update

from capsule.errors import AuditLogError
from capsule.state import tables as t
from capsule.state._topic import Topic, insert_new
from capsule.state.holding import Hold
from capsule.state.records import StoredRound
from sonar.storage.base import Artifact
from sonar.units import CampaignId, Cid, Digest, KeyId, digest_of

__all__ = ["Rounds"]


class Rounds(Topic):
    """A round is named by its campaign, number and head; a history that changed gives it another head."""

    def add_round(self, campaign: CampaignId, stored: StoredRound, kept: Mapping[int, bytes]) -> StoredRound:
        """Stores a signed settlement and the kept gradients by index; returns the one that counts.

        That is the given one, unless the same round was signed before, by this process or another: then it is that
        one, and the given one must not be published. Raises AuditLogError as `check_unsigned` does: who deleted the
        former settlement may have it, and could choose between two.
        """
        row = {
            "campaign": campaign, "round": stored.round, "head": stored.head, "settlement": stored.settlement,
            "weights": stored.weights, "state": stored.state, "base": stored.base, "time": self.audit.now(),
        }  # fmt: skip
        with self._reading() as db:
            self._history.read(db, 0)  # here nobody waits for it
        with self._recording() as (db, record):
            if not insert_new(db, t.rounds, row):
                return _round(db.execute(select(t.rounds).where(_this(t.rounds, campaign, stored))).one())
            self._check_unsigned(db, campaign, stored.round, stored.head)
            for place, gradient in kept.items():
                place_row = {"campaign": campaign, "round": stored.round, "head": stored.head, "place": place}
                db.execute(insert(t.kept).values(**place_row, gradient=gradient))
            record("settlement", campaign=campaign, round=stored.round, head=stored.head, **_told(stored.settlement))
            return stored

    def check_unsigned(self, campaign: CampaignId, number: int, head: bytes) -> None:
        """Raises AuditLogError where the log tells of a settlement that is not in the database any more.

        So it does where the log tells of a restore before which the round may have been signed. For what is to be
        judged: a round that has no settlement in the database, and is not known to be held back.
        """
        with self._reading() as db:
            self._check_unsigned(db, campaign, number, head)

    def hold_of(self, db: Connection, campaign: CampaignId) -> Hold | None:
        """What a restore holds back of the campaign, as the log tells; in a transaction that has read nothing yet."""
        return self._history.hold_of(db, campaign)

    def _check_unsigned(self, db: Connection, campaign: CampaignId, number: int, head: bytes) -> None:
        place, hold = self._history.signed_in(db, campaign, number, head)
        if place is not None:
            raise AuditLogError(
                place,
                f"it tells that round {number} of campaign 0x{campaign.hex()} was signed, and the settlement is not in "
                "the database any more: restore a backup",
            )
        if hold is not None and hold.holds(number):
            raise AuditLogError(
                hold.sequence,
                f"it tells that a backup was restored, so that round {number} of campaign 0x{campaign.hex()} may have "
                "been signed before, and what held it back is not in the database any more: restore a backup",
            )

    def round(self, campaign: CampaignId, number: int, head: bytes | None = None) -> StoredRound | None:
        """A signed settlement: that of a head, or of the one that the chain took, or else the last one signed."""
        where = and_(t.rounds.c.campaign == campaign, t.rounds.c.round == number)
        if head is not None:
            where = and_(where, t.rounds.c.head == head)
        final_first = case((t.rounds.c.state == "final", 0), else_=1)
        with self._reading() as db:
            wanted = select(t.rounds).where(where).order_by(final_first, t.rounds.c.time.desc()).limit(1)
            row = db.execute(wanted).one_or_none()
        return None if row is None else _round(row)

    def rounds(self, campaign: CampaignId, number: int | None = None) -> list[StoredRound]:
        """The signed settlements of a campaign, or of every history of one of its rounds, in the order of signing."""
        where = t.rounds.c.campaign == campaign
        if number is not None:
            where = and_(where, t.rounds.c.round == number)
        with self._reading() as db:
            rows = db.execute(select(t.rounds).where(where).order_by(t.rounds.c.round, t.rounds.c.time)).all()
        return [_round(row) for row in rows]

    def unsettled(self) -> list[tuple[CampaignId, StoredRound]]:
        """The signed settlements that wait for the chain, in the order of signing."""
        with self._reading() as db:
            rows = db.execute(select(t.rounds).where(_waiting()).order_by(t.rounds.c.time)).all()
        return [(CampaignId(row.campaign), _round(row)) for row in rows]

    def unpublished(self, limit: int = 64) -> list[tuple[CampaignId, int, bytes, int, bytes]]:
        """Kept gradients of final rounds that wait to be published: campaign, round, head, index, bytes."""
        same = and_(*(t.rounds.c[name] == t.kept.c[name] for name in ("campaign", "round", "head")))
        where = and_(t.rounds.c.state == "final", t.kept.c.gradient.is_not(None))
        with self._reading() as db:
            rows = db.execute(select(t.kept).join(t.rounds, same).where(where).limit(limit)).all()
        return [(CampaignId(row.campaign), row.round, row.head, row.place, row.gradient) for row in rows]

    def published(self, campaign: CampaignId, number: int, head: bytes) -> dict[int, Artifact]:
        """Where a round's kept gradients are, by index."""
        where = and_(
            t.kept.c.campaign == campaign, t.kept.c.round == number, t.kept.c.head == head, t.kept.c.cid.is_not(None)
        )  # fmt: skip
        with self._reading() as db:
            rows = db.execute(select(t.kept).where(where)).all()
        return {row.place: Artifact(Cid(row.cid), Digest(row.digest)) for row in rows}

    def kept(self, campaign: CampaignId, number: int, head: bytes) -> dict[int, bytes | Artifact]:
        """A round's kept gradients by index: where each is, or while it is not published its bytes."""
        where = and_(t.kept.c.campaign == campaign, t.kept.c.round == number, t.kept.c.head == head)
        with self._reading() as db:
            rows = db.execute(select(t.kept).where(where)).all()
        return {
            row.place: Artifact(Cid(row.cid), Digest(row.digest)) if row.gradient is None else row.gradient
            for row in rows
        }

    def publish(self, stored: Iterable[tuple[CampaignId, int, bytes, int, Artifact]]) -> None:
        """Stores where kept gradients are: campaign, round, head and index of each, and its artifact."""
        its = t.kept.c
        with self._writing() as db:
            for campaign, number, head, place, artifact in stored:
                this = and_(its.campaign == campaign, its.round == number, its.head == head, its.place == place)
                values = {"gradient": None, "cid": artifact.cid, "digest": artifact.digest}
                db.execute(update(t.kept).where(this).values(values))

    def counts(self) -> dict[str, int]:
        """How many campaigns run, are admitted, and how many signed settlements are not final."""
        wanted = {
            "admissions": select(func.count()).select_from(t.admissions),
            "running": select(func.count()).where(t.campaigns.c.state == "running"),
            "unsettled": select(func.count()).where(_waiting()),
        }
        with self._reading() as db:
            return {name: db.execute(query).scalar_one() for name, query in wanted.items()}


def _waiting() -> ColumnElement[bool]:
    settled = t.rounds.alias("settled")
    # Another history's settlement of a round that is settled waits for nothing.
    other = select(settled.c.round).where(
        settled.c.campaign == t.rounds.c.campaign, settled.c.round == t.rounds.c.round, settled.c.state == "final"
    )  # fmt: skip
    return and_(t.rounds.c.state == "signed", ~other.exists())


def _this(table: Table, campaign: CampaignId, stored: StoredRound) -> ColumnElement[bool]:
    return and_(table.c.campaign == campaign, table.c.round == stored.round, table.c.head == stored.head)


def _round(row: Row[Any]) -> StoredRound:
    return StoredRound(row.round, row.head, row.settlement, row.weights, row.state, KeyId(row.base))


def _told(settlement: str) -> dict[str, Any]:
    """What the audit log tells of a settlement: all verdicts, and the digest of all the rest."""
    value = json.loads(settlement)
    return {
        "settlement": digest_of(settlement.encode()),
        "score": value["score"],
        "key": value["key"],
        "verdicts": [outcome["verdict"] for outcome in value["outcomes"]],
    }
