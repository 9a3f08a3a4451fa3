"""When things happened on chain, by the chain's own clock: blocks of verdicts, and the times of blocks."""

from collections.abc import Mapping

from mine.ledger.database import Part
from sonar.units import CampaignId

__all__ = ["TABLES", "Moments"]

TABLES = """
CREATE TABLE verdict_blocks (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (campaign, round)
);
CREATE TABLE block_times (
    deployment TEXT NOT NULL, block INTEGER NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (deployment, block)
)
"""


class Moments(Part):
    """Blocks and their times in seconds since the Unix epoch; a time is asked of the chain once and then kept."""

    def verdict_blocks(self) -> dict[tuple[CampaignId, int], int]:
        """The block in which each of this mine's gradients was judged, by campaign and round."""
        return {
            (CampaignId(row["campaign"]), row["round"]): row["block"]
            for row in self._database.rows("SELECT * FROM verdict_blocks")
        }

    def block_times(self, deployment: str) -> dict[int, int]:
        """The times of blocks that are known."""
        rows = self._database.rows("SELECT block, time FROM block_times WHERE deployment = ?", deployment)
        return {row["block"]: row["time"] for row in rows}

    def undated_blocks(self, deployment: str) -> list[int]:
        """Blocks with a verdict or a transaction of this mine's whose times are not known yet."""
        return [row["block"] for row in self._database.rows(
            "SELECT v.block FROM verdict_blocks v JOIN campaigns c ON c.id = v.campaign WHERE c.deployment = ?1 "
            "UNION SELECT block FROM transactions WHERE deployment = ?1 AND block IS NOT NULL "
            "EXCEPT SELECT block FROM block_times WHERE deployment = ?1 ORDER BY 1", deployment)]  # fmt: skip

    def date_blocks(self, deployment: str, times: Mapping[int, int]) -> None:
        """Keeps the times of blocks."""
        with self._database.write():
            for block, time in times.items():
                self._database.execute("INSERT OR REPLACE INTO block_times VALUES (?, ?, ?)", deployment, block, time)

    def _judged_in(self, campaign: CampaignId, round: int, block: int) -> None:  # noqa: A002
        """A verdict's block; within a transaction."""
        self._database.execute("INSERT OR REPLACE INTO verdict_blocks VALUES (?, ?, ?)", campaign, round, block)
