"""The ledger's tables: each part's own, joined to the one format that a file has."""

from mine.ledger import (
    approvals,
    audit,
    campaigns,
    datasets,
    matches,
    moments,
    prospects,
    quorums,
    releases,
    submissions,
    transactions,
    turns,
)  # fmt: skip

__all__ = ["TABLES", "VERSION"]

VERSION = 5
"""Raised whenever a table changes: files of other versions are left alone."""
TABLES = (
    datasets.TABLES,
    matches.TABLES,
    campaigns.TABLES,
    prospects.TABLES,
    submissions.TABLES,
    transactions.TABLES,
    moments.TABLES,
    releases.TABLES,
    approvals.TABLES,
    turns.TABLES,
    quorums.TABLES,
    audit.TABLES,
)
