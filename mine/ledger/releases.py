"""What noised statistics cost, in the ledger: which data are the same, what was spent on them, what was released.

Data sets that share records, a name or a place share a budget: they are one pool, and pools only ever grow together. A
statistic is written here with its cost in one transaction, before anything made of it leaves; a later stop therefore
neither forgets a cost nor pays one twice.
"""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mine.ledger.audit import Audited
from mine.privacy.accountant import epsilon_of
from mine.privacy.sketch import Contents, share_records
from sonar.units import CampaignId

__all__ = ["TABLES", "Charge", "Releases"]

TABLES = """
CREATE TABLE privacy_key (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL);
CREATE TABLE privacy_contents (
    digest BLOB PRIMARY KEY, pool INTEGER NOT NULL, records INTEGER NOT NULL, sketch BLOB NOT NULL
);
CREATE TABLE privacy_places (
    contents BLOB NOT NULL, dataset TEXT NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (contents, dataset, origin)
);
CREATE TABLE privacy_charges (
    id INTEGER PRIMARY KEY, contents BLOB NOT NULL, statistic BLOB NOT NULL, rho TEXT NOT NULL, time REAL NOT NULL,
    noised BLOB, campaign BLOB, round INTEGER
);
CREATE UNIQUE INDEX privacy_statistics ON privacy_charges (contents, statistic) WHERE noised IS NOT NULL
"""
_ALIKE = 1.25
"""How many times as many records data may have that one statistic serves."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What was spent once: on a statistic of this mine, or for an unknown gradient of `campaign`.

    `time` in seconds since 1970, `rho` in zCDP, `statistic` the digest of what was asked for.
    """

    time: float
    rho: Fraction
    statistic: bytes
    campaign: CampaignId | None = None
    round: int | None = None


class Releases(Audited):
    """Contents that were looked at, their pools, and every charge."""

    def privacy_key(self) -> bytes:
        """The 32 bytes under which records are recognised; made once, and never changed."""
        with self._database.write():
            row = self._database.one("SELECT key FROM privacy_key")
            if row is not None:
                return bytes(row["key"])
            key = secrets.token_bytes(32)
            self._database.execute("INSERT INTO privacy_key VALUES (1, ?)", key)
            return key

    def recognise(self, contents: Contents, dataset: str, origin: str) -> int:
        """Writes down what a data set holds now; its pool, with which all that it has to do with are joined."""
        database = self._database
        with database.write():
            known = database.one("SELECT pool FROM privacy_contents WHERE digest = ?", contents.digest)
            pools = {row["pool"] for row in database.rows(
                "SELECT DISTINCT pool FROM privacy_contents JOIN privacy_places ON contents = digest "
                "WHERE dataset = ? OR origin = ?", dataset, origin)}  # fmt: skip
            if known is None:
                pools |= self._sharing(contents)
                (last,) = database.rows("SELECT coalesce(max(pool), 0) FROM privacy_contents")[0]
                pool = min(pools, default=last + 1)
                database.execute("INSERT INTO privacy_contents VALUES (?, ?, ?, ?)",
                                 contents.digest, pool, contents.records, contents.to_bytes())  # fmt: skip
            else:
                pools.add(known["pool"])
                pool = min(pools)
            for other in pools - {pool}:
                database.execute("UPDATE privacy_contents SET pool = ? WHERE pool = ?", pool, other)
            database.execute("INSERT OR IGNORE INTO privacy_places VALUES (?, ?, ?)", contents.digest, dataset, origin)
        return int(pool)

    def pools(self) -> list[int]:
        """All pools, the oldest first."""
        return [row["pool"] for row in self._database.rows("SELECT DISTINCT pool FROM privacy_contents ORDER BY pool")]

    def pool_of(self, dataset: str) -> int | None:
        """The pool of a data set by its name; None for one that was never looked at."""
        row = self._database.one(
            "SELECT pool FROM privacy_contents JOIN privacy_places ON contents = digest WHERE dataset = ?", dataset
        )
        return None if row is None else int(row["pool"])

    def members(self, pool: int) -> list[str]:
        """The names of all data sets that ever shared a pool's budget."""
        return [row["dataset"] for row in self._database.rows(
            "SELECT DISTINCT dataset FROM privacy_places JOIN privacy_contents ON contents = digest WHERE pool = ? "
            "ORDER BY dataset", pool)]  # fmt: skip

    def charges(self, pool: int) -> list[Charge]:
        """All that was spent in a pool, in order."""
        rows = self._database.rows(
            "SELECT c.* FROM privacy_charges c JOIN privacy_contents ON contents = digest WHERE pool = ? ORDER BY id",
            pool,
        )
        return [
            Charge(row["time"], Fraction(row["rho"]), bytes(row["statistic"]), row["campaign"], row["round"])
            for row in rows
        ]

    def spent(self, pool: int) -> Fraction:
        """The zCDP of everything that was ever made of a pool's records."""
        return sum((charge.rho for charge in self.charges(pool)), Fraction(0))

    def statistic(self, contents: bytes, statistic: bytes) -> bytes | None:
        """The noised statistic of a kind that was made of exactly these contents."""
        row = self._database.one(
            "SELECT noised FROM privacy_charges WHERE contents = ? AND statistic = ? AND noised IS NOT NULL",
            contents, statistic,
        )  # fmt: skip
        return None if row is None else bytes(row["noised"])

    def serving(self, pool: int, statistic: bytes, dataset: str, records: int) -> bytes | None:
        """The last noised statistic of a kind that may serve a data set of a pool, though not made of it as it is now.

        It was made of the data set of that name before it changed, or of another with about as many of its records: a
        small part of a data set does not stand for all of it.
        """
        row = self._database.one(
            "SELECT noised FROM privacy_charges c JOIN privacy_contents k ON c.contents = k.digest "
            "WHERE pool = ? AND statistic = ? AND noised IS NOT NULL AND (k.records BETWEEN ? AND ? OR EXISTS "
            "(SELECT 1 FROM privacy_places p WHERE p.contents = c.contents AND p.dataset = ?)) ORDER BY id DESC",
            pool, statistic, records / _ALIKE, records * _ALIKE, dataset,
        )  # fmt: skip
        return None if row is None else bytes(row["noised"])

    def release(
        self,
        contents: bytes,
        statistic: bytes,
        rho: Fraction,
        noised: bytes,
        check: Callable[[Fraction], None],
        *,
        delta: float,
    ) -> bytes:
        """Writes a noised statistic and its cost down, unless another process was first: then that one's counts.

        `check` is told what the pool will have spent then, and raises to forbid it. Returns the statistic that counts.
        `delta` is the owner's, at which the audit log tells the cost as epsilon.
        """
        with self._database.write():
            pool = self._pool(contents)
            earlier = self.statistic(contents, statistic)
            if earlier is not None:
                return earlier
            check(self.spent(pool) + rho)
            self._charge(contents, statistic, rho, noised)
            self.record("released", {
                "datasets": self.members(pool), "statistic": statistic, "contents": contents,
                **self._cost(pool, rho, delta),
            })  # fmt: skip
        return noised

    def charge_unknown(
        self,
        contents: bytes,
        statistic: bytes,
        rho: Fraction,
        campaign: CampaignId,
        round: int | None,  # noqa: A002
        *,
        delta: float,
    ) -> bool:
        """Charges for a gradient on chain that another copy of this ledger made, once; whether it was new.

        With a `round` each round is charged by itself. Without, a campaign is, and only if no charge for such a
        statistic is known.
        """
        with self._database.write():
            known = [charge for charge in self.charges(self._pool(contents)) if charge.statistic == statistic]
            if round is not None:
                known = [charge for charge in known if (charge.campaign, charge.round) == (campaign, round)]
            if known:
                return False
            self._charge(contents, statistic, rho, None, campaign, round)
            self.record("charged", {
                "datasets": self.members(self._pool(contents)), "statistic": statistic, "contents": contents,
                "campaign": campaign, "round": round,
                "reason": "a gradient on chain that this ledger does not know",
                **self._cost(self._pool(contents), rho, delta),
            })  # fmt: skip
        return True

    def _cost(self, pool: int, rho: Fraction, delta: float) -> dict[str, Any]:
        """A charge as the audit log tells it, exactly (rho) and as epsilon, with what the pool has come to."""
        return {
            "rho": str(rho), "epsilon": round(epsilon_of(rho, delta), 6), "delta": delta,
            "epsilon_in_all": round(epsilon_of(self.spent(pool), delta), 6),
        }  # fmt: skip

    def unknown_gradients(self) -> list[tuple[CampaignId, int]]:
        """Campaigns and rounds of this account's gradients that another copy of this ledger posted."""
        return [(CampaignId(row["campaign"]), int(row["round"])) for row in self._database.rows(
            "SELECT campaign, round FROM submissions WHERE dataset = '' ORDER BY rowid")]  # fmt: skip

    def check_audit(self) -> None:
        """As without privacy; and charges what the log tells of beyond a ledger that was put back."""
        with self._database.write():
            known = self.audit_head()
            super().check_audit()
            if self.audit_head() == known:
                return
            for entry in self.audit_entries():
                if entry.sequence > known.length and entry.kind in {"released", "charged"}:
                    self._charge_again(json.loads(entry.facts), entry.time / 1_000_000)

    def _charge_again(self, facts: dict[str, Any], at: float) -> None:
        """A charge that the log tells of; the statistic itself is lost, and so are the records' sketches."""
        contents, statistic = (bytes.fromhex(facts[name].removeprefix("0x")) for name in ("contents", "statistic"))
        if self._database.one("SELECT 1 FROM privacy_contents WHERE digest = ?", contents) is None:
            nothing = Contents(contents, 0, np.empty(0, np.uint64), ())
            for dataset in facts["datasets"]:
                self.recognise(nothing, dataset, f"the audit log, {dataset}")
        campaign = facts.get("campaign")
        self._charge(
            contents, statistic, Fraction(facts["rho"]), None,
            None if campaign is None else CampaignId(bytes.fromhex(campaign.removeprefix("0x"))), facts.get("round"),
            at=at,
        )  # fmt: skip

    def _sharing(self, contents: Contents) -> set[int]:
        """The pools with records that these contents have too."""
        return {
            row["pool"]
            for row in self._database.rows("SELECT * FROM privacy_contents")
            if share_records(contents, Contents.parse(row["digest"], row["records"], row["sketch"]))
        }

    def _pool(self, contents: bytes) -> int:
        row = self._database.one("SELECT pool FROM privacy_contents WHERE digest = ?", contents)
        assert row is not None, "contents are recognised before anything is made of them"
        return int(row["pool"])

    def _charge(
        self, contents: bytes, statistic: bytes, rho: Fraction, noised: bytes | None,
        campaign: CampaignId | None = None, round: int | None = None, *, at: float | None = None,  # noqa: A002
    ) -> None:  # fmt: skip
        self._database.execute(
            "INSERT INTO privacy_charges (contents, statistic, rho, time, noised, campaign, round) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            contents, statistic, str(rho), time.time() if at is None else at, noised, campaign, round,
        )  # fmt: skip
