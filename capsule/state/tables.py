"""The tables of the Capsule's database, and how SQLite is opened for them."""

from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Float, Integer, LargeBinary, MetaData, Table, Text, create_engine, event

metadata = MetaData()
settings = Table(
    "settings", metadata,
    Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False),
)  # fmt: skip
keys = Table(
    "keys", metadata,
    Column("id", LargeBinary, primary_key=True), Column("modulus", LargeBinary, nullable=False),
    Column("secret", LargeBinary, nullable=False), Column("use", Text, nullable=False, index=True),
    Column("owner", Text), Column("time", Float, nullable=False),
)  # fmt: skip
boxes = Table("boxes", metadata, Column("digest", LargeBinary, primary_key=True))
nonces = Table(
    "nonces", metadata,
    Column("account", Text, primary_key=True), Column("nonce", LargeBinary, primary_key=True),
    Column("expiry", Integer, nullable=False, index=True),
)  # fmt: skip
admissions = Table(
    "admissions", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("spec", LargeBinary, nullable=False),
    Column("spec_digest", LargeBinary, nullable=False), Column("model", LargeBinary, nullable=False),
    Column("model_cid", Text, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("sealing_key", LargeBinary, nullable=False), Column("start_score", Integer, nullable=False),
    Column("oracle", Text, nullable=False), Column("owner", Text, nullable=False),
    Column("valid_until", Integer, nullable=False), Column("signature", LargeBinary, nullable=False),
    Column("validation", LargeBinary, nullable=False),
)  # fmt: skip
versions = Table(
    "versions", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("version", Integer, primary_key=True),
    Column("score", Integer, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False), Column("model_cid", Text, nullable=False),
    Column("weights", LargeBinary, nullable=False),
)  # fmt: skip
campaigns = Table(
    "campaigns", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("block", Integer, nullable=False),
    Column("state", Text, nullable=False),
)  # fmt: skip
submissions = Table(
    "submissions", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("place", Integer, primary_key=True), Column("mine", Text, nullable=False),
    Column("artifact", LargeBinary, nullable=False), Column("gradient", LargeBinary, nullable=False),
    Column("cid", Text, nullable=False),
)  # fmt: skip
rounds = Table(
    "rounds", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("head", LargeBinary, nullable=False), Column("settlement", Text, nullable=False),
    Column("weights", LargeBinary), Column("state", Text, nullable=False),
)  # fmt: skip
kept = Table(
    "kept", metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("place", Integer, primary_key=True), Column("gradient", LargeBinary), Column("cid", Text),
    Column("digest", LargeBinary),
)  # fmt: skip


def open_database(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
