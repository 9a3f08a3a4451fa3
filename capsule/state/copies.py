"""Which gradients of a round somebody else posted before: told by rows that the audit log bears out."""

import json

from sqlalchemy import and_, select

from capsule.errors import AuditLogError
from capsule.state import tables as t
from capsule.state._topic import Topic
from capsule.state.engine import reading
from capsule.state.posted import posted_entries, posted_head
from sonar.units import CampaignId, digest_of

__all__ = ["Copies"]


class Copies(Topic):
    """A copy costs its account the bond, so whoever writes to the database must not be able to make one."""

    def repeated(self, campaign: CampaignId, number: int) -> frozenset[int]:
        """The places of a round's gradients that another account posted in an earlier one, and that were opened there.

        One that was Invalid there does not count, nor one of a round that expired, which nobody has opened as far as is
        known: a digest may be anybody's until its gradient is seen, and whoever made it must not be called a copy of
        somebody who named it first. Who names it first and lets the round expire would else have it called one. Raises
        AuditLogError where an earlier round's gradients are not those that its settlement was signed for.
        """
        this, earlier, settled = t.submissions.alias().c, t.submissions.alias().c, t.rounds.c
        same = and_(earlier.campaign == this.campaign, earlier.gradient == this.gradient, earlier.mine != this.mine)
        final = and_(settled.campaign == this.campaign, settled.round == earlier.round, settled.state == "final")
        where = this.campaign == campaign, this.round == number, same, earlier.round < this.round, final
        found = select(this.place, earlier.round, earlier.place.label("earlier"), settled.head, settled.settlement)
        with self._reading() as db:
            if db.execute(found.where(*where).limit(1)).first() is None:
                return frozenset()
        with reading(self._engine, consistent=True) as db:
            told = self._history.settlements(db, campaign)
            rows = db.execute(found.where(*where)).all()
            for round_, head, settlement in {(row.round, row.head, row.settlement) for row in rows}:
                is_told = told.get((round_, head)) == digest_of(settlement.encode())
                if not is_told or posted_head(campaign, round_, posted_entries(db, campaign, round_)) != head:
                    raise AuditLogError(
                        self.audit.head_in(db).length,
                        f"round {round_} of campaign 0x{campaign.hex()} is not in the database as it was settled: run "
                        "capsule audit verify, and restore a backup",
                    )
        return frozenset(row.place for row in rows if _was_opened(row.settlement, row.earlier))


def _was_opened(settlement: str, place: int) -> bool:
    """Whether the gradient at this place was opened, and was one."""
    return json.loads(settlement)["outcomes"][place]["verdict"] in {"kept", "left_out"}
