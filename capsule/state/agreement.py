"""Whether what this Capsule signed is in the database as the audit log tells it, and was signed once.

The log is checked before; this finds who changed the tables instead. A settlement that somebody deleted would be signed
a second time, which the log then tells, and an admission that nobody gave is not in it, nor a version that none made.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, text

from capsule.errors import AuditLogError
from capsule.state._rows import exact_rows
from sonar import canonical
from sonar.units import digest_of

__all__ = ["check_agreement"]

_TOLD: Final = text(
    "SELECT sequence, kind, body FROM audit WHERE kind IN ('admission', 'settlement') ORDER BY sequence"
)
_ROUNDS: Final = text("SELECT campaign, round, head, settlement FROM rounds")
_ADMISSIONS: Final = text("SELECT campaign, owner, spec, spec_digest, model, key, start_score FROM admissions")
_VERSIONS: Final = text("SELECT campaign, version, key, score, model FROM versions")

_Name = tuple[Any, ...]
"""What was signed: ("settlement", campaign, round, head) or ("admission", campaign)."""
_Made = tuple[Any, ...]
"""A model version by its campaign, key, score and digest."""


def check_agreement(db: Connection, length: int) -> None:
    """Raises AuditLogError where tables and log differ, or the log tells of two signatures for one thing."""
    told: dict[_Name, tuple[int, _Name]] = {}
    for sequence, name, facts in _told(db):
        if name in told:
            raise AuditLogError(sequence, f"{_show(name)} was signed before, in entry {told[name][0]}: tell its mines")
        told[name] = sequence, facts
    stored: set[_Name] = set()
    made: set[_Made] = set()
    for name, facts, version in _stored(db, length):
        if name in stored:
            raise AuditLogError(length, f"{_show(name)} is in the database twice: the table was made anew")
        if name not in told:
            raise AuditLogError(length, f"the log does not tell of {_show(name)}, which is in the database")
        sequence, expected = told[name]
        if facts != expected:
            raise AuditLogError(sequence, f"{_show(name)} is not in the database as it was signed")
        stored.add(name)
        made.add(version)
    for name, (sequence, _) in told.items():
        if name not in stored:
            raise AuditLogError(sequence, f"{_show(name)} was signed and is not in the database any more")
    types = bytes, int, bytes, int, bytes
    for campaign, number, key, score, model in exact_rows(
        db, _VERSIONS, types, sequence=length, what="a version", at_once=500
    ):
        if (campaign.hex(), key.hex(), score, model.hex()) not in made:
            raise AuditLogError(length, f"version {number} of campaign 0x{campaign.hex()} is none that was signed")


def _told(db: Connection) -> Iterator[tuple[int, _Name, _Name]]:
    with db.execute(_TOLD, execution_options={"yield_per": 500}) as rows:
        for sequence, kind, body in rows:
            value = canonical.loads(body.encode())
            if kind == "settlement":
                yield sequence, (kind, value["campaign"], value["round"], value["head"]), (value["settlement"],)
            else:
                facts = (value["account"], value["spec"], value["model"], value["key"], value["score"])
                yield sequence, (kind, value["campaign"]), facts


def _stored(db: Connection, length: int) -> Iterator[tuple[_Name, _Name, _Made]]:
    """What was signed as the tables have it, its facts as the log tells them, and the version that it makes."""
    types: tuple[Any, ...] = (bytes, int, bytes, str)
    for campaign, number, head, settlement in exact_rows(
        db, _ROUNDS, types, sequence=length, what="a settlement", at_once=100
    ):
        name = "settlement", campaign.hex(), number, head.hex()
        value = json.loads(settlement) if settlement.startswith("{") else {}
        key, model = (str(value.get(field)).removeprefix("0x") for field in ("key", "model"))
        yield name, (digest_of(settlement.encode()).hex(),), (campaign.hex(), key, value.get("score"), model)
    types = bytes, str, bytes, bytes, bytes, bytes, int
    for campaign, owner, spec, digest, model, key, score in exact_rows(
        db, _ADMISSIONS, types, sequence=length, what="an admission", at_once=100
    ):
        if digest_of(spec) != digest:
            raise AuditLogError(length, f"the spec of campaign 0x{campaign.hex()} is not the one that was admitted")
        version = campaign.hex(), key.hex(), score, model.hex()
        yield ("admission", campaign.hex()), (owner, digest.hex(), model.hex(), key.hex(), score), version


def _show(name: _Name) -> str:
    if name[0] == "admission":
        return f"the admission of campaign {name[1]}"
    return f"the settlement of round {name[2]} of campaign {name[1]}"
