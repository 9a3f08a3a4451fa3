"""This mine's gradients in the ledger, from the trained one to its verdict."""

from typing import Any

from mine.errors import LedgerError
from mine.ledger._rows import submission_of
from mine.ledger.database import Part
from mine.records import State, Submission
from sonar.chain.events import GradientJudged, GradientSubmitted, RoundExpired
from sonar.chain.records import Verdict
from sonar.units import CampaignId

__all__ = ["TABLES", "Submissions"]

TABLES = """
CREATE TABLE submissions (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
    dataset TEXT NOT NULL, cid TEXT NOT NULL, artifact BLOB NOT NULL, gradient BLOB NOT NULL, bond TEXT NOT NULL,
    box BLOB, nonce INTEGER, hash BLOB, raw BLOB, position INTEGER, verdict INTEGER, share INTEGER, payout TEXT,
    bond_returned TEXT, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (campaign, round)
);
CREATE INDEX submissions_by_state ON submissions (state)
"""
_OPEN = (State.PREPARED, State.SIGNED)


class Submissions(Part):
    """One submission a campaign and round."""

    def submission(self, campaign: CampaignId, round: int) -> Submission | None:  # noqa: A002
        """This mine's submission in one round."""
        row = self._database.one("SELECT * FROM submissions WHERE campaign = ? AND round = ?", campaign, round)
        return None if row is None else submission_of(row)

    def submissions(self, deployment: str, *states: State) -> list[Submission]:
        """This mine's submissions to a deployment, oldest first; only those in `states` if any are given."""
        wanted = states or tuple(State)
        marks = ", ".join("?" * len(wanted))
        return [submission_of(row) for row in self._database.rows(
            f"SELECT s.* FROM submissions s JOIN campaigns c ON c.id = s.campaign WHERE c.deployment = ? "  # noqa: S608
            f"AND s.state IN ({marks}) ORDER BY s.rowid", deployment, *wanted)]  # fmt: skip

    def verdicts(self, campaign: CampaignId) -> list[Verdict]:
        """The verdicts on this mine's gradients in a campaign, the latest first."""
        rows = self._database.rows(
            "SELECT verdict FROM submissions WHERE campaign = ? AND state = ? ORDER BY round DESC",
            campaign,
            State.JUDGED,
        )
        return [Verdict(row["verdict"]) for row in rows]

    def note(self, submission: Submission, text: str) -> Submission:
        """Writes down what is to be said of a judged gradient; returns it with that."""
        return self._move(submission, (State.JUDGED,), State.JUDGED, note=text)

    def box(self, submission: Submission) -> bytes | None:
        """The sealed bytes of a submission, kept until it is judged so that the store can be given them again."""
        row = self._database.one(
            "SELECT box FROM submissions WHERE campaign = ? AND round = ?", submission.campaign, submission.round
        )
        return None if row is None else row["box"]

    def prepare(self, submission: Submission, box: bytes) -> None:
        """Writes down a trained gradient that is in the store and not on chain."""
        with self._database.write():
            self._database.execute(
                "INSERT INTO submissions "
                "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, box) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                submission.campaign, submission.round, State.PREPARED, submission.version, submission.dataset,
                submission.artifact.cid, submission.artifact.digest, submission.gradient, str(submission.bond), box,
            )  # fmt: skip

    def sign(self, submission: Submission, *, raw: bytes, hash: bytes, nonce: int) -> Submission:  # noqa: A002
        """Writes down the signed transaction that is about to be sent, in place of any earlier one."""
        moved = self._move(submission, _OPEN, State.SIGNED, raw=raw, hash=hash, nonce=nonce)
        if moved.state is not State.SIGNED:
            raise LedgerError(
                f"round {submission.round} of 0x{submission.campaign.hex()} is {moved.state} already: "
                f"is another process using {self._database.path}?"
            )
        return moved

    def post(self, submission: Submission, index: int) -> Submission:
        """The gradient is in its round, at position `index`."""
        return self._move(submission, _OPEN, State.POSTED, position=index)

    def miss(self, submission: Submission, note: str) -> Submission:
        """The gradient did not get into its round; `note` says why."""
        return self._move(submission, _OPEN, State.MISSED, note=note, raw=None, box=None)

    def _move(self, submission: Submission, before: tuple[State, ...], after: State, **values: Any) -> Submission:
        """The submission in its new state, or as it is if an event has taken it further already."""
        sets = ", ".join(f"{name} = ?" for name in ("state", *values))
        marks = ", ".join("?" * len(before))
        with self._database.write():
            self._database.execute(
                f"UPDATE submissions SET {sets} WHERE campaign = ? AND round = ? AND state IN ({marks})",  # noqa: S608
                after,
                *values.values(),
                submission.campaign,
                submission.round,
                *before,
            )
        moved = self.submission(submission.campaign, submission.round)
        if moved is None:
            raise LedgerError(f"round {submission.round} of 0x{submission.campaign.hex()} has no submission to change")
        return moved

    # ---- what the chain says; within a transaction

    def _submitted(self, event: GradientSubmitted) -> None:
        """Our gradient is on chain, also one that another copy of this ledger sent."""
        self._database.execute(
            "INSERT INTO submissions "
            "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, position) "
            "SELECT id, ?, ?, version, '', ?, ?, ?, '0', ? FROM campaigns WHERE id = ? "
            "ON CONFLICT DO UPDATE SET state = excluded.state, position = excluded.position, cid = excluded.cid, "
            "artifact = excluded.artifact, gradient = excluded.gradient",
            event.round, State.POSTED, event.cid, event.artifact, event.gradient, event.index, event.id,
        )  # fmt: skip

    def _judged(self, event: GradientJudged) -> None:
        self._database.execute(
            "UPDATE submissions SET state = ?, verdict = ?, share = ?, payout = ?, bond_returned = ?, "
            "note = '', box = NULL, raw = NULL WHERE campaign = ? AND round = ?",
            State.JUDGED, event.verdict, event.share, str(event.payout), str(event.bond_returned), event.id,
            event.round,
        )  # fmt: skip

    def _expired(self, event: RoundExpired) -> None:
        self._database.execute(
            "UPDATE submissions SET state = ?, bond_returned = bond, box = NULL, raw = NULL "
            "WHERE campaign = ? AND round = ? AND state = ?",
            State.EXPIRED, event.id, event.round, State.POSTED,
        )  # fmt: skip

    def _missed(self, campaign: CampaignId, round: int, note: str) -> None:  # noqa: A002
        """A round is over: what did not get into it never will."""
        self._database.execute(
            "UPDATE submissions SET state = ?, note = ?, box = NULL, raw = NULL "
            "WHERE campaign = ? AND round = ? AND state IN (?, ?)",
            State.MISSED, note, campaign, round, *_OPEN,
        )  # fmt: skip
