"""What became of an account's gradients: told by rows that the audit log bears out."""

import json
from dataclasses import dataclass

from sqlalchemy import select

from capsule.errors import AuditLogError
from capsule.state import tables as t
from capsule.state._topic import Topic
from capsule.state.engine import reading
from capsule.state.posted import posted_entries, posted_head
from sonar.chain.records import Verdict
from sonar.units import Address, CampaignId, digest_of

__all__ = ["Standing", "Verdicts"]


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's verdicts in a campaign whose chain has taken `settled` rounds, as far as was seen.

    `final` are those of these rounds, `signed` those of rounds that were signed besides, which the chain may have taken
    or not. `unclear` says that such a round has other gradients in the database than it was signed for, as where the
    chain was reorganised.
    """

    settled: int
    final: tuple[Verdict, ...]
    signed: tuple[Verdict, ...]
    unclear: bool


class Verdicts(Topic):
    """Who lost a bond is given no weights, so whoever writes to the database must not be able to undo that."""

    def standing(self, campaign: CampaignId, account: Address) -> Standing:
        """What became of the account's gradients; raises AuditLogError where rounds are not as they were signed."""
        final: list[Verdict] = []
        signed: list[Verdict] = []
        settled, unclear = 0, False
        with reading(self._engine, consistent=True) as db:
            told = self._history.settlements(db, campaign)
            rows = db.execute(select(t.rounds).where(t.rounds.c.campaign == campaign)).all()
            places = {(row.round, row.head): digest_of(row.settlement.encode()) for row in rows}
            wrong = {place[0] for place, _ in places.items() ^ told.items()}
            for row in rows:
                entries = posted_entries(db, campaign, row.round)
                is_posted = posted_head(campaign, row.round, entries) == row.head
                is_final = row.state == "final"
                settled += is_final
                if not is_posted:
                    unclear = True
                    if is_final:
                        wrong.add(row.round)
                elif not wrong:
                    outcomes = json.loads(row.settlement)["outcomes"]
                    (final if is_final else signed).extend(
                        Verdict[outcome["verdict"].upper()]
                        for entry, outcome in zip(entries, outcomes, strict=True)
                        if entry.mine == account
                    )
            if wrong:
                raise AuditLogError(
                    self.audit.head_in(db).length,
                    f"round {min(wrong)} of campaign 0x{campaign.hex()} is not in the database as it was signed: run "
                    "capsule audit verify, and restore a backup",
                )
        return Standing(settled, tuple(final), tuple(signed), unclear)
