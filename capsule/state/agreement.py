"""Whether what this Capsule signed is in the database as the audit log tells it, and was signed once.

The log is checked before; this finds who changed the tables instead. A settlement that somebody deleted would be signed
a second time, which the log then tells, and an admission that nobody gave is not in it.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, text

from capsule.errors import AuditLogError
from sonar import canonical
from sonar.units import digest_of

__all__ = ["check_agreement"]

_TOLD: Final = text(
    "SELECT sequence, kind, body FROM audit WHERE kind IN ('admission', 'settlement') ORDER BY sequence"
)
_ROUNDS: Final = text("SELECT campaign, round, head, settlement FROM rounds")
_ADMISSIONS: Final = text("SELECT campaign, owner, spec_digest, model, key, start_score FROM admissions")

_Name = tuple[Any, ...]
"""What was signed: ("settlement", campaign, round, head) or ("admission", campaign)."""


def check_agreement(db: Connection, length: int) -> None:
    """Raises AuditLogError where tables and log differ, or the log tells of two signatures for one thing."""
    told: dict[_Name, tuple[int, _Name]] = {}
    for sequence, name, facts in _told(db):
        if name in told:
            raise AuditLogError(sequence, f"{_show(name)} was signed before, in entry {told[name][0]}: tell its mines")
        told[name] = sequence, facts
    stored = 0
    for name, facts in _stored(db):
        if name not in told:
            raise AuditLogError(length, f"the log does not tell of {_show(name)}, which is in the database")
        sequence, expected = told[name]
        if facts != expected:
            raise AuditLogError(sequence, f"{_show(name)} is not in the database as it was signed")
        stored += 1
    if stored < len(told):
        there = {name for name, _ in _stored(db)}
        name, (sequence, _) = next(item for item in told.items() if item[0] not in there)
        raise AuditLogError(sequence, f"{_show(name)} was signed and is not in the database any more")


def _told(db: Connection) -> Iterator[tuple[int, _Name, _Name]]:
    with db.execute(_TOLD, execution_options={"yield_per": 500}) as rows:
        for sequence, kind, body in rows:
            value = canonical.loads(body.encode())
            if kind == "settlement":
                yield sequence, (kind, value["campaign"], value["round"], value["head"]), (value["settlement"],)
            else:
                facts = (value["account"], value["spec"], value["model"], value["key"], value["score"])
                yield sequence, (kind, value["campaign"]), facts


def _stored(db: Connection) -> Iterator[tuple[_Name, _Name]]:
    # As the driver gives them: whoever changed a row may have left values of any type.
    with db.execute(_ROUNDS, execution_options={"yield_per": 100}) as rows:
        for campaign, number, head, settlement in rows:
            data = settlement.encode() if isinstance(settlement, str) else b""
            yield ("settlement", _hex(campaign), number, _hex(head)), (digest_of(data).hex(),)
    with db.execute(_ADMISSIONS, execution_options={"yield_per": 500}) as rows:
        for campaign, owner, spec, model, key, score in rows:
            yield ("admission", _hex(campaign)), (owner, _hex(spec), _hex(model), _hex(key), score)


def _hex(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _show(name: _Name) -> str:
    if name[0] == "admission":
        return f"the admission of campaign {name[1]}"
    return f"the settlement of round {name[2]} of campaign {name[1]}"
