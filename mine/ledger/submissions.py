"""This mine's gradients in the ledger, from the trained one to its verdict."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mine.audit.telling import facts_of, kind_of
from mine.errors import LedgerError
from mine.ledger._rows import submission_of
from mine.ledger.audit import Audited
from mine.ledger.transactions import Transactions
from mine.records import JUDGED, UNSENT, State, Submission, Transaction
from sonar.chain.events import GradientJudged, GradientSubmitted, RoundExpired
from sonar.chain.records import Verdict
from sonar.units import Address, CampaignId, Cid

__all__ = ["TABLES", "Submissions"]

TABLES = """
CREATE TABLE submissions (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
    dataset TEXT NOT NULL, cid TEXT NOT NULL, artifact BLOB NOT NULL, gradient BLOB NOT NULL, bond TEXT NOT NULL,
    box BLOB, hash BLOB, position INTEGER, verdict INTEGER, share INTEGER, payout TEXT,
    bond_returned TEXT, note TEXT NOT NULL DEFAULT '', rules TEXT NOT NULL DEFAULT '', PRIMARY KEY (campaign, round)
);
CREATE INDEX submissions_by_state ON submissions (state)
"""
_OVER = (*JUDGED, State.EXPIRED, State.MISSED)


class Submissions(Audited, Transactions):
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

    def history(self, campaign: CampaignId) -> list[Submission]:
        """This mine's gradients in a campaign whose rounds are over, the latest first, missed ones among them."""
        marks = ", ".join("?" * len(_OVER))
        return [submission_of(row) for row in self._database.rows(
            f"SELECT * FROM submissions WHERE campaign = ? AND state IN ({marks}) ORDER BY round DESC",  # noqa: S608
            campaign, *_OVER)]  # fmt: skip

    def verdicts(self, campaign: CampaignId) -> list[Verdict]:
        """The verdicts on this mine's gradients in a campaign, the latest first.

        A missed one counts as left out: it was work, and not paid.
        """
        return [
            Verdict.LEFT_OUT if one.verdict is None else one.verdict
            for one in self.history(campaign)
            if one.state is not State.EXPIRED
        ]

    def note(self, submission: Submission, text: str) -> Submission:
        """Writes down what is to be said of a judged gradient; returns it with that."""
        return self._move(submission, JUDGED, submission.state, note=text)

    def unsigned_of(self, dataset: str) -> int:
        """How many gradients of a data set are on their way to the chain and not signed yet."""
        return len(self._database.rows(
            "SELECT 1 FROM submissions WHERE dataset = ? AND state IN (?, ?)", dataset, State.TRAINED, State.STORED
        ))  # fmt: skip

    def box(self, submission: Submission) -> bytes | None:
        """The sealed bytes of a submission, kept until it is judged so that the store can be given them again."""
        row = self._database.one(
            "SELECT box FROM submissions WHERE campaign = ? AND round = ?", submission.campaign, submission.round
        )
        return None if row is None else row["box"]

    def train(self, submission: Submission, box: bytes, facts: Mapping[str, Any] | None = None) -> None:
        """Writes down a trained gradient, sealed, that is nowhere else yet; `facts` go to the audit log besides."""
        with self._told(submission.campaign, submission.round, **(facts or {})):
            self._database.execute(
                "INSERT INTO submissions "
                "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, box, rules) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                submission.campaign, submission.round, State.TRAINED, submission.version, submission.dataset, "",
                submission.artifact.digest, submission.gradient, str(submission.bond), box,
                submission.rules,
            )  # fmt: skip

    def store(self, submission: Submission, cid: Cid) -> Submission:
        """The sealed gradient is in the content store."""
        return self._move(submission, (State.TRAINED, State.STORED), State.STORED, cid=cid)

    def sign(self, submission: Submission, transaction: Transaction, deployment: str) -> Submission:
        """Writes down the signed transaction that is about to be sent, besides any earlier one."""
        with self._database.write():
            moved = self._move(submission, (State.STORED, State.SIGNED), State.SIGNED, hash=transaction.hash)
            if moved.state is not State.SIGNED:
                raise LedgerError(
                    f"round {submission.round} of 0x{submission.campaign.hex()} is {moved.state} already: "
                    f"is another process using {self._database.path}?"
                )
            self.intend(deployment, transaction)
        return moved

    def send(self, submission: Submission, index: int) -> Submission:
        """The gradient is in its round, at position `index`."""
        return self._move(submission, UNSENT, State.SENT, position=index)

    def take_back(self, submission: Submission) -> Submission:
        """The chain took back the block with the gradient; its transaction may be mined again."""
        return self._move(submission, (State.SENT,), State.SIGNED, position=None)

    def miss(self, submission: Submission, note: str) -> Submission:
        """The gradient did not get into its round; `note` says why."""
        return self._move(submission, UNSENT, State.MISSED, note=note, box=None)

    def _move(self, submission: Submission, before: tuple[State, ...], after: State, **values: Any) -> Submission:
        """The submission in its new state, or as it is if an event has taken it further already."""
        sets = ", ".join(f"{name} = ?" for name in ("state", *values))
        marks = ", ".join("?" * len(before))
        with self._told(submission.campaign, submission.round):
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
        """Our gradient is on chain, also one that another copy of this ledger sent, whose data set nobody knows."""
        with self._told(event.id, event.round):
            self._database.execute(
                "INSERT INTO submissions "
                "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, position) "
                "SELECT id, ?, ?, version, '', ?, ?, ?, bond, ? FROM campaigns WHERE id = ? "
                "ON CONFLICT DO UPDATE SET state = excluded.state, position = excluded.position, cid = excluded.cid, "
                "artifact = excluded.artifact, gradient = excluded.gradient, "
                "dataset = CASE gradient WHEN excluded.gradient THEN dataset ELSE '' END",
                event.round, State.SENT, event.cid, event.artifact, event.gradient, event.index, event.id,
            )  # fmt: skip

    def _judged(self, event: GradientJudged, **facts: int) -> None:
        with self._told(event.id, event.round, transaction=event.transaction, **facts):
            self._database.execute(
                "UPDATE submissions SET state = ?, verdict = ?, share = ?, payout = ?, bond_returned = ?, "
                "note = '', box = NULL WHERE campaign = ? AND round = ?",
                State.SETTLED, event.verdict, event.share, str(event.payout), str(event.bond_returned), event.id,
                event.round,
            )  # fmt: skip

    def _expired(self, event: RoundExpired) -> None:
        with self._told(event.id, event.round, transaction=event.transaction):
            self._database.execute(
                "UPDATE submissions SET state = ?, bond_returned = bond, box = NULL "
                "WHERE campaign = ? AND round = ? AND state = ?",
                State.EXPIRED, event.id, event.round, State.SENT,
            )  # fmt: skip

    def _missed(self, campaign: CampaignId, round: int, note: str) -> None:  # noqa: A002
        """A round is over: what did not get into it never will."""
        with self._told(campaign, round):
            self._database.execute(
                "UPDATE submissions SET state = ?, note = ?, box = NULL "
                "WHERE campaign = ? AND round = ? AND state IN (?, ?, ?)",
                State.MISSED, note, campaign, round, *UNSENT,
            )  # fmt: skip

    def _paid(self, deployment: str, token: Address) -> None:
        """All that was owed in a token was withdrawn."""
        self._database.execute(
            "UPDATE submissions SET state = ? WHERE state = ? AND campaign IN "
            "(SELECT id FROM campaigns WHERE deployment = ? AND token = ?)",
            State.PAID, State.SETTLED, deployment, token,
        )  # fmt: skip

    # ---- the audit log

    @contextmanager
    def _told(self, campaign: CampaignId, round: int, **facts: Any) -> Iterator[None]:  # noqa: A002
        """A transaction that tells the audit log what the submission's state has become, if it changes within."""
        with self._database.write():
            before = self.submission(campaign, round)
            yield
            after = self.submission(campaign, round)
            if after is None:
                return
            kind = kind_of(None if before is None else before.state, after.state)
            if kind is None:
                return
            row = self._database.one("SELECT owner, token FROM campaigns WHERE id = ?", campaign)
            owner, token = ("", "") if row is None else (row["owner"], row["token"])
            self.record(kind, {**facts_of(after, Address(owner), Address(token)), **facts})
