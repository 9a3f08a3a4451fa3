"""Which columns the owner said that a campaign's features are, for each campaign and data set."""

import json

from mine.ledger.database import Part
from sonar.units import CampaignId

__all__ = ["TABLES", "Matches"]

TABLES = """
CREATE TABLE matches (
    campaign BLOB NOT NULL, dataset TEXT NOT NULL, columns TEXT NOT NULL, PRIMARY KEY (campaign, dataset)
)"""


class Matches(Part):
    """What was answered to `mine match`."""

    def saved_match(self, campaign: CampaignId, dataset: str) -> dict[str, str]:
        """Features with the columns that were confirmed for them; none for another campaign or data set."""
        row = self._database.one("SELECT columns FROM matches WHERE campaign = ? AND dataset = ?", campaign, dataset)
        return {} if row is None else dict(json.loads(row["columns"]))

    def save_match(self, campaign: CampaignId, dataset: str, columns: dict[str, str]) -> None:
        """Confirms columns for features, in the place of all that were confirmed before."""
        with self._database.write():
            self._database.execute(
                "INSERT OR REPLACE INTO matches VALUES (?, ?, ?)", campaign, dataset, json.dumps(columns)
            )
