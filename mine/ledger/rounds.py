"""Noised rounds of networks, in the ledger: charged before the first step, kept as they were made, never made twice.

A round is reserved, with its cost, before anything is trained. A stop then leaves a reservation under which nothing has
left the mine, so it is trained again at no further cost; once the gradient is there it is written down, before it is
used, and from then on it is that one which is sent.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

from mine.audit import AuditEntry
from mine.errors import LedgerError
from mine.ledger.releases import RESERVED, Releases
from sonar.units import CampaignId

__all__ = ["Rounds"]


class Rounds(Releases):
    """Charges for rounds; `key` is the digest of all that a round's gradient is made for."""

    def reserved(self, key: bytes) -> bool:
        """Whether a round is paid for, so that making its gradient, or sending it, costs no more."""
        return self._round(key) is not None

    def kept_gradient(self, key: bytes) -> bytes | None:
        """A round's gradient as it was made once; None where there is none yet."""
        return self._round(key) or None

    def reserve(
        self,
        contents: bytes,
        key: bytes,
        rho: Fraction,
        campaign: CampaignId,
        round: int,  # noqa: A002
        check: Callable[[Fraction], None],
        *,
        delta: float,
    ) -> bool:
        """Charges a round to the pool of these contents, once; whether it was charged now.

        `check` is told what the pool will have spent then, and raises to forbid it. `delta` is the owner's.
        """
        with self._database.write():
            if self.reserved(key):
                return False
            pool, _ = self._contents(contents)
            check(self.spent(pool) + rho)
            self._charge(contents, key, rho, RESERVED, campaign, round)
            self.record("released", {
                "datasets": self.members(pool), "statistic": key, "contents": contents, "campaign": campaign,
                "round": round, **self._cost(pool, rho, delta),
            })  # fmt: skip
        return True

    def keep_gradient(self, key: bytes, gradient: bytes) -> bytes:
        """Writes the gradient of a reserved round down, unless another one is there already; returns that which counts.

        Raises LedgerError for a round that is not reserved any more: an older ledger was put back meanwhile.
        """
        with self._database.write():
            self._database.execute(
                "UPDATE privacy_charges SET noised = ? WHERE statistic = ? AND noised = ?", gradient, key, RESERVED
            )
            found = self.kept_gradient(key)
        if found is None:
            raise LedgerError("the round that was trained is not reserved in the ledger any more: it is trained again")
        return found

    def _round(self, key: bytes) -> bytes | None:
        row = self._database.one("SELECT noised FROM privacy_charges WHERE statistic = ? AND noised IS NOT NULL", key)
        return None if row is None else bytes(row["noised"])

    def _learn(self, entries: Sequence[AuditEntry]) -> None:
        """A reservation in a ledger that was put back may have been used since: it stays charged, and is closed."""
        super()._learn(entries)
        self._database.execute("UPDATE privacy_charges SET noised = NULL WHERE noised = ?", RESERVED)
