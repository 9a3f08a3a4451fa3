"""What a restored database may have signed before: told by the audit log, whatever becomes of the rows."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from stored import AUDIT_KEY, CAMPAIGN, admission, admit, signed, version

from capsule.custody.quarantine import Quarantine, RoundHeldError, hold
from capsule.errors import AuditLogError
from capsule.state import State
from capsule.state import tables as t
from capsule.state.holding import moment

SINCE = 1_000_000.25


def restore(state: State, *, moved: bool = False) -> None:
    """Holds every campaign back, as a restore does."""
    with state.transaction() as db:
        if not moved:
            hold(db, [CAMPAIGN], SINCE)
        state.audit.append(db, "restore", {"moved": moved, "since": moment(SINCE)})


@pytest.fixture
def restored(state: State) -> State:
    admit(state, admission(), version())
    restore(state)
    return state


def can_sign(state: State, number: int = 0) -> bool:
    try:
        state.check_unsigned(CAMPAIGN, number, b"h" * 32)
    except AuditLogError:
        with pytest.raises(AuditLogError, match="may have been signed before"):
            state.add_round(CAMPAIGN, signed(number), {})
        return False
    state.add_round(CAMPAIGN, signed(number), {})
    return True


def see(state: State, number: int, *, closed: bool) -> None:
    Quarantine(state).check(CAMPAIGN, number, closed=closed, signed=False, seen=SINCE + 1)


def test_a_restore_holds_back_every_round_until_the_chain_was_seen_after_it(restored: State) -> None:
    assert not can_sign(restored)
    see(restored, 3, closed=False)
    assert not can_sign(restored, 2)
    assert can_sign(restored, 3)
    restored.verify_audit()


def test_a_round_that_was_closed_is_held_until_it_is_released(restored: State) -> None:
    with pytest.raises(RoundHeldError):
        see(restored, 3, closed=True)
    assert not can_sign(restored, 3)
    restored.verify_audit()
    assert Quarantine(restored).release(CAMPAIGN)
    assert can_sign(restored, 3)
    restored.verify_audit()


def test_a_later_restore_holds_back_anew_and_a_move_does_not(restored: State) -> None:
    see(restored, 1, closed=False)
    restore(restored, moved=True)
    assert can_sign(restored, 1)
    restore(restored)
    assert not can_sign(restored, 2)
    restored.verify_audit()


def test_a_campaign_that_was_admitted_after_the_restore_is_free(state: State) -> None:
    restore(state)
    with state.transaction() as db:
        db.execute(delete(t.held))
    admit(state, admission(), version())
    assert can_sign(state)
    state.verify_audit()


EDITS = {
    "gone": delete(t.held),
    "of a later restore": update(t.held).values(since=SINCE + 1),
    "of an earlier restore": update(t.held).values(since=0.0),
    "another round": update(t.held).values(round=1),
    "not seen": update(t.held).values(round=None),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_hold_that_was_changed_frees_no_round_and_is_found(
    restored: State, intruder: Callable[..., None], target: Path | str, what: str
) -> None:
    see(restored, 3, closed=False)
    intruder(EDITS[what])
    again = State(target)
    again.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError, match="what a restore holds back"):
        again.verify_audit()
    assert not can_sign(again, 2)
    if what != "gone":
        with pytest.raises(AuditLogError, match="what a restore holds back"):
            see(again, 2, closed=True)
    again.close()


def test_a_hold_that_nobody_ordered_is_found(state: State, intruder: Callable[..., None]) -> None:
    admit(state, admission(), version())
    intruder(insert(t.held).values(campaign=CAMPAIGN, since=SINCE, round=0, holding=1))
    with pytest.raises(AuditLogError, match="what a restore holds back"):
        state.verify_audit()
    with pytest.raises(AuditLogError, match="what a restore holds back"):
        see(state, 0, closed=True)


def test_a_process_that_runs_learns_of_a_restore_and_a_release_that_others_write(
    state: State, target: Path | str
) -> None:
    admit(state, admission(), version())
    other = State(target)
    other.audit.unlock(AUDIT_KEY)
    state.check_unsigned(CAMPAIGN, 0, b"h" * 32)
    restore(other)
    with pytest.raises(AuditLogError, match="may have been signed before"):
        state.check_unsigned(CAMPAIGN, 0, b"h" * 32)
    assert Quarantine(other).release(CAMPAIGN)
    state.check_unsigned(CAMPAIGN, 0, b"h" * 32)
    other.close()


def test_the_log_is_merged_in_time_that_does_not_grow_with_what_is_known(state: State, target: Path | str) -> None:
    """Copying all that is known at each new head would take milliseconds, in transactions that others wait for."""
    admit(state, admission(), version())
    other = State(target)
    other.audit.unlock(AUDIT_KEY)
    other.check_unsigned(CAMPAIGN, 0, b"h" * 32)
    known: Any = other._history._found.signed
    state.add_round(CAMPAIGN, dataclasses.replace(signed(), head=b"1" * 32), {})
    other.check_unsigned(CAMPAIGN, 0, b"h" * 32)
    assert other._history._found.signed is known
    assert len(known) == 1
    other.close()
