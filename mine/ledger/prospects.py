"""How far this mine is with rounds for which it has no gradient yet."""

from mine.ledger.database import Part
from mine.records import Prospect, State
from sonar.units import CampaignId

__all__ = ["TABLES", "Prospects"]

TABLES = """
CREATE TABLE prospects (
    campaign BLOB PRIMARY KEY, round INTEGER NOT NULL, state TEXT NOT NULL, dataset TEXT NOT NULL, note TEXT NOT NULL
)
"""


class Prospects(Part):
    """One prospect a campaign: its present round."""

    def prospects(self, deployment: str) -> list[Prospect]:
        """How far the mine is with each campaign's present round, oldest campaign first."""
        rows = self._database.rows(
            "SELECT p.* FROM prospects p JOIN campaigns c ON c.id = p.campaign AND c.round = p.round "
            "WHERE c.deployment = ? ORDER BY c.block, c.rowid",
            deployment,
        )
        return [
            Prospect(CampaignId(row["campaign"]), row["round"], State(row["state"]), row["dataset"], row["note"])
            for row in rows
        ]

    def look(self, prospect: Prospect) -> None:
        """Writes down how far it is."""
        with self._database.write():
            self._database.execute(
                "INSERT OR REPLACE INTO prospects VALUES (?, ?, ?, ?, ?)",
                prospect.campaign, prospect.round, prospect.state, prospect.dataset, prospect.note,
            )  # fmt: skip

    # ---- what the chain says; within a transaction

    def _found(self, campaign: CampaignId, round: int) -> None:  # noqa: A002
        self.look(Prospect(campaign, round, State.FOUND))
