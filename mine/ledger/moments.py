"""What the account of earnings needs besides: when verdicts and transactions were, and gas that is not known yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from mine.ledger.database import Part
from sonar.units import CampaignId, Wei

__all__ = ["TABLES", "Moments", "OtherTransaction"]

TABLES = """
CREATE TABLE verdict_blocks (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (campaign, round)
);
CREATE TABLE block_times (
    deployment TEXT NOT NULL, block INTEGER NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (deployment, block)
);
CREATE TABLE other_transactions (
    deployment TEXT NOT NULL, hash BLOB NOT NULL, campaign BLOB NOT NULL, block INTEGER NOT NULL, gas TEXT,
    PRIMARY KEY (deployment, hash)
)
"""


@dataclass(frozen=True, slots=True)
class OtherTransaction:
    """One of this account's that the chain told of, and that this ledger did not sign: an older one was put back.

    `campaign` is empty for a withdrawal, `gas` what it cost in wei, None where the chain was not asked yet.
    """

    hash: bytes
    campaign: CampaignId
    block: int
    gas: Wei | None


class Moments(Part):
    """Blocks and their times in seconds since the Unix epoch; what the chain is asked for is then kept."""

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
            "UNION SELECT block FROM other_transactions WHERE deployment = ?1 "
            "EXCEPT SELECT block FROM block_times WHERE deployment = ?1 ORDER BY 1", deployment)]  # fmt: skip

    def date_blocks(self, deployment: str, times: Mapping[int, int]) -> None:
        """Keeps the times of blocks."""
        with self._database.write():
            for block, time in times.items():
                self._database.execute("INSERT OR REPLACE INTO block_times VALUES (?, ?, ?)", deployment, block, time)

    def other_transactions(self, deployment: str) -> list[OtherTransaction]:
        """This account's transactions that the chain tells of and this ledger did not sign."""
        rows = self._database.rows(
            "SELECT * FROM other_transactions o WHERE deployment = ? AND NOT EXISTS "
            "(SELECT 1 FROM transactions t WHERE t.deployment = o.deployment AND t.hash = o.hash) ORDER BY block",
            deployment,
        )
        return [
            OtherTransaction(
                row["hash"], CampaignId(row["campaign"]), row["block"],
                None if row["gas"] is None else Wei(int(row["gas"])),
            )
            for row in rows
        ]  # fmt: skip

    def price_transaction(self, deployment: str, transaction: bytes, gas: Wei) -> None:
        """Keeps what one of them cost."""
        with self._database.write():
            self._database.execute(
                "UPDATE other_transactions SET gas = ? WHERE deployment = ? AND hash = ?",
                str(gas), deployment, transaction,
            )  # fmt: skip

    def _told_of(self, deployment: str, transaction: bytes, campaign: CampaignId, block: int) -> None:
        """A transaction of this account's is in a block; within a transaction of the ledger's."""
        self._database.execute(
            "INSERT OR REPLACE INTO other_transactions VALUES (?, ?, ?, ?, NULL)",
            deployment, transaction, campaign, block,
        )  # fmt: skip

    def _judged_in(self, campaign: CampaignId, round: int, block: int) -> None:  # noqa: A002
        """A verdict's block; within a transaction."""
        self._database.execute("INSERT OR REPLACE INTO verdict_blocks VALUES (?, ?, ?)", campaign, round, block)
