"""What several workers note of what is not well: side by side, each in its own place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stored import AUDIT_KEY

from capsule.errors import CapsuleDatabaseError
from capsule.notes import Notes, noted_problems
from capsule.state import State


@pytest.fixture
def asking(target: Path | str, state: State) -> Iterator[State]:
    """The same database as a command sees it."""
    opened = State(target)
    opened.audit.unlock(AUDIT_KEY)
    yield opened
    opened.close()


def test_workers_do_not_overwrite_what_others_noted(state: State, asking: State) -> None:
    first, second = Notes(state), Notes(state)
    first.note({"chain": ("away", 5.0), "aa": ("stuck", 7.0)})
    second.note({"aa": ("stuck too", 6.0)})
    assert noted_problems(asking) == {"chain": ("away", 5.0), "aa": ("stuck too", 6.0)}
    second.note({})
    assert noted_problems(asking) == {"chain": ("away", 5.0), "aa": ("stuck", 7.0)}


def test_what_a_worker_left_is_told_while_none_runs_and_its_place_is_taken_again(state: State, asking: State) -> None:
    gone = Notes(state)
    gone.note({"chain": ("away", 5.0)})
    gone.close()
    assert noted_problems(asking) == {"chain": ("away", 5.0)}
    Notes(state).note({})
    assert noted_problems(asking) == {}


def test_what_a_worker_left_is_passed_over_while_another_runs(postgres_url: str) -> None:
    states = [State(postgres_url) for _ in range(3)]
    states[0].audit.begin(AUDIT_KEY)
    running, gone = Notes(states[0]), Notes(states[1])
    running.note({"aa": ("stuck", 7.0)})
    gone.note({"chain": ("away", 5.0)})
    assert set(noted_problems(states[2])) == {"aa", "chain"}
    states[1].close()
    assert noted_problems(states[2]) == {"aa": ("stuck", 7.0)}
    states[0].close()
    assert set(noted_problems(states[2])) == {"aa", "chain"}
    states[2].close()


def test_a_worker_that_lost_its_connection_takes_a_place_anew(postgres_url: str) -> None:
    state = State(postgres_url)
    state.audit.begin(AUDIT_KEY)
    notes = Notes(state)
    notes.note({"chain": ("away", 5.0)})
    state.claims.close()
    with pytest.raises(CapsuleDatabaseError):
        notes.note({"chain": ("still away", 5.0)})
    notes.note({"chain": ("still away", 5.0)})
    assert noted_problems(state) == {"chain": ("still away", 5.0)}
    state.close()
