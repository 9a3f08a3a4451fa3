"""Rows as the database's driver gives them, for who must not believe them: whoever edited them may have left anything.

SQLite keeps bytes and the text of their digits apart, and so must who compares rows with the audit log: a row that the
Capsule's own queries do not find would else be taken for the one that they do not find.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, TextClause

from capsule.errors import AuditLogError

__all__ = ["exact_rows"]


def exact_rows(
    db: Connection,
    query: TextClause,
    types: tuple[type | tuple[type, ...], ...],
    *,
    sequence: int,
    what: str,
    at_once: int,
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, `at_once` in memory, whose values are exactly of these types.

    Raises AuditLogError, for the entry `sequence`, where one is of another type; `what` names a row for people.
    """
    with db.execute(query, execution_options={"yield_per": at_once}) as rows:
        for row in rows:
            for value, kinds in zip(row, types, strict=True):
                if type(value) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
                    found = type(value).__name__
                    raise AuditLogError(
                        sequence, f"{what} in the database holds {found} where it never does: it was changed"
                    )
            yield tuple(row)
