"""Whose turn it is: when campaigns were served last, and since when rounds are over."""

from mine.ledger.database import Part
from mine.records import Fate, Purpose
from sonar.units import CampaignId

__all__ = ["TABLES", "Turns"]

TABLES = """
CREATE TABLE ended_rounds (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, time REAL NOT NULL, PRIMARY KEY (campaign, round)
)
"""


class Turns(Part):
    """What a fair order goes by."""

    def served(self) -> dict[CampaignId, int]:
        """A number for each campaign that had a gradient: the higher, the later was its last one."""
        rows = self._database.rows("SELECT campaign, max(rowid) AS turn FROM submissions GROUP BY campaign")
        return {CampaignId(row["campaign"]): row["turn"] for row in rows}

    def ended(self, campaign: CampaignId, round: int, now: float) -> float:  # noqa: A002
        """When a round was first seen to be over, in Unix time: now, if it was never asked.

        Never later than now: a clock that was ahead then must not have the mine rest until it is right.
        """
        with self._database.write():
            self._database.execute(
                "INSERT INTO ended_rounds VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET time = min(time, excluded.time)",
                campaign, round, now,
            )  # fmt: skip
        row = self._database.one("SELECT time FROM ended_rounds WHERE campaign = ? AND round = ?", campaign, round)
        assert row is not None
        return float(row["time"])

    def posted_since(self, moment: float) -> int:
        """How many gradients were signed to be posted since a Unix time, each counted once."""
        row = self._database.one(
            "SELECT count(*) AS found FROM (SELECT DISTINCT campaign, round FROM transactions "
            "WHERE purpose = ? AND time >= ? AND fate IN (?, ?))",
            Purpose.SUBMIT, moment, Fate.SIGNED, Fate.MINED,
        )  # fmt: skip
        assert row is not None
        return int(row["found"])
