"""Whether the gradients of settled rounds stand in the database as the settlements that were signed for them say.

The settlements are compared with the log before; each names the head of the hash chain over its round's gradients.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, and_, select, text

from capsule.errors import AuditLogError
from capsule.state import tables as t
from capsule.state._rows import exact_rows
from sonar.chain.heads import entries_head
from sonar.chain.records import Entry
from sonar.units import Address, CampaignId

__all__ = ["check_posted", "posted_entries", "posted_head"]

_FINAL: Final = text("SELECT campaign, round, head FROM rounds WHERE state = 'final'")
_POSTED: Final = text(
    "SELECT campaign, round, place, mine, artifact, gradient FROM submissions ORDER BY campaign, round, place"
)
_Round = tuple[bytes, int]


def check_posted(db: Connection, length: int) -> None:
    """Raises AuditLogError where a settled round has other gradients than it was settled with."""
    heads: dict[_Round, bytes] = {}
    for campaign, number, head in exact_rows(
        db, _FINAL, (bytes, int, bytes), sequence=length, what="a settlement", at_once=500
    ):
        if heads.setdefault((campaign, number), head) != head:
            raise AuditLogError(length, f"{_show((campaign, number))} stands as settled twice")
    for round_, head in _heads(db, length):
        if heads.pop(round_, head) != head:
            raise AuditLogError(length, f"{_show(round_)} was settled with other gradients than are in the database")
    for round_ in heads:
        raise AuditLogError(length, f"{_show(round_)} was settled, and its gradients are not in the database any more")


def posted_entries(db: Connection, campaign: CampaignId, number: int) -> list[Entry]:
    """A round's gradients as they stand in the database."""
    its = and_(t.submissions.c.campaign == campaign, t.submissions.c.round == number)
    rows = db.execute(select(t.submissions).where(its).order_by(t.submissions.c.place)).all()
    return [Entry(Address(row.mine), row.artifact, row.gradient) for row in rows]


def posted_head(campaign: CampaignId, number: int, entries: Sequence[Entry]) -> bytes:
    """The head of a round's gradients as rows have them; that of no round where one has what no gradient can have."""
    try:
        return entries_head(campaign, number, entries)
    except (ValueError, OverflowError):
        return b""


def _heads(db: Connection, length: int) -> Iterator[tuple[_Round, bytes]]:
    """The head of each round's gradients."""
    types: tuple[Any, ...] = (bytes, int, int, str, bytes, bytes)
    rows = exact_rows(db, _POSTED, types, sequence=length, what="a gradient", at_once=500)
    for round_, posted in groupby(rows, key=lambda row: (row[0], row[1])):
        entries = [Entry(Address(mine), artifact, gradient) for _, _, _, mine, artifact, gradient in posted]
        yield round_, posted_head(CampaignId(round_[0]), round_[1], entries)


def _show(round_: _Round) -> str:
    return f"round {round_[1]} of campaign 0x{round_[0].hex()}"
