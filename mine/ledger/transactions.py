"""Every transaction that this mine signed, written down before it is sent, and what became of it."""

import sqlite3

from mine.ledger.database import Part
from mine.records import Aim, Fate, Purpose, Transaction
from sonar.units import Address, CampaignId, Wei

__all__ = ["TABLES", "Transactions"]

TABLES = """
CREATE TABLE transactions (
    hash BLOB NOT NULL, deployment TEXT NOT NULL, purpose TEXT NOT NULL, campaign BLOB NOT NULL, round INTEGER NOT NULL,
    token TEXT NOT NULL, nonce INTEGER NOT NULL, raw BLOB NOT NULL, time REAL NOT NULL, fate TEXT NOT NULL,
    block INTEGER, gas_used INTEGER, gas_price TEXT, PRIMARY KEY (deployment, hash)
);
CREATE INDEX transactions_by_fate ON transactions (deployment, fate)
"""


class Transactions(Part):
    """Transactions of one account, by deployment and aim; of those with one nonce the latest offers the most."""

    def transactions(self, deployment: str, *fates: Fate, aim: Aim | None = None) -> list[Transaction]:
        """Transactions in the order of their signing; only those with one of `fates`, and for `aim`, if given."""
        wanted = fates or tuple(Fate)
        query = f"SELECT * FROM transactions WHERE deployment = ? AND fate IN ({', '.join('?' * len(wanted))})"  # noqa: S608
        values: list[object] = [deployment, *wanted]
        if aim is not None:
            query += " AND purpose = ? AND campaign = ? AND round = ? AND token = ?"
            values += [aim.purpose, aim.campaign, aim.round, aim.token]
        return [_transaction_of(row) for row in self._database.rows(f"{query} ORDER BY rowid", *values)]

    def intend(self, deployment: str, transaction: Transaction) -> None:
        """Writes down a signed transaction that is about to be sent."""
        aim = transaction.aim
        with self._database.write():
            self._database.execute(
                "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
                transaction.hash, deployment, aim.purpose, aim.campaign, aim.round, aim.token, transaction.nonce,
                transaction.raw, transaction.time, Fate.SIGNED,
            )  # fmt: skip

    def mined(
        self, deployment: str, transaction: Transaction, *, succeeded: bool, block: int, gas_used: int, gas_price: Wei
    ) -> None:
        """Writes down that a transaction is in a block and what it cost; the others with its nonce never will be."""
        with self._database.write():
            self._database.execute(
                "UPDATE transactions SET fate = ? WHERE deployment = ? AND nonce = ? AND hash != ? AND fate = ?",
                Fate.REPLACED, deployment, transaction.nonce, transaction.hash, Fate.SIGNED,
            )  # fmt: skip
            self._database.execute(
                "UPDATE transactions SET fate = ?, block = ?, gas_used = ?, gas_price = ? "
                "WHERE deployment = ? AND hash = ?",
                Fate.MINED if succeeded else Fate.REVERTED, block, gas_used, str(gas_price), deployment,
                transaction.hash,
            )  # fmt: skip

    def change_fate(self, deployment: str, transaction: Transaction, fate: Fate) -> None:
        """Writes down that a transaction will never be mined, or that its block was taken back."""
        with self._database.write():
            self._database.execute(
                "UPDATE transactions SET fate = ? WHERE deployment = ? AND hash = ?",
                fate, deployment, transaction.hash,
            )  # fmt: skip


def _transaction_of(row: sqlite3.Row) -> Transaction:
    return Transaction(
        hash=row["hash"],
        aim=Aim(Purpose(row["purpose"]), CampaignId(row["campaign"]), row["round"], Address(row["token"])),
        nonce=row["nonce"],
        raw=row["raw"],
        time=row["time"],
        fate=Fate(row["fate"]),
        block=row["block"],
        gas_used=row["gas_used"],
        gas_price=None if row["gas_price"] is None else Wei(int(row["gas_price"])),
    )
