"""What a restored database may have signed before, as the audit log tells it: its rows alone are not believed.

An entry `restore` that was no move holds back every campaign that was admitted before it. An entry `cleared` tells from
which round on a campaign is free, as the chain showed after the restore, and `released` frees it on the operator's
word. The table `held` says the same; who takes a row from it, or changes one, frees nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select, text

from capsule.errors import AuditLogError
from capsule.state import tables as t
from capsule.state._rows import exact_rows
from sonar import canonical
from sonar.units import CampaignId

__all__ = ["TELLING", "Hold", "Holds", "check_holding", "moment", "row_of"]

TELLING: Final = frozenset({"admission", "restore", "cleared", "released"})
"""The kinds of entries that tell of it."""
_TOLD: Final = text(
    "SELECT sequence, kind, body FROM audit "
    "WHERE kind IN ('admission', 'restore', 'cleared', 'released', 'campaign deleted') ORDER BY sequence"
)
_HELD: Final = text("SELECT campaign, since, round FROM held")

_Row = tuple[float, int | None]
"""A row's `since` and `round`."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A campaign's hold since the restore that the entry `sequence` tells, in microseconds since 1970.

    The rounds before `cleared` may have been signed before; all of them while that is None.
    """

    sequence: int
    since: int
    cleared: int | None

    def holds(self, number: int) -> bool:
        """Whether the round may have been signed before."""
        return self.cleared is None or number < self.cleared

    def is_told_by(self, row: _Row) -> bool:
        """Whether the campaign's row says the same."""
        since, last = row
        return (moment(since), None if last is None else last + 1) == (self.since, self.cleared)


@dataclass(slots=True)
class Holds:
    """What some entries tell of holds."""

    admitted: dict[bytes, int] = field(default_factory=dict)
    restored: tuple[int, int] = (0, 0)
    """The last restore that was no move: its entry, and since when it holds back."""
    cleared: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    released: dict[bytes, int] = field(default_factory=dict)

    def take(self, sequence: int, kind: str, body: Mapping[str, Any]) -> None:
        """Adds what an entry of one of the kinds tells; raises ValueError or LookupError for what none tells."""
        if kind == "restore":
            if not body["moved"]:
                self.restored = sequence, int(body["since"])
            return
        campaign = bytes.fromhex(body["campaign"])
        if kind == "admission":
            self.admitted[campaign] = sequence
        elif kind == "cleared":
            self.cleared[campaign] = sequence, int(body["from"])
        else:
            self.released[campaign] = sequence

    def then(self, later: "Holds") -> None:
        """Adds what later entries tell."""
        self.admitted.update(later.admitted)
        self.restored = max(self.restored, later.restored)
        self.cleared.update(later.cleared)
        self.released.update(later.released)

    def of(self, campaign: bytes) -> Hold | None:
        """What is held back of a campaign, None for nothing; asked when all entries were taken."""
        sequence, since = self.restored
        if sequence <= max(self.admitted.get(campaign, 0), self.released.get(campaign, 0)):
            return None
        place, cleared = self.cleared.get(campaign, (0, 0))
        return Hold(sequence, since, cleared if place > sequence else None)


def moment(since: float) -> int:
    """A row's `since` as the entry of its restore has it."""
    return int(since * 1_000_000)


def row_of(db: Connection, campaign: CampaignId) -> tuple[float, int | None, bool] | None:
    """A campaign's row: `since`, `round`, and whether it waits for the chain or the operator."""
    row = db.execute(select(t.held).where(t.held.c.campaign == campaign)).one_or_none()
    return None if row is None else (row.since, row.round, bool(row.holding))


def check_holding(db: Connection, length: int) -> None:
    """Raises AuditLogError where the table differs from the log; the log is checked before."""
    holds, deleted = Holds(), {}
    for sequence, kind, body in _told(db):
        if kind == "campaign deleted":
            deleted[bytes.fromhex(body["campaign"])] = sequence
        else:
            holds.take(sequence, kind, body)
    nothing = type(None)
    rows: dict[bytes, _Row] = {
        campaign: (since, last)
        for campaign, since, last in exact_rows(
            db, _HELD, (bytes, float, (int, nothing)), sequence=length, what="a hold", at_once=500
        )
    }
    for campaign in holds.admitted.keys() | rows.keys():
        hold, row = holds.of(campaign), rows.get(campaign)
        if row is None and (hold is None or deleted.get(campaign, 0) > hold.sequence):
            continue
        if hold is None or row is None or not hold.is_told_by(row):
            raise AuditLogError(
                length if hold is None else hold.sequence,
                f"what a restore holds back of campaign 0x{campaign.hex()} is not in the database as the log tells",
            )


def _told(db: Connection) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    with db.execute(_TOLD, execution_options={"yield_per": 500}) as rows:
        for sequence, kind, body in rows:
            yield sequence, kind, canonical.loads(body.encode())
