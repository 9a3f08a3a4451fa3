"""The mine's ledger: data sets, campaigns as followed on chain, and every submission, in one SQLite file.

Events and the cursor behind them are one transaction, so each event counts once. A submission's signed transaction is
written here before it is sent, with its sealed bytes, so a restart can look it up and repeat it instead of guessing.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from mine._rows import campaign_of, dump_admission, submission_of
from mine.data import Dataset
from mine.errors import DataError, LedgerError
from mine.records import KnownCampaign, State, Submission
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    CampaignTransferred,
    Event,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
)
from sonar.chain.records import Status, Verdict
from sonar.units import Address, CampaignId

__all__ = ["Ledger"]

_VERSION = 3
_SCHEMA = """
CREATE TABLE datasets (
    name TEXT PRIMARY KEY, path TEXT NOT NULL, target TEXT NOT NULL, columns TEXT NOT NULL, labels TEXT NOT NULL
);
CREATE TABLE cursors (deployment TEXT PRIMARY KEY, next_block INTEGER NOT NULL);
CREATE TABLE campaigns (
    id BLOB PRIMARY KEY, deployment TEXT NOT NULL, owner TEXT NOT NULL, token TEXT NOT NULL, admission TEXT NOT NULL,
    created BLOB NOT NULL, block INTEGER NOT NULL, spec_cid TEXT NOT NULL, model_cid TEXT NOT NULL,
    model BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, round INTEGER NOT NULL, score INTEGER NOT NULL,
    status INTEGER NOT NULL
);
CREATE INDEX campaigns_by_deployment ON campaigns (deployment, status);
CREATE TABLE submissions (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, version INTEGER NOT NULL,
    dataset TEXT NOT NULL, cid TEXT NOT NULL, artifact BLOB NOT NULL, gradient BLOB NOT NULL, bond TEXT NOT NULL,
    box BLOB, nonce INTEGER, hash BLOB, raw BLOB, position INTEGER, verdict INTEGER, share INTEGER, payout TEXT,
    bond_returned TEXT, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (campaign, round)
);
CREATE INDEX submissions_by_state ON submissions (state);
"""
_BUSY_SECONDS = 30.0
_OPEN = (State.PREPARED, State.SIGNED)


class Ledger:
    """An open ledger; a context manager. Several processes may have it open, one at a time writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._guard():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
        try:
            self._prepare_file()
        except LedgerError:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- data sets

    def datasets(self) -> list[Dataset]:
        """All data sets, by name."""
        return [
            Dataset(
                row["name"], Path(row["path"]), row["target"], tuple(json.loads(row["columns"])),
                tuple((label, count) for label, count in json.loads(row["labels"])),
            )
            for row in self._rows("SELECT * FROM datasets ORDER BY name")
        ]  # fmt: skip

    def add_dataset(self, dataset: Dataset, *, replace: bool = False) -> None:
        """Remembers a data set; raises DataError if its name is taken and `replace` is not set."""
        with self._write():
            if not replace and self._one("SELECT 1 FROM datasets WHERE name = ?", dataset.name):
                raise DataError(f"there is a data set {dataset.name!r} already: choose another name or use --replace")
            self._db.execute(
                "INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?)",
                (dataset.name, str(dataset.path), dataset.target, json.dumps(dataset.columns),
                 json.dumps(dataset.labels)),
            )  # fmt: skip

    # ---- the chain

    def cursor(self, deployment: str) -> int | None:
        """The first block whose events have not been applied, or None for a deployment never followed."""
        row = self._one("SELECT next_block FROM cursors WHERE deployment = ?", deployment)
        return None if row is None else int(row["next_block"])

    def last_deployment(self, prefix: str) -> str | None:
        """The deployment followed last whose name starts with `prefix`."""
        row = self._one(
            "SELECT deployment FROM cursors WHERE substr(deployment, 1, ?) = ? ORDER BY rowid DESC", len(prefix), prefix
        )
        return None if row is None else str(row["deployment"])

    def apply(self, deployment: str, mine: Address, events: Iterable[Event], *, before: int | None, after: int) -> bool:
        """Applies events in chain order and moves the cursor from `before` to `after`, both or neither.

        Returns False, with nothing done, if another process has moved the cursor meanwhile.
        """
        with self._write():
            if self.cursor(deployment) != before:
                return False
            for event in events:
                self._apply(deployment, mine, event)
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (deployment, after))
        return True

    def campaigns(self, deployment: str) -> list[KnownCampaign]:
        """All campaigns of a deployment, oldest first."""
        return [campaign_of(row) for row in self._rows(
            "SELECT * FROM campaigns WHERE deployment = ? ORDER BY block, rowid", deployment)]  # fmt: skip

    def campaign(self, campaign: CampaignId) -> KnownCampaign:
        """One campaign; raises LedgerError if it was never seen."""
        row = self._one("SELECT * FROM campaigns WHERE id = ?", campaign)
        if row is None:
            raise LedgerError(f"campaign 0x{campaign.hex()} is not in the ledger: follow the chain first")
        return campaign_of(row)

    # ---- submissions

    def submission(self, campaign: CampaignId, round: int) -> Submission | None:  # noqa: A002
        """This mine's submission in one round."""
        row = self._one("SELECT * FROM submissions WHERE campaign = ? AND round = ?", campaign, round)
        return None if row is None else submission_of(row)

    def submissions(self, deployment: str, *states: State) -> list[Submission]:
        """This mine's submissions to a deployment, oldest first; only those in `states` if any are given."""
        wanted = states or tuple(State)
        marks = ", ".join("?" * len(wanted))
        return [submission_of(row) for row in self._rows(
            f"SELECT s.* FROM submissions s JOIN campaigns c ON c.id = s.campaign WHERE c.deployment = ? "  # noqa: S608
            f"AND s.state IN ({marks}) ORDER BY s.rowid", deployment, *wanted)]  # fmt: skip

    def verdicts(self, campaign: CampaignId) -> list[Verdict]:
        """The verdicts on this mine's gradients in a campaign, the latest first."""
        rows = self._rows(
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
        row = self._one(
            "SELECT box FROM submissions WHERE campaign = ? AND round = ?", submission.campaign, submission.round
        )
        return None if row is None else row["box"]

    def prepare(self, submission: Submission, box: bytes) -> None:
        """Writes down a trained gradient that is in the store and not on chain."""
        with self._write():
            self._db.execute(
                "INSERT INTO submissions "
                "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, box) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (submission.campaign, submission.round, State.PREPARED, submission.version, submission.dataset,
                 submission.artifact.cid, submission.artifact.digest, submission.gradient, str(submission.bond), box),
            )  # fmt: skip

    def sign(self, submission: Submission, *, raw: bytes, hash: bytes, nonce: int) -> Submission:  # noqa: A002
        """Writes down the signed transaction that is about to be sent, in place of any earlier one."""
        moved = self._move(submission, _OPEN, State.SIGNED, raw=raw, hash=hash, nonce=nonce)
        if moved.state is not State.SIGNED:
            raise LedgerError(
                f"round {submission.round} of 0x{submission.campaign.hex()} is {moved.state} already: "
                f"is another process using {self._path}?"
            )
        return moved

    def post(self, submission: Submission, index: int) -> Submission:
        """The gradient is in its round, at position `index`."""
        return self._move(submission, _OPEN, State.POSTED, position=index)

    def miss(self, submission: Submission, note: str) -> Submission:
        """The gradient did not get into its round; `note` says why."""
        return self._move(submission, _OPEN, State.MISSED, note=note, raw=None, box=None)

    # ---- inside

    def _prepare_file(self) -> None:
        with self._guard():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        with self._write():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise LedgerError(
                    f"the ledger {self._path} has format {version}, this program writes {_VERSION}: upgrade it"
                )

    def _move(self, submission: Submission, before: tuple[State, ...], after: State, **values: Any) -> Submission:
        """The submission in its new state, or as it is if an event has taken it further already."""
        sets = ", ".join(f"{name} = ?" for name in ("state", *values))
        marks = ", ".join("?" * len(before))
        with self._write():
            self._db.execute(
                f"UPDATE submissions SET {sets} WHERE campaign = ? AND round = ? AND state IN ({marks})",  # noqa: S608
                (after, *values.values(), submission.campaign, submission.round, *before),
            )
        moved = self.submission(submission.campaign, submission.round)
        if moved is None:
            raise LedgerError(f"round {submission.round} of 0x{submission.campaign.hex()} has no submission to change")
        return moved

    def _apply(self, deployment: str, mine: Address, event: Event) -> None:
        match event:
            case CampaignCreated():
                self._created(deployment, event)
            case GradientSubmitted() if event.mine == mine:
                self._submitted(event)
            case GradientJudged() if event.mine == mine:
                self._db.execute(
                    "UPDATE submissions SET state = ?, verdict = ?, share = ?, payout = ?, bond_returned = ?, "
                    "note = '', box = NULL, raw = NULL WHERE campaign = ? AND round = ?",
                    (State.JUDGED, event.verdict, event.share, str(event.payout), str(event.bond_returned), event.id,
                     event.round),
                )  # fmt: skip
            case RoundSettled():
                self._over(event.id, event.round, "the round was settled without it")
                if event.advances:
                    self._db.execute(
                        "UPDATE campaigns SET version = version + 1, score = ?, model_cid = ?, model = ?, key = ? "
                        "WHERE id = ?",
                        (event.score, event.model_cid, event.model, event.key, event.id),
                    )
            case RoundExpired():
                self._db.execute(
                    "UPDATE submissions SET state = ?, bond_returned = bond, box = NULL, raw = NULL "
                    "WHERE campaign = ? AND round = ? AND state = ?",
                    (State.EXPIRED, event.id, event.round, State.POSTED),
                )
                self._over(event.id, event.round, "the round expired without it")
            case CampaignTransferred():
                self._db.execute("UPDATE campaigns SET owner = ? WHERE id = ?", (event.new_owner, event.id))
            case CampaignFinished():
                self._status(event.id, Status.FINISHED)
            case CampaignClosed():
                self._status(event.id, Status.CLOSED)
            case _:
                pass  # what a bounty is, and to whom a campaign is offered, is asked of the chain when it matters

    def _created(self, deployment: str, event: CampaignCreated) -> None:
        # Seen again where the chain took its block back and put it elsewhere; what followed comes again as well.
        self._db.execute(
            "INSERT OR REPLACE INTO campaigns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)",
            (event.id, deployment, event.owner, event.terms.token, dump_admission(event.admission), event.transaction,
             event.block, event.spec_cid, event.model_cid, event.admission.model, event.admission.key,
             event.admission.start_score, Status.RUNNING),
        )  # fmt: skip

    def _submitted(self, event: GradientSubmitted) -> None:
        """Our gradient is on chain, also one that another copy of this ledger sent."""
        self._db.execute(
            "INSERT INTO submissions "
            "(campaign, round, state, version, dataset, cid, artifact, gradient, bond, position) "
            "SELECT id, ?, ?, version, '', ?, ?, ?, '0', ? FROM campaigns WHERE id = ? "
            "ON CONFLICT DO UPDATE SET state = excluded.state, position = excluded.position, cid = excluded.cid, "
            "artifact = excluded.artifact, gradient = excluded.gradient",
            (event.round, State.POSTED, event.cid, event.artifact, event.gradient, event.index, event.id),
        )

    def _over(self, campaign: CampaignId, round: int, note: str) -> None:  # noqa: A002
        """A round is over: what did not get into it never will."""
        self._db.execute(
            "UPDATE submissions SET state = ?, note = ?, box = NULL, raw = NULL "
            "WHERE campaign = ? AND round = ? AND state IN (?, ?)",
            (State.MISSED, note, campaign, round, *_OPEN),
        )
        self._db.execute("UPDATE campaigns SET round = ? WHERE id = ?", (round + 1, campaign))

    def _status(self, campaign: CampaignId, status: Status) -> None:
        self._db.execute("UPDATE campaigns SET status = ? WHERE id = ?", (status, campaign))

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self._rows(query, *values)), None)

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._guard(), closing(self._db.execute(query, values)) as found:
            return found.fetchall()

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise LedgerError(f"the ledger {self._path} cannot be used: {error}") from error
