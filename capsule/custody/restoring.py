"""Restoring: a backup into an empty home or database, all of it or nothing, and what the new Capsule may not do.

What happened after the backup is lost, but others saw it. So a restored Capsule holds back what it may have done:

- keys that were spare are lost: they may be under a model by now, and a key is used once;
- keys that were issued cannot admit any more: a second admission under one would be a decryption oracle;
- a round that was closed at the restore, as the chain is seen to have been later, and is not signed in the backup, is
  not signed again (`capsule.custody.quarantine`).

None of this is needed where the Capsule was stopped before the backup and never started since: that is a move.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import Connection, Table, func, insert, make_url, select, update

from capsule.custody.backup import Manifest
from capsule.custody.quarantine import hold
from capsule.custody.rotation import alone
from capsule.custody.rows import Value, read_rows, read_text
from capsule.errors import CapsuleHomeError
from capsule.secret import CapsuleSecretError, Record, Vault, WrongPassphraseError
from capsule.secret.stream import SealedReader
from capsule.state import State
from capsule.state import tables as t
from capsule.state.holding import moment
from capsule.state.verifying import verify_view
from sonar.units import CampaignId
from sonar.wallet import decrypt_keystore

__all__ = ["restore"]

_MOST_ROWS: Final = 500
_MOST_BYTES: Final = 1 << 20


def restore(
    file: Path, backup_passphrase: str, passphrase: str, target: Path | str, *, moved: bool = False
) -> Manifest:
    """Restores a backup into a new SQLite file or an empty database; `passphrase` is the Capsule's own.

    Everything is checked before anything can be seen: the file's seal up to its end, the number of rows, the
    passphrase, the audit log. Raises CapsuleHomeError where the target is not empty or the backup of another version,
    CapsuleSecretError for a damaged file or a wrong passphrase, and AuditLogError.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CapsuleHomeError(f"the backup {file} cannot be read: {error.strerror}") from error
    with stream, _naming(file):
        reader = _opened(stream, backup_passphrase, passphrase)
        manifest = Manifest.from_text(read_text(reader))
        with _empty_database(target) as state, alone(state), state.transaction() as db:
            _check_empty(state, db)
            for table in t.metadata.sorted_tables:
                _read_table(db, table, reader)
            reader.finish()
            _check(state, db, manifest, passphrase)
            now = state.audit.now()
            if not moved:
                _hold_back(db, now)
            body = {"made": manifest.made, "length": manifest.audit_length, "head": manifest.audit_hash, "moved": moved}
            state.audit.append(db, "restore", {**body, "since": moment(now)})
    return manifest


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Says which file it is that cannot be restored."""
    try:
        yield
    except CapsuleSecretError as error:
        raise CapsuleSecretError(f"{file} cannot be restored: {error}") from error


def _opened(stream: BinaryIO, backup_passphrase: str, passphrase: str) -> SealedReader:
    try:
        return SealedReader(stream, backup_passphrase)
    except WrongPassphraseError as error:
        if backup_passphrase != passphrase:
            raise
        raise WrongPassphraseError(
            "the Capsule's passphrase does not open this backup: give the backup's own with --backup-passphrase-file"
        ) from error


@contextmanager
def _empty_database(target: Path | str) -> Iterator[State]:
    """A database to fill: a SQLite file gets its name when it is complete, PostgreSQL is filled in one transaction."""
    if isinstance(target, str) and make_url(target).get_backend_name() != "sqlite":
        state = State(target)
        try:
            yield state
        finally:
            state.close()
        return
    path = target if isinstance(target, Path) else Path(make_url(target).database or "")
    if path.exists():
        raise CapsuleHomeError(f"{path} exists: a restore never overwrites, choose an empty home")
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        state = State(part)
        try:
            yield state
        finally:
            state.close()
        _complete(part)
        os.link(part, path)  # unlike a rename it overwrites nothing
        _keep(path.parent)
    except OSError as error:
        raise CapsuleHomeError(f"{path} cannot be made: {error.strerror}") from error
    finally:
        for suffix in ("", "-wal", "-shm", ".lock"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def _complete(part: Path) -> None:
    """Has all of a SQLite database in its one file, on disk; raises CapsuleHomeError where it cannot be.

    A commit is in the write-ahead log at first, and SQLite says nothing if it cannot carry it over as it closes.
    """
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as db:
            (mode,) = db.execute("PRAGMA journal_mode=DELETE").fetchone()
            (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise CapsuleHomeError(f"the restored database cannot be written out ({error}): is the disk full?") from error
    if mode != "delete" or found != "ok":
        raise CapsuleHomeError(f"the restored database is not whole ({found}): restore it on another disk")
    _keep(part)


def _keep(path: Path) -> None:
    """Has a file or a directory on disk before anybody is told of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_empty(state: State, db: Connection) -> None:
    for table in t.metadata.sorted_tables:
        if db.execute(select(func.count()).select_from(table)).scalar_one():
            raise CapsuleHomeError(f"{state.where} is not empty: a restore never overwrites, give an empty database")


def _read_table(db: Connection, table: Table, reader: SealedReader) -> None:
    names = [column.name for column in table.columns]
    batch: list[dict[str, Value]] = []
    size = 0
    for row in read_rows(reader, len(names)):
        batch.append(dict(zip(names, row, strict=True)))
        size += sum(len(value) for value in row if isinstance(value, bytes | str))
        if len(batch) >= _MOST_ROWS or size >= _MOST_BYTES:
            db.execute(insert(table), batch)
            batch, size = [], 0
    if batch:
        db.execute(insert(table), batch)


def _check(state: State, db: Connection, manifest: Manifest, passphrase: str) -> None:
    """Raises unless the rows are those of the manifest, the passphrase opens them, and the audit log holds."""
    for table in t.metadata.sorted_tables:
        count = db.execute(select(func.count()).select_from(table)).scalar_one()
        if count != manifest.rows[table.name]:
            expected = manifest.rows[table.name]
            raise CapsuleHomeError(f"the backup has {count} rows of {table.name} instead of {expected}: use another")
    values = {row.name: bytes(row.value) for row in db.execute(select(t.settings))}
    try:
        vault = Vault(passphrase, values["vault"])
    except WrongPassphraseError as error:
        raise WrongPassphraseError(
            "the backup opens, but the Capsule in it had another passphrase when it was made: give that one with "
            "--passphrase-file or SONAR_CAPSULE_PASSPHRASE"
        ) from error
    vault.open(values["sealing"], Record.SEALING_KEY)
    decrypt_keystore(values["attester"].decode("ascii", "replace"), passphrase, "in the backup")
    state.audit.unlock(vault.open(values["audit"], Record.AUDIT_KEY))
    head = verify_view(db, state.audit)
    if (head.length, head.hash.hex()) != (manifest.audit_length, manifest.audit_hash):
        raise CapsuleHomeError("the backup's audit log is not the one that its manifest names")


def _hold_back(db: Connection, now: float) -> None:
    gone = {"secret": None, "deleted": now}
    db.execute(update(t.keys).where(t.keys.c.use == "spare").values(use="lost", **gone))
    db.execute(update(t.keys).where(t.keys.c.use == "issued").values(use="used", used=now, **gone))
    # Those that were over as well: the chain may take an end back.
    hold(db, [CampaignId(campaign) for campaign in db.execute(select(t.admissions.c.campaign)).scalars()], now)
