"""How many gradients came into rounds, and how many their campaigns keep at least: of fewer none is kept."""

from mine.ledger.database import Part
from sonar.chain.events import CampaignCreated, GradientJudged, GradientSubmitted
from sonar.chain.records import Verdict
from sonar.units import CampaignId

__all__ = ["TABLES", "Quorums"]

TABLES = """
CREATE TABLE quorums (campaign BLOB PRIMARY KEY, least INTEGER NOT NULL);
CREATE TABLE round_gradients (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, gradients INTEGER NOT NULL, PRIMARY KEY (campaign, round)
)
"""


class Quorums(Part):
    """What events say of how many took part, so that it can be told without asking anybody."""

    def quorum(self, campaign: CampaignId) -> int:
        """How many gradients an advancing round of a campaign keeps at least; 0 for one that was never seen."""
        row = self._database.one("SELECT least FROM quorums WHERE campaign = ?", campaign)
        return 0 if row is None else int(row["least"])

    def gradients_in(self, campaign: CampaignId, round: int) -> int:  # noqa: A002
        """How many gradients came into a round, of all mines."""
        row = self._database.one(
            "SELECT gradients FROM round_gradients WHERE campaign = ? AND round = ?", campaign, round
        )
        return 0 if row is None else int(row["gradients"])

    # ---- what the chain says; within a transaction

    def _quorum(self, event: CampaignCreated) -> None:
        self._database.execute("INSERT OR REPLACE INTO quorums VALUES (?, ?)", event.id, event.terms.min_mines)

    def _shortage(self, event: GradientJudged) -> dict[str, int]:
        """What the audit log tells of a gradient that was left out because too few mines took part; else nothing."""
        came, least = self.gradients_in(event.id, event.round), self.quorum(event.id)
        short = event.verdict is Verdict.LEFT_OUT and came < least
        return {"round_gradients": came, "min_mines": least} if short else {}

    def _counted(self, event: GradientSubmitted) -> None:
        # By its position: an event may come again where the chain took its block back.
        self._database.execute(
            "INSERT INTO round_gradients VALUES (?1, ?2, ?3) "
            "ON CONFLICT DO UPDATE SET gradients = max(gradients, excluded.gradients)",
            event.id, event.round, event.index + 1,
        )  # fmt: skip
