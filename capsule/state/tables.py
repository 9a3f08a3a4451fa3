"""The tables of the Capsule's database. A change here needs a revision in `migrations`, and a test compares the two."""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import sqlite

REVISION: Final = "0001"
"""The newest revision in `migrations`, told without loading Alembic."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NUMBER: Final = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME: Final[Double[float]] = Double().with_variant(sqlite.REAL(), "sqlite")
"""Whole numbers and moments, by the names that SQLite's strict tables have for them."""


def _number(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    """Counts, blocks and times in whole seconds: 64 bits, because 32 end in 2038. The database never chooses one."""
    return Column(name, NUMBER, primary_key=primary_key, nullable=nullable, autoincrement=False)


def _table(name: str, *columns: Column[Any]) -> Table:
    """In SQLite a strict one, whose values are of their columns' types: bytes are never text of the same digits."""
    return Table(name, metadata, *columns, sqlite_strict=True)


settings = _table(
    "settings", Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False),
)  # fmt: skip
# `secret` is null once it was deleted: the row stays, so that nobody is told that the key never was. `born` is how long
# the audit log was before anything could be told of the key, `used` when an admission used it up.
keys = _table(
    "keys",
    Column("id", LargeBinary, primary_key=True), Column("modulus", LargeBinary, nullable=False),
    Column("secret", LargeBinary), Column("use", Text, nullable=False, index=True),
    Column("owner", Text), Column("campaign", LargeBinary), Column("time", TIME, nullable=False),
    _number("born"), Column("used", TIME), Column("deleted", TIME),
)  # fmt: skip
Index(None, keys.c.owner, keys.c.time)
boxes = _table("boxes", Column("digest", LargeBinary, primary_key=True))
# `since` is when the first of `number` failed; an hour later they are forgotten.
failures = _table(
    "failures",
    Column("account", Text, primary_key=True), Column("since", TIME, nullable=False), _number("number"),
)  # fmt: skip
nonces = _table(
    "nonces",
    Column("account", Text, primary_key=True), Column("nonce", LargeBinary, primary_key=True),
    Column("expiry", NUMBER, nullable=False, index=True),
)  # fmt: skip
admissions = _table(
    "admissions",
    Column("campaign", LargeBinary, primary_key=True), Column("spec", LargeBinary, nullable=False),
    Column("spec_digest", LargeBinary, nullable=False), Column("model", LargeBinary, nullable=False),
    Column("model_cid", Text, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("sealing_key", LargeBinary, nullable=False), _number("start_score"),
    Column("oracle", Text, nullable=False), Column("owner", Text, nullable=False),
    _number("valid_until"), Column("signature", LargeBinary, nullable=False),
    Column("validation", LargeBinary), Column("time", TIME, nullable=False), Column("delivered", TIME),
)  # fmt: skip
# A key admits one model, whatever `keys` says of it.
Index(None, admissions.c.key, unique=True)
# `block` is where the chain told it, null for version 0, which the admission made.
versions = _table(
    "versions",
    Column("campaign", LargeBinary, primary_key=True), _number("version", primary_key=True),
    _number("score"), Column("key", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False), Column("model_cid", Text, nullable=False),
    Column("weights", LargeBinary), _number("block", nullable=True),
)  # fmt: skip
Index(None, versions.c.key)
campaigns = _table(
    "campaigns",
    Column("campaign", LargeBinary, primary_key=True), _number("block"), Column("state", Text, nullable=False),
    _number("over_block", nullable=True), Column("ended", TIME),
)  # fmt: skip
submissions = _table(
    "submissions",
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    _number("place", primary_key=True), Column("mine", Text, nullable=False),
    Column("artifact", LargeBinary, nullable=False), Column("gradient", LargeBinary, nullable=False),
    Column("cid", Text, nullable=False), _number("block"),
)  # fmt: skip
Index(None, submissions.c.campaign, submissions.c.gradient)
# The head is in the key: a history that changed gives a round another one, and each is signed once and never again.
# `base` is the key of the version that it was judged on, which a head does not tell.
rounds = _table(
    "rounds",
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    Column("head", LargeBinary, primary_key=True), Column("settlement", Text, nullable=False),
    Column("weights", LargeBinary), Column("state", Text, nullable=False, index=True),
    Column("base", LargeBinary, nullable=False),
    _number("block", nullable=True), Column("time", TIME, nullable=False),
)  # fmt: skip
kept = _table(
    "kept",
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    Column("head", LargeBinary, primary_key=True), _number("place", primary_key=True),
    Column("gradient", LargeBinary), Column("cid", Text), Column("digest", LargeBinary),
)  # fmt: skip
blocks = _table("blocks", _number("number", primary_key=True), Column("hash", LargeBinary, nullable=False))
# Amounts of wei are text: a node may name any number.
relays = _table(
    "relays",
    Column("hash", LargeBinary, primary_key=True), Column("campaign", LargeBinary, nullable=False),
    _number("round"), Column("head", LargeBinary, nullable=False), _number("nonce"),
    Column("raw", LargeBinary, nullable=False), Column("fee", Text, nullable=False),
    Column("tip", Text, nullable=False), Column("state", Text, nullable=False, index=True),
    Column("time", TIME, nullable=False),
)  # fmt: skip
# What a restored database may not sign again. `since` is when it was restored, `round` the last that may have been
# signed, null until the chain was seen after that, `holding` whether that round waits for the chain or the operator.
held = _table(
    "held", Column("campaign", LargeBinary, primary_key=True), Column("since", TIME, nullable=False),
    _number("round", nullable=True), _number("holding"),
)  # fmt: skip
audit = _table(
    "audit",
    _number("sequence", primary_key=True), _number("time"), Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False), Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)  # fmt: skip
audit_head = _table(
    "audit_head",
    _number("id", primary_key=True), _number("length"), Column("hash", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)  # fmt: skip
denials = _table(
    "denials",
    Column("account", Text, primary_key=True), Column("action", Text, primary_key=True),
    Column("code", Text, primary_key=True), Column("since", TIME, nullable=False), _number("repeats"),
)  # fmt: skip
