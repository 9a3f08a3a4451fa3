"""What noised statistics cost, in the ledger: what was spent on the data of a pool, what was released, what was not.

A statistic is written here with its cost in one transaction, before anything made of it leaves; a later stop therefore
neither forgets a cost nor pays one twice.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from sqlite3 import Row
from typing import Any

import numpy as np

from mine.audit import AuditEntry
from mine.audit.facts import CHARGES, ChargeFacts
from mine.ledger import pools
from mine.ledger.pools import Pools
from mine.privacy.accountant import epsilon_of
from mine.privacy.sketch import Contents, share_records
from mine.records import State
from sonar.units import CampaignId, digest_of

__all__ = ["RESERVED", "TABLES", "Charge", "Releases"]

TABLES = (
    pools.TABLES
    + """;
CREATE TABLE privacy_charges (
    id INTEGER PRIMARY KEY, contents BLOB NOT NULL, statistic BLOB NOT NULL, rho TEXT NOT NULL, time REAL NOT NULL,
    noised BLOB, campaign BLOB, round INTEGER
);
CREATE UNIQUE INDEX privacy_statistics ON privacy_charges (contents, statistic) WHERE noised IS NOT NULL;
CREATE TABLE privacy_plain (
    campaign BLOB NOT NULL, round INTEGER NOT NULL, dataset TEXT NOT NULL, PRIMARY KEY (campaign, round)
)
"""
)
_ALIKE = 1.25
"""How many times as many records data may have that one statistic serves."""
RESERVED = b""
"""In the place of a network's gradient that is paid for and not there yet."""
_GONE = (State.SIGNED, State.SENT, State.SETTLED, State.PAID, State.EXPIRED)
"""The states of gradients that others may have read."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What was spent once: on a statistic, on a round of a network, or for an unknown gradient of `campaign`.

    `time` in seconds since 1970, `rho` in zCDP, `statistic` the digest of what was asked for; `own` says that this
    ledger knows what it was spent on.
    """

    time: float
    rho: Fraction
    statistic: bytes
    campaign: CampaignId | None = None
    round: int | None = None
    own: bool = True


class Releases(Pools):
    """Every charge, and every gradient that was sent without noise."""

    def charges(self, pool: int) -> list[Charge]:
        """All that was spent in a pool, in order."""
        rows = self._database.rows(
            "SELECT c.* FROM privacy_charges c JOIN privacy_contents ON contents = digest WHERE pool = ? ORDER BY id",
            pool,
        )
        return [
            Charge(
                row["time"], Fraction(row["rho"]), bytes(row["statistic"]), row["campaign"], row["round"],
                row["campaign"] is None or row["noised"] is not None,
            )
            for row in rows
        ]  # fmt: skip

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

    def serving(self, contents: Contents, statistic: bytes) -> bytes | None:
        """The last noised statistic of a kind that may serve contents which were recognised, though not made of them.

        It was made of some of the same records: of the data set of that name before it changed, or of another with
        about as many records, since a small part of a data set does not stand for all of it.
        """
        pool, _ = self._contents(contents.digest)
        names = self._names(contents.digest)
        for row in self._database.rows(
            "SELECT noised, contents FROM privacy_charges JOIN privacy_contents ON contents = digest "
            "WHERE pool = ? AND statistic = ? AND noised IS NOT NULL ORDER BY id DESC", pool, statistic
        ):  # fmt: skip
            _, other = self._contents(row["contents"])
            if (_alike(contents, other) or names & self._names(other.digest)) and share_records(contents, other):
                return bytes(row["noised"])
        return None

    def _is_taken_for(self, contents: Contents, digest: bytes) -> bool:
        """Whether other contents are those of the same data set at another time, or of a copy that would be served."""
        if digest == contents.digest or self._names(contents.digest) & self._names(digest):
            return True
        _, other = self._contents(digest)
        return _alike(contents, other) and share_records(contents, other)

    def serves(self, dataset: str, statistic: bytes) -> bool:
        """Whether a statistic of a kind was released that serves a data set as it was when it was last looked at."""
        contents = self.last_contents(dataset)
        return contents is not None and self.serving(contents, statistic) is not None

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
            pool, _ = self._contents(contents)
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

        With a `round` each round is charged by itself, unless this ledger has paid for that gradient; what it has paid
        for and not made may be it, and is not made any more. Without, a campaign is, whatever its statistic is taken to
        be, and only if no charge accounts for it: one for the same campaign, or one for such a statistic, of this data
        set or of one that it could have been taken for. Another data set of the same pool is charged for itself, since
        what was posted may be made of both.
        """
        with self._database.write():
            pool, found = self._contents(contents)
            rows = self._database.rows(
                "SELECT id, contents, statistic, campaign, round, noised FROM privacy_charges "
                "JOIN privacy_contents ON contents = digest WHERE pool = ?", pool,
            )  # fmt: skip
            taken = {digest for digest in {row["contents"] for row in rows} if self._is_taken_for(found, digest)}
            known = [row for row in rows if row["contents"] in taken]
            if round is not None:
                accounted = self._have_paid(
                    [row for row in known if (row["campaign"], row["round"]) == (campaign, round)], campaign, round
                )
            else:
                accounted = any(
                    row["campaign"] == campaign or (row["statistic"], row["contents"]) == (statistic, contents)
                    for row in known
                )
                accounted = accounted or self.serving(found, statistic) is not None
            if accounted:
                return False
            self._charge(contents, statistic, rho, None, campaign, round)
            self.record("charged", {
                "datasets": self.members(pool), "statistic": statistic, "contents": contents,
                "campaign": campaign, "round": round,
                "reason": "a gradient on chain that this ledger does not know",
                **self._cost(pool, rho, delta),
            })  # fmt: skip
        return True

    def _have_paid(self, charges: Sequence[Row], campaign: CampaignId, round: int) -> bool:  # noqa: A002
        """Whether one of a round's charges is for this account's gradient in it; of what was not made none is made."""
        for charge in charges:
            if charge["noised"] == RESERVED:
                self._database.execute("UPDATE privacy_charges SET noised = NULL WHERE id = ?", charge["id"])
        row = self._database.one("SELECT gradient FROM submissions WHERE campaign = ? AND round = ?", campaign, round)
        return any(
            row is None or not charge["noised"] or digest_of(charge["noised"]) == row["gradient"] for charge in charges
        )

    def unknown_gradients(self) -> list[tuple[CampaignId, int]]:
        """Campaigns and rounds of this account's gradients that another copy of this ledger posted."""
        return [(CampaignId(row["campaign"]), int(row["round"])) for row in self._database.rows(
            "SELECT campaign, round FROM submissions WHERE dataset = '' ORDER BY rowid")]  # fmt: skip

    def note_plain(self, campaign: CampaignId, round: int, dataset: str) -> None:  # noqa: A002
        """Writes down that a gradient of a round is made of sums without noise, before anything of it is stored."""
        with self._database.write():
            self._database.execute("INSERT OR REPLACE INTO privacy_plain VALUES (?, ?, ?)", campaign, round, dataset)

    def plain_gradients(self) -> list[tuple[str, CampaignId, int]]:
        """Data sets and campaigns with the number of gradients that were sent, or signed, without noise."""
        rows = self._database.rows(
            "SELECT p.dataset, p.campaign, s.state FROM privacy_plain p JOIN submissions s "
            "ON s.campaign = p.campaign AND s.round = p.round ORDER BY p.dataset, p.rowid"
        )
        counts = Counter((row["dataset"], CampaignId(row["campaign"])) for row in rows if row["state"] in _GONE)
        return [(dataset, campaign, count) for (dataset, campaign), count in counts.items()]

    def _cost(self, pool: int, rho: Fraction, delta: float) -> dict[str, Any]:
        """A charge as the audit log tells it, exactly (rho) and as epsilon, with what the pool has come to."""
        return {
            "rho": str(rho), "epsilon": round(epsilon_of(rho, delta), 6), "delta": delta,
            "epsilon_in_all": round(epsilon_of(self.spent(pool), delta), 6),
        }  # fmt: skip

    def _learn(self, entries: Sequence[AuditEntry]) -> None:
        """Charges that the log tells of beyond a ledger that was put back are charged again."""
        super()._learn(entries)  # the places first: whose budget it was shows in them as well
        for entry in entries:
            if entry.kind in CHARGES:
                self._charge_again(ChargeFacts.of(entry), entry.time / 1_000_000)

    def _charge_again(self, facts: ChargeFacts, at: float) -> None:
        """A charge that the log tells of; the statistic itself is lost, and so are the records' sketches."""
        contents = facts.digest(facts.contents)
        nothing = Contents(contents, 0, np.empty(0, np.uint64), ())
        for dataset in facts.datasets:
            row = self._database.one("SELECT pool FROM privacy_contents WHERE digest = ?", contents)
            if row is None or self.pool_of(dataset) != row["pool"]:
                self.recognise(nothing, dataset, ())
        self._charge(
            contents, facts.digest(facts.statistic), facts.cost, None,
            None if facts.campaign is None else CampaignId(facts.digest(facts.campaign)), facts.round, at=at,
        )  # fmt: skip

    def _charge(
        self, contents: bytes, statistic: bytes, rho: Fraction, noised: bytes | None,
        campaign: CampaignId | None = None, round: int | None = None, *, at: float | None = None,  # noqa: A002
    ) -> None:  # fmt: skip
        self._database.execute(
            "INSERT INTO privacy_charges (contents, statistic, rho, time, noised, campaign, round) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            contents, statistic, str(rho), time.time() if at is None else at, noised, campaign, round,
        )  # fmt: skip


def _alike(one: Contents, other: Contents) -> bool:
    """Whether two data sets have about as many records."""
    return one.records / _ALIKE <= other.records <= one.records * _ALIKE
