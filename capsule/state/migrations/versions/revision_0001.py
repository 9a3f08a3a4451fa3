"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import sqlite

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME: sa.Double[float] = sa.Double().with_variant(sqlite.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "admissions",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("spec_digest", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.LargeBinary(), nullable=False),
        sa.Column("model_cid", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sealing_key", sa.LargeBinary(), nullable=False),
        sa.Column("start_score", NUMBER, autoincrement=False, nullable=False),
        sa.Column("oracle", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("valid_until", NUMBER, autoincrement=False, nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("validation", sa.LargeBinary(), nullable=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("delivered", TIME, nullable=True),
        sa.PrimaryKeyConstraint("campaign", name=op.f("pk_admissions")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_admissions_key"), "admissions", ["key"], unique=True)
    op.create_table(
        "audit",
        sa.Column("sequence", NUMBER, autoincrement=False, nullable=False),
        sa.Column("time", NUMBER, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
        sqlite_strict=True,
    )
    op.create_table(
        "audit_head",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("length", NUMBER, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
        sqlite_strict=True,
    )
    op.create_table(
        "blocks",
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_blocks")),
        sqlite_strict=True,
    )
    op.create_table(
        "boxes",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_boxes")),
        sqlite_strict=True,
    )
    op.create_table(
        "campaigns",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("block", NUMBER, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("over_block", NUMBER, autoincrement=False, nullable=True),
        sa.Column("ended", TIME, nullable=True),
        sa.PrimaryKeyConstraint("campaign", name=op.f("pk_campaigns")),
        sqlite_strict=True,
    )
    op.create_table(
        "denials",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("repeats", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "action", "code", name=op.f("pk_denials")),
        sqlite_strict=True,
    )
    op.create_table(
        "failures",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_failures")),
        sqlite_strict=True,
    )
    op.create_table(
        "held",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("round", NUMBER, autoincrement=False, nullable=True),
        sa.Column("holding", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("campaign", name=op.f("pk_held")),
        sqlite_strict=True,
    )
    op.create_table(
        "kept",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("round", NUMBER, autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("place", NUMBER, autoincrement=False, nullable=False),
        sa.Column("gradient", sa.LargeBinary(), nullable=True),
        sa.Column("cid", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("campaign", "round", "head", "place", name=op.f("pk_kept")),
        sqlite_strict=True,
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("modulus", sa.LargeBinary(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("campaign", sa.LargeBinary(), nullable=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("born", NUMBER, autoincrement=False, nullable=False),
        sa.Column("used", TIME, nullable=True),
        sa.Column("deleted", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_keys_owner_time"), "keys", ["owner", "time"], unique=False)
    op.create_index(op.f("ix_keys_use"), "keys", ["use"], unique=False)
    op.create_table(
        "nonces",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("expiry", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("account", "nonce", name=op.f("pk_nonces")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_nonces_expiry"), "nonces", ["expiry"], unique=False)
    op.create_table(
        "relays",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("round", NUMBER, autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", NUMBER, autoincrement=False, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("fee", sa.Text(), nullable=False),
        sa.Column("tip", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_relays")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_relays_state"), "relays", ["state"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("round", NUMBER, autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("settlement", sa.Text(), nullable=False),
        sa.Column("weights", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("base", sa.LargeBinary(), nullable=False),
        sa.Column("block", NUMBER, autoincrement=False, nullable=True),
        sa.Column("time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "round", "head", name=op.f("pk_rounds")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_rounds_state"), "rounds", ["state"], unique=False)
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
        sqlite_strict=True,
    )
    op.create_table(
        "submissions",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("round", NUMBER, autoincrement=False, nullable=False),
        sa.Column("place", NUMBER, autoincrement=False, nullable=False),
        sa.Column("mine", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("gradient", sa.LargeBinary(), nullable=False),
        sa.Column("cid", sa.Text(), nullable=False),
        sa.Column("block", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "round", "place", name=op.f("pk_submissions")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_submissions_campaign_gradient"), "submissions", ["campaign", "gradient"], unique=False)
    op.create_table(
        "versions",
        sa.Column("campaign", sa.LargeBinary(), nullable=False),
        sa.Column("version", NUMBER, autoincrement=False, nullable=False),
        sa.Column("score", NUMBER, autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.LargeBinary(), nullable=False),
        sa.Column("model_cid", sa.Text(), nullable=False),
        sa.Column("weights", sa.LargeBinary(), nullable=True),
        sa.Column("block", NUMBER, autoincrement=False, nullable=True),
        sa.PrimaryKeyConstraint("campaign", "version", name=op.f("pk_versions")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_versions_key"), "versions", ["key"], unique=False)
