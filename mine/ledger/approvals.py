"""The mine owner's own words on campaigns; all are kept, the last one holds."""

from mine.ledger.audit import Audited
from mine.policy.approval import Approval
from sonar.units import Address, CampaignId

__all__ = ["TABLES", "Approvals"]

TABLES = """
CREATE TABLE approvals (
    campaign BLOB NOT NULL, approved INTEGER NOT NULL, reason TEXT NOT NULL, owner TEXT NOT NULL, time REAL NOT NULL
);
CREATE INDEX approvals_by_campaign ON approvals (campaign)
"""


class Approvals(Audited):
    """What `mine approve` and `mine deny` said."""

    def approve(self, approval: Approval) -> None:
        """Writes down the owner's word, here and in the audit log."""
        with self._database.write():
            self._database.execute(
                "INSERT INTO approvals VALUES (?, ?, ?, ?, ?)",
                approval.campaign, approval.approved, approval.reason, approval.owner, approval.time,
            )  # fmt: skip
            self.record(
                "approved" if approval.approved else "denied",
                {"campaign": approval.campaign, "owner": approval.owner, "reason": approval.reason},
            )

    def approval(self, campaign: CampaignId) -> Approval | None:
        """The last word on a campaign; None where there is none."""
        row = self._database.one("SELECT * FROM approvals WHERE campaign = ? ORDER BY rowid DESC LIMIT 1", campaign)
        if row is None:
            return None
        return Approval(
            CampaignId(row["campaign"]), bool(row["approved"]), row["reason"], Address(row["owner"]), row["time"]
        )
