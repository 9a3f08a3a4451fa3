"""Backups: one consistent view of a whole database in one sealed file, whatever goes on meanwhile.

    plaintext = manifest || the tables in its order, rows as in `capsule.custody.rows`

The manifest is canonical JSON: the schema's revision, each table's columns and number of rows, the head of the audit
log, the attesting account. Records in the rows stay sealed under the Capsule's own passphrase, so who has the backup's
passphrase alone learns what is public and when, but no key, no weight and no validation set.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, func, select

from capsule.custody.rows import end_table, write_row, write_text
from capsule.errors import CapsuleHomeError
from capsule.secret.stream import SealedWriter
from capsule.secret.stretching import MODERATE
from capsule.state import State
from capsule.state import tables as t
from sonar import canonical

__all__ = ["Manifest", "back_up"]

_FORMAT: Final = 1
_FEW_ROWS: Final = {"admissions": 1, "kept": 4, "rounds": 4, "versions": 4}
"""How many rows of a table with large values are in memory at once."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `made` in whole seconds since 1970; `columns` and `rows` by table, in the order of both."""

    revision: str
    made: int
    version: str
    address: str
    audit_length: int
    audit_hash: str
    columns: dict[str, list[str]]
    rows: dict[str, int]
    format: int = _FORMAT

    def to_text(self) -> str:
        """Canonical JSON."""
        return canonical.dumps(asdict(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> "Manifest":
        """What `to_text` wrote; raises CapsuleHomeError for a backup of another version."""
        try:
            fields: dict[str, Any] = json.loads(text)
            manifest = cls(**fields)
        except (ValueError, TypeError) as error:
            raise CapsuleHomeError("the backup is of another version of Sonar: restore it with that one") from error
        expected = {table.name: [column.name for column in table.columns] for table in t.metadata.sorted_tables}
        if (manifest.format, manifest.revision, manifest.columns) != (_FORMAT, t.REVISION, expected):
            raise CapsuleHomeError(
                f"the backup is of Sonar {manifest.version} (revision {manifest.revision}, this one has {t.REVISION}): "
                "restore it with that version, then upgrade"
            )
        return manifest


def back_up(state: State, file: Path, passphrase: str, *, cost: tuple[int, int] = MODERATE) -> Manifest:
    """Writes a backup of the whole database to a new file, mode 0600, while the Capsule may go on serving.

    Raises CapsuleHomeError where the file exists, or the database holds no Capsule. An interrupted backup leaves at
    most a hidden file that ends in `.part`.
    """
    if file.exists():
        raise CapsuleHomeError(f"{file} exists: a backup never overwrites, give another name")
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            writer = SealedWriter(stream, passphrase, cost=cost)
            with state.snapshot() as db:
                manifest = _describe(state, db)
                write_text(writer.write, manifest.to_text())
                for table in t.metadata.sorted_tables:
                    _write_table(db, table, writer)
            writer.finish()
            stream.flush()
            os.fsync(stream.fileno())
        os.link(part, file)  # unlike a rename it overwrites nothing
    except OSError as error:
        raise CapsuleHomeError(f"the backup {file} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


def _describe(state: State, db: Connection) -> Manifest:
    keystore = db.execute(select(t.settings.c.value).where(t.settings.c.name == "attester")).scalar()
    head = db.execute(select(t.audit_head.c.length, t.audit_head.c.hash)).one_or_none()
    if keystore is None or head is None:
        raise CapsuleHomeError(f"{state.where} holds no Capsule: run `capsule init` first, or give another --database")
    tables = t.metadata.sorted_tables
    return Manifest(
        revision=t.REVISION,
        made=int(state.audit.now()),
        version=package_version("sonar-marketplace"),
        address="0x" + str(json.loads(keystore).get("address", "")).removeprefix("0x"),
        audit_length=head.length,
        audit_hash=head.hash.hex(),
        columns={table.name: [column.name for column in table.columns] for table in tables},
        rows={table.name: db.execute(select(func.count()).select_from(table)).scalar_one() for table in tables},
    )


def _write_table(db: Connection, table: Table, writer: SealedWriter) -> None:
    query = select(table).order_by(*table.primary_key)
    few = _FEW_ROWS.get(table.name, 500)
    with db.execute(query, execution_options={"yield_per": few}) as rows:
        for row in rows:
            write_row(writer.write, tuple(row))
    end_table(writer.write)
