"""What the chain told, with the blocks in which it did, so that a history that changed can be forgotten."""

from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, func, or_, select, update

from capsule.state import tables as t
from capsule.state._topic import Recorder, Topic, insert_new, put, put_all
from capsule.state.admissions import version_row
from capsule.state.records import Final, Position, StoredCampaign, Submission, Told
from sonar.chain.records import Entry
from sonar.units import Address, CampaignId, Cid

__all__ = ["ChainFacts", "forget_end", "forget_missed", "position_in"]

_CURSOR = "cursor"
_MISSED = "missed "
_ENDED = "ended "
_RUNNING = {"state": "running", "over_block": None, "ended": None}
_TOLD, _FOUND = b"told", b"found"
"""How an end was known: an event told of it, or the worker found that the campaign takes no more rounds."""


class ChainFacts(Topic):
    """The chain as far as it was read: facts and the place to read on change together or not at all."""

    def position(self) -> Position | None:
        """From where events are to be read; None before the first read."""
        with self._reading() as db:
            return position_in(db)

    def follow(self, told: Told, since: Position | None) -> bool:
        """Stores what one read of the chain told, together with where to read on.

        `since` is the position that the read began at; False, and nothing is stored, where another process has read
        on or rewound meanwhile.
        """
        with self._recording() as (db, record):
            if position_in(db) != since:
                return False
            created = ({"campaign": campaign, "block": block, **_RUNNING} for campaign, block in told.created)
            put_all(db, t.campaigns, created)
            put_all(
                db, t.submissions, (_submission_row(campaign, submission) for campaign, submission in told.submitted)
            )
            for final in told.settled:
                _finish(db, record, final)
            for campaign, number, block in told.expired:
                where = and_(t.rounds.c.campaign == campaign, t.rounds.c.round == number, t.rounds.c.state != "final")
                if db.execute(update(t.rounds).where(where).values(state="expired", block=block)).rowcount:
                    record("expired", campaign=campaign, round=number, block=block)
            for campaign, number, block in told.missed:
                insert_new(db, t.settings, {"name": _MISSED + campaign.hex(), "value": b"%d %d" % (number, block)})
            _go_on(db, told)
            for campaign, block in told.over:
                ended = _ended_before(db, campaign, block) or max(self.audit.now(), told.time)
                _end(db, campaign, block, ended)
            put_all(db, t.blocks, ({"number": number, "hash": block_hash} for number, block_hash in told.checkpoints))
            _move(db, Position(told.next_block, 0 if since is None else since.rewinds))
        return True

    def rewind(self, block: int, since: Position | None) -> bool:
        """Forgets all that was told from `block` on, and goes back to it: the chain's history has changed.

        Signed settlements stay: their rounds are not final any more, and the versions that came with them are gone
        until the chain tells of them again. What it then tells as before is no news to the log, and begins no retention
        time anew: everything may be read again for a single campaign's sake. False as with `follow`.
        """
        with self._recording() as (db, record):
            if position_in(db) != since:
                return False
            _remember_ends(db, block)
            for table in (t.submissions, t.versions, t.campaigns):
                db.execute(delete(table).where(table.c.block >= block))
            db.execute(delete(t.blocks).where(t.blocks.c.number >= block))
            for campaign, (_, missed) in _missed_in(db).items():
                if missed >= block:
                    forget_missed(db, campaign)
            # One that was final keeps its block, by which the same news is known again.
            kept = case((t.rounds.c.state == "expired", None), else_=t.rounds.c.block)
            db.execute(update(t.rounds).where(t.rounds.c.block >= block).values(state="signed", block=kept))
            db.execute(update(t.campaigns).where(t.campaigns.c.over_block >= block).values(_RUNNING))
            rewinds = 0 if since is None else since.rewinds
            _move(db, Position(block if since is None else min(block, since.block), rewinds + 1))
            record("rewind", block=block)
        return True

    def missed(self) -> dict[CampaignId, int]:
        """The campaigns that the chain took to a version which this database does not hold, each with the first round.

        Neither can they be judged on, nor can their last models be delivered: the keys are in another database.
        """
        return {campaign: number for campaign, (number, _) in self.missed_blocks().items()}

    def missed_blocks(self) -> dict[CampaignId, tuple[int, int]]:
        """The campaigns of `missed`, each with its round and the block in which that was settled."""
        with self._reading() as db:
            return _missed_in(db)

    def forget_missed(self, campaign: CampaignId, number: int, block: int) -> None:
        """The chain has no version that this database does not hold: what was told of this round never was."""
        with self._writing() as db:
            if _missed_in(db).get(campaign) == (number, block):
                forget_missed(db, campaign)

    def checkpoints(self, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Numbers and hashes of blocks as they were read, the newest first."""
        with self._reading() as db:
            rows = db.execute(select(t.blocks).order_by(t.blocks.c.number.desc()).limit(limit)).all()
        return [(row.number, row.hash) for row in rows]

    def forget_checkpoints(self, before: int) -> None:
        """Drops the checkpoints of blocks so old that they cannot change any more."""
        with self._writing() as db:
            db.execute(delete(t.blocks).where(t.blocks.c.number < before))

    def running(self) -> list[tuple[CampaignId, int]]:
        """The campaigns that are on chain and not over, each with its block."""
        return [(campaign.campaign, campaign.block) for campaign in self.campaigns() if campaign.state == "running"]

    def campaigns(self) -> list[StoredCampaign]:
        """Every campaign on chain, the oldest first."""
        its = t.admissions.c.campaign == t.campaigns.c.campaign
        known = select(t.campaigns, t.admissions.c.delivered).outerjoin_from(t.campaigns, t.admissions, its)
        with self._reading() as db:
            rows = db.execute(known.order_by(t.campaigns.c.block, t.campaigns.c.campaign)).all()
        return [
            StoredCampaign(CampaignId(row.campaign), row.block, row.state, row.ended, row.delivered) for row in rows
        ]

    def end(self, campaign: CampaignId, *, due: float = 0.0) -> None:
        """The campaign takes no more rounds, as far as the chain was read, which tells no such event.

        Where this was found before, and forgotten with a part of the chain, it ended then, but never before it was
        `due`, in seconds since 1970, whatever this machine's clock says. When an event told of another end does not
        count: the campaign went on after it.
        """
        with self._writing() as db:
            position = position_in(db)
            before = _ended_before(db, campaign)
            now = max(self.audit.now() if before is None else before, due)
            block = 0 if position is None else max(position.block - 1, 0)
            if _end(db, campaign, block, now):
                _remember_end(db, campaign, block, now, _FOUND)

    def expire(self, campaign: CampaignId, number: int, head: bytes, block: int) -> bool:
        """After `block` the chain had gone on from the round without this settlement, whose events are all read.

        So it is where the round expired before its settlement was stored. False, and nothing changes, where the chain
        is not followed up to that block any more.
        """
        its = t.rounds.c
        this = and_(its.campaign == campaign, its.round == number, its.head == head, its.state == "signed")
        with self._writing() as db:
            position = position_in(db)
            if position is None or position.block <= block:
                return False
            db.execute(update(t.rounds).where(this).values(state="expired", block=block))
        return True

    def submissions(self, campaign: CampaignId, number: int) -> list[Submission]:
        """A round's gradients in order."""
        where = and_(t.submissions.c.campaign == campaign, t.submissions.c.round == number)
        with self._reading() as db:
            rows = db.execute(select(t.submissions).where(where).order_by(t.submissions.c.place)).all()
        return [_submission(row) for row in rows]

    def newest(self) -> dict[CampaignId, tuple[int, int, int]]:
        """Round, place and block of the last gradient that was told of each running campaign which has any."""
        campaigns, (its, one, other) = t.campaigns, (t.submissions.alias() for _ in range(3))
        # Looked up in the primary key; each is told what it correlates to, or the one in the other would not.
        rounds = select(func.max(one.c.round)).where(one.c.campaign == campaigns.c.campaign)
        last = rounds.correlate(campaigns).scalar_subquery()
        places = select(func.max(other.c.place)).where(other.c.campaign == campaigns.c.campaign, other.c.round == last)
        place = places.correlate(campaigns).scalar_subquery()
        this = and_(its.c.campaign == campaigns.c.campaign, its.c.round == last, its.c.place == place)
        found = select(its.c.campaign, its.c.round, its.c.place, its.c.block).where(
            this, campaigns.c.state == "running"
        )
        with self._reading() as db:
            return {CampaignId(row.campaign): (row.round, row.place, row.block) for row in db.execute(found)}


def position_in(db: Connection) -> Position | None:
    """What `position` tells, as a transaction sees it."""
    value = db.execute(select(t.settings.c.value).where(t.settings.c.name == _CURSOR)).scalar()
    if value is None:
        return None
    block, rewinds = value.split()
    return Position(int(block), int(rewinds))


def forget_missed(db: Connection, campaign: CampaignId) -> None:
    """Forgets that the campaign's versions are missed: the chain took them back, or nobody wants them any more."""
    db.execute(delete(t.settings).where(t.settings.c.name == _MISSED + campaign.hex()))


def forget_end(db: Connection, campaign: CampaignId) -> None:
    """Forgets when the campaign ended before, in a part of the chain that may be read again."""
    db.execute(delete(t.settings).where(t.settings.c.name == _ENDED + campaign.hex()))


def _missed_in(db: Connection) -> dict[CampaignId, tuple[int, int]]:
    """Round and block by campaign."""
    its = t.settings.c.name.startswith(_MISSED, autoescape=True)
    found = {}
    for row in db.execute(select(t.settings).where(its)):
        number, block = row.value.split()
        found[CampaignId(bytes.fromhex(row.name.removeprefix(_MISSED)))] = (int(number), int(block))
    return found


def _move(db: Connection, position: Position) -> None:
    put(db, t.settings, {"name": _CURSOR, "value": b"%d %d" % (position.block, position.rewinds)})


def _finish(db: Connection, record: Recorder, final: Final) -> None:
    where = and_(t.rounds.c.campaign == final.campaign, t.rounds.c.round == final.round, t.rounds.c.head == final.head)
    its = t.rounds.c
    changed = and_(where, or_(its.block.is_(None), its.block != final.block, its.state == "expired"))
    is_news = db.execute(select(t.rounds.c.round).where(changed)).first() is not None
    db.execute(update(t.rounds).where(where).values(state="final", block=final.block))
    if final.version is not None:
        put(db, t.versions, version_row(final.campaign, final.version, block=final.block))
    if is_news:
        record("final", campaign=final.campaign, round=final.round, head=final.head, block=final.block)


def _end(db: Connection, campaign: CampaignId, block: int, now: float) -> bool:
    """Whether the campaign was running until now."""
    running = and_(t.campaigns.c.campaign == campaign, t.campaigns.c.state == "running")
    done = update(t.campaigns).where(running).values(state="over", over_block=block, ended=now)
    return bool(db.execute(done).rowcount)


def _remember_ends(db: Connection, block: int) -> None:
    """Keeps when the campaigns ended that ended from `block` on; what `end` found is kept since then."""
    over = select(t.campaigns).where(t.campaigns.c.over_block >= block, t.campaigns.c.ended.is_not(None))
    for row in db.execute(over).all():
        if _remembered(db, row.campaign) is None:
            _remember_end(db, row.campaign, row.over_block, row.ended, _TOLD)


def _remember_end(db: Connection, campaign: CampaignId, block: int, ended: float, how: bytes) -> None:
    put(db, t.settings, {"name": _ENDED + campaign.hex(), "value": b"%d %r %s" % (block, ended, how)})


def _remembered(db: Connection, campaign: CampaignId) -> tuple[int, float, bytes] | None:
    """The block and the time of an end that is kept, and how it was known."""
    value = db.execute(select(t.settings.c.value).where(t.settings.c.name == _ENDED + campaign.hex())).scalar()
    if value is None:
        return None
    block, ended, how = value.split()
    return int(block), float(ended), how


def _ended_before(db: Connection, campaign: CampaignId, block: int | None = None) -> float | None:
    """When the campaign was first seen to end as it does now: by an event of this block, or without one."""
    before = _remembered(db, campaign)
    forget_end(db, campaign)
    if before is None:
        return None
    ended_in, ended, how = before
    same = how == _FOUND if block is None else (how, ended_in) == (_TOLD, block)
    return ended if same else None


def _go_on(db: Connection, told: Told) -> None:
    """Takes back ends after which their campaigns went on: the chain that had them is gone, or a node told of none."""
    later: dict[CampaignId, int] = {}
    posted = ((campaign, submission.block) for campaign, submission in told.submitted)
    for campaign, block in (*posted, *((final.campaign, final.block) for final in told.settled)):
        later[campaign] = max(block, later.get(campaign, 0))
    for campaign, block in later.items():
        before = _remembered(db, campaign)
        if before is not None and block > before[0]:
            forget_end(db, campaign)
        over = and_(t.campaigns.c.campaign == campaign, t.campaigns.c.over_block < block)
        db.execute(update(t.campaigns).where(over).values(_RUNNING))


def _submission_row(campaign: CampaignId, submission: Submission) -> dict[str, Any]:
    entry = submission.entry
    return {
        "campaign": campaign, "round": submission.round, "place": submission.index, "mine": entry.mine,
        "artifact": entry.artifact, "gradient": entry.gradient, "cid": submission.cid, "block": submission.block,
    }  # fmt: skip


def _submission(row: Row[Any]) -> Submission:
    entry = Entry(Address(row.mine), row.artifact, row.gradient)
    return Submission(row.round, row.place, entry, Cid(row.cid), row.block)
