"""Whether keys and validation boxes stand in the database as the audit log tells that they were used.

The log is checked before; this finds who changed the tables instead. A key that was used and stands as issued again
would admit a second model, and a round's key one made of gradients: each admission answers with a score, so such keys
would make the Capsule a decryption oracle. What only takes something away from its owner is not looked for: a box that
nobody used and stands as used.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, text

from capsule.errors import AuditLogError
from capsule.state._rows import exact_rows
from sonar import canonical

__all__ = ["check_spending"]

_TOLD: Final = text("SELECT sequence, kind, body FROM audit WHERE kind IN ('key', 'box', 'restore') ORDER BY sequence")
_KEYS: Final = text("SELECT id, use, owner, campaign FROM keys")
_BOXES: Final = text("SELECT digest FROM boxes")
_NEVER_TAKEN: Final = ("spare", "lost")
"""What a key can be of which the log does not tell; a restore makes the spare ones lost."""

_Use = tuple[Any, Any, Any]
"""What a key was taken for, by which account, for which campaign."""


def check_spending(db: Connection, length: int) -> None:
    """Raises AuditLogError where keys or boxes differ from the log, or the log tells of a key that was taken twice."""
    keys, boxes = _told(db)
    seen: set[str] = set()
    for key, found in _stored(db, length):
        if key in seen:
            raise AuditLogError(length, f"key {key} is in the database twice: the table was made anew")
        seen.add(key)
        if key not in keys:
            if found[0] not in _NEVER_TAKEN:
                raise AuditLogError(length, f"the log does not tell that key {key} was taken, but it stands as {found}")
            continue
        sequence, use = keys.pop(key)
        if found != use:
            raise AuditLogError(sequence, f"key {key} stands as {found}, but the log tells of {use}: trust it no more")
    for key, (sequence, _) in keys.items():
        raise AuditLogError(sequence, f"key {key} was taken and is not in the database any more")
    for (digest,) in exact_rows(db, _BOXES, (bytes,), sequence=length, what="a box", at_once=500):
        boxes.pop(digest.hex(), None)
    for digest, sequence in boxes.items():
        raise AuditLogError(sequence, f"box {digest} was used and is not in the database any more: it can be again")


def _told(db: Connection) -> tuple[dict[Any, tuple[int, _Use]], dict[Any, int]]:
    """The present use of each key, and the boxes, each with the entry that tells it."""
    keys: dict[Any, tuple[int, _Use]] = {}
    boxes: dict[Any, int] = {}
    with db.execute(_TOLD, execution_options={"yield_per": 500}) as rows:
        for sequence, kind, body in rows:
            value = canonical.loads(body.encode())
            if kind == "box":
                boxes[value["box"]] = sequence
            elif kind == "restore":
                if not value["moved"]:
                    _withdraw(keys, sequence)
            else:
                use = value["use"], value["account"], value["campaign"]
                before = keys.get(value["key"])
                if before is not None and (before[1], use[0]) != (("issued", *use[1:]), "used"):
                    raise AuditLogError(sequence, f"key {value['key']} was taken before, in entry {before[0]}")
                keys[value["key"]] = sequence, use
    return keys, boxes


def _withdraw(keys: dict[Any, tuple[int, _Use]], sequence: int) -> None:
    """A backup's issued keys may have been used after it was made, so a restore uses them up."""
    for key, (_, use) in keys.items():
        if use[0] == "issued":
            keys[key] = sequence, ("used", *use[1:])


def _stored(db: Connection, length: int) -> Iterator[tuple[str, _Use]]:
    nothing = type(None)
    types = bytes, str, (str, nothing), (bytes, nothing)
    for key, use, owner, campaign in exact_rows(db, _KEYS, types, sequence=length, what="a key", at_once=500):
        yield key.hex(), (use, owner, None if campaign is None else campaign.hex())
