"""The tables of the Capsule's database. A change here needs a revision in `migrations`, and a test compares the two."""

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, MetaData, Table, Text

REVISION: Final = "0001"
"""The newest revision in `migrations`, told without loading Alembic."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _number(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    """Counts, blocks and times in whole seconds: 64 bits, because 32 end in 2038. The database never chooses one."""
    return Column(name, BigInteger, primary_key=primary_key, nullable=nullable, autoincrement=False)


settings = Table(
    "settings", metadata,
    Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False),
)  # fmt: skip
# `secret` is null once it was deleted: the row stays, so that nobody is told that the key never was.
keys = Table(
    "keys", metadata,
    Column("id", LargeBinary, primary_key=True), Column("modulus", LargeBinary, nullable=False),
    Column("secret", LargeBinary), Column("use", Text, nullable=False, index=True),
    Column("owner", Text), Column("campaign", LargeBinary), Column("time", Double, nullable=False),
    Column("deleted", Double),
)  # fmt: skip
Index(None, keys.c.owner, keys.c.time)
boxes = Table("boxes", metadata, Column("digest", LargeBinary, primary_key=True))
# `since` is when the first of `number` failed; an hour later they are forgotten.
failures = Table(
    "failures", metadata,
    Column("account", Text, primary_key=True), Column("since", Double, nullable=False), _number("number"),
)  # fmt: skip
nonces = Table(
    "nonces", metadata,
    Column("account", Text, primary_key=True), Column("nonce", LargeBinary, primary_key=True),
    Column("expiry", BigInteger, nullable=False, index=True),
)  # fmt: skip
admissions = Table(
    "admissions", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("spec", LargeBinary, nullable=False),
    Column("spec_digest", LargeBinary, nullable=False), Column("model", LargeBinary, nullable=False),
    Column("model_cid", Text, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("sealing_key", LargeBinary, nullable=False), _number("start_score"),
    Column("oracle", Text, nullable=False), Column("owner", Text, nullable=False),
    _number("valid_until"), Column("signature", LargeBinary, nullable=False),
    Column("validation", LargeBinary), Column("time", Double, nullable=False),
)  # fmt: skip
# A key admits one model, whatever `keys` says of it.
Index(None, admissions.c.key, unique=True)
# `block` is where the chain told it, null for version 0, which the admission made.
versions = Table(
    "versions", metadata,
    Column("campaign", LargeBinary, primary_key=True), _number("version", primary_key=True),
    _number("score"), Column("key", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False), Column("model_cid", Text, nullable=False),
    Column("weights", LargeBinary), _number("block", nullable=True),
)  # fmt: skip
Index(None, versions.c.key)
campaigns = Table(
    "campaigns", metadata,
    Column("campaign", LargeBinary, primary_key=True), _number("block"), Column("state", Text, nullable=False),
    _number("over_block", nullable=True), Column("ended", Double), Column("delivered", Double),
)  # fmt: skip
submissions = Table(
    "submissions", metadata,
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    _number("place", primary_key=True), Column("mine", Text, nullable=False),
    Column("artifact", LargeBinary, nullable=False), Column("gradient", LargeBinary, nullable=False),
    Column("cid", Text, nullable=False), _number("block"),
)  # fmt: skip
Index(None, submissions.c.campaign, submissions.c.gradient)
# The head is in the key: a history that changed gives a round another one, and each is signed once and never again.
# `base` is the key of the version that it was judged on, which a head does not tell.
rounds = Table(
    "rounds", metadata,
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    Column("head", LargeBinary, primary_key=True), Column("settlement", Text, nullable=False),
    Column("weights", LargeBinary), Column("state", Text, nullable=False, index=True),
    Column("base", LargeBinary, nullable=False),
    _number("block", nullable=True), Column("time", Double, nullable=False),
)  # fmt: skip
kept = Table(
    "kept", metadata,
    Column("campaign", LargeBinary, primary_key=True), _number("round", primary_key=True),
    Column("head", LargeBinary, primary_key=True), _number("place", primary_key=True),
    Column("gradient", LargeBinary), Column("cid", Text), Column("digest", LargeBinary),
)  # fmt: skip
blocks = Table("blocks", metadata, _number("number", primary_key=True), Column("hash", LargeBinary, nullable=False))
# Amounts of wei are text: a node may name any number.
relays = Table(
    "relays", metadata,
    Column("hash", LargeBinary, primary_key=True), Column("campaign", LargeBinary, nullable=False),
    _number("round"), Column("head", LargeBinary, nullable=False), _number("nonce"),
    Column("raw", LargeBinary, nullable=False), Column("fee", Text, nullable=False),
    Column("tip", Text, nullable=False), Column("state", Text, nullable=False, index=True),
    Column("time", Double, nullable=False),
)  # fmt: skip
audit = Table(
    "audit", metadata,
    _number("sequence", primary_key=True), _number("time"), Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False), Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)  # fmt: skip
audit_head = Table(
    "audit_head", metadata,
    _number("id", primary_key=True), _number("length"), Column("hash", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)  # fmt: skip
denials = Table(
    "denials", metadata,
    Column("account", Text, primary_key=True), Column("action", Text, primary_key=True),
    Column("code", Text, primary_key=True), Column("since", Double, nullable=False), _number("repeats"),
)  # fmt: skip
