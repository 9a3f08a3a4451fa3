"""The chain as the ledger knows it: campaigns as their events left them, and the block up to which it was read."""

from mine.errors import LedgerError
from mine.ledger._rows import campaign_of, dump_admission
from mine.ledger.database import Part
from mine.records import KnownCampaign
from sonar.chain.events import CampaignCreated, RoundSettled
from sonar.chain.records import Status
from sonar.units import Address, CampaignId

__all__ = ["TABLES", "Campaigns"]

TABLES = """
CREATE TABLE cursors (deployment TEXT PRIMARY KEY, next_block INTEGER NOT NULL);
CREATE TABLE campaigns (
    id BLOB PRIMARY KEY, deployment TEXT NOT NULL, owner TEXT NOT NULL, token TEXT NOT NULL, admission TEXT NOT NULL,
    created BLOB NOT NULL, block INTEGER NOT NULL, spec_cid TEXT NOT NULL, model_cid TEXT NOT NULL,
    model BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, round INTEGER NOT NULL, score INTEGER NOT NULL,
    status INTEGER NOT NULL, bond TEXT NOT NULL
);
CREATE INDEX campaigns_by_deployment ON campaigns (deployment, status)
"""


class Campaigns(Part):
    """Campaigns and cursors of every deployment that was followed."""

    def cursor(self, deployment: str) -> int | None:
        """The first block whose events have not been applied, or None for a deployment never followed."""
        row = self._database.one("SELECT next_block FROM cursors WHERE deployment = ?", deployment)
        return None if row is None else int(row["next_block"])

    def last_deployment(self, prefix: str) -> str | None:
        """The deployment followed last whose name starts with `prefix`."""
        row = self._database.one(
            "SELECT deployment FROM cursors WHERE substr(deployment, 1, ?) = ? ORDER BY rowid DESC", len(prefix), prefix
        )
        return None if row is None else str(row["deployment"])

    def campaigns(self, deployment: str) -> list[KnownCampaign]:
        """All campaigns of a deployment, oldest first."""
        return [campaign_of(row) for row in self._database.rows(
            "SELECT * FROM campaigns WHERE deployment = ? ORDER BY block, rowid", deployment)]  # fmt: skip

    def campaign(self, campaign: CampaignId) -> KnownCampaign:
        """One campaign; raises LedgerError if it was never seen."""
        row = self._database.one("SELECT * FROM campaigns WHERE id = ?", campaign)
        if row is None:
            raise LedgerError(f"campaign 0x{campaign.hex()} is not in the ledger: follow the chain first")
        return campaign_of(row)

    # ---- what the chain says; within a transaction

    def _created(self, deployment: str, event: CampaignCreated) -> None:
        # Seen again where the chain took its block back and put it elsewhere; what followed comes again as well.
        self._database.execute(
            "INSERT OR REPLACE INTO campaigns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?)",
            event.id, deployment, event.owner, event.terms.token, dump_admission(event.admission), event.transaction,
            event.block, event.spec_cid, event.model_cid, event.admission.model, event.admission.key,
            event.admission.start_score, Status.RUNNING, str(event.terms.bond),
        )  # fmt: skip

    def _advanced(self, event: RoundSettled) -> None:
        self._database.execute(
            "UPDATE campaigns SET version = version + 1, score = ?, model_cid = ?, model = ?, key = ? WHERE id = ?",
            event.score, event.model_cid, event.model, event.key, event.id,
        )  # fmt: skip

    def _next_round(self, campaign: CampaignId, round: int) -> None:  # noqa: A002
        self._database.execute("UPDATE campaigns SET round = ? WHERE id = ?", round, campaign)

    def _owned(self, campaign: CampaignId, owner: Address) -> None:
        self._database.execute("UPDATE campaigns SET owner = ? WHERE id = ?", owner, campaign)

    def _status(self, campaign: CampaignId, status: Status) -> None:
        self._database.execute("UPDATE campaigns SET status = ? WHERE id = ?", status, campaign)
