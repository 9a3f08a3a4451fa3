"""Brings a database to the newest schema: revisions run by Alembic, each database upgraded when it is opened.

A database of a newer revision is refused, as is one of before revisions, and an older one that other processes serve:
they would not know the new tables.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, Inspector, inspect, text
from sqlalchemy.exc import DatabaseError

from capsule.errors import CapsuleHomeError
from capsule.state.engine import describe, reading, reason, unusable
from capsule.state.filelock import lock_file, try_lock
from capsule.state.tables import REVISION, metadata

__all__ = ["SERVING", "bring_up_to_date", "lock_number", "migrations"]

SERVING: Final = "serving"
"""The claim that every process shares that serves a database."""


def migrations() -> Path:
    """Where the revisions are."""
    return Path(__file__).parent / "migrations"


def lock_number(name: str) -> int:
    """The number of PostgreSQL's advisory lock with this name, a signed one of 64 bits."""
    return int.from_bytes(sha256(b"sonar capsule lock\0" + name.encode()).digest()[:8], "big", signed=True)


def bring_up_to_date(engine: Engine, *, migrate: bool = True, create: bool = True) -> None:
    """Upgrades the tables, or with `create` makes them; raises CapsuleHomeError for a database that cannot be used."""
    try:
        with reading(engine) as db:
            if _revision(db) == REVISION:
                return
        with engine.begin() as db:
            if engine.dialect.name == "postgresql":
                db.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": lock_number("migrating")})
                db.execute(text("SET LOCAL statement_timeout = 0"))  # a large table is changed as a whole
            found = _revision(db)  # perhaps another process was faster
            if found != REVISION:
                _check(db, describe(engine), found, migrate=migrate, create=create)
                _upgrade(db, describe(engine))
    except DatabaseError as error:
        raise unusable(engine, error) from error


def _revision(db: Connection) -> str | None:
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _check(db: Connection, where: str, found: str | None, *, migrate: bool, create: bool) -> None:
    if found is None:
        strangers = _tables(inspect(db)) - {"alembic_version"}
        if strangers & set(metadata.tables):
            raise CapsuleHomeError(
                f"{where} was made before databases had revisions, and cannot be upgraded: finish its campaigns with "
                "the version that made it, then make a Capsule anew"
            )
        if strangers:
            raise CapsuleHomeError(f"{where} holds somebody else's tables: give the Capsule a database of its own")
        if not create:
            raise CapsuleHomeError(f"{where} is an empty database: give that of a Capsule, or run `capsule init`")
        return
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(migrations())).walk_revisions()}
    if found not in known:
        raise CapsuleHomeError(
            f"{where} was made by a newer version of Sonar (revision {found}, this one knows {REVISION}): upgrade Sonar"
        )
    if not migrate:
        raise CapsuleHomeError(
            f"{where} is of an older version (revision {found}, not {REVISION}): `capsule serve` upgrades it"
        )
    if not _nobody_serves(db):
        raise CapsuleHomeError(f"{where} is served by an older version of Sonar: stop it, then start this one")


def _nobody_serves(db: Connection) -> bool:
    """Whether no other process does: on PostgreSQL until the transaction ends, on SQLite, which is locked, just now."""
    if db.dialect.name == "postgresql":
        free = db.execute(text("SELECT pg_try_advisory_xact_lock(:number)"), {"number": lock_number(SERVING)})
        return bool(free.scalar())
    lock = try_lock(lock_file(Path(str(db.engine.url.database))))
    if lock is not None:
        lock.close()
    return lock is not None


def _tables(inspector: Inspector) -> set[str]:
    return set(inspector.get_table_names())


def _upgrade(db: Connection, where: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = db
    try:
        command.upgrade(config, "head")
    except DatabaseError as error:
        raise CapsuleHomeError(
            f"{where} cannot be brought to revision {REVISION}, and stays as it is: {reason(error)}"
        ) from error
