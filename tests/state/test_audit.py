"""The audit log: what it tells, denied requests, and several processes that write it at once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stored import AUDIT_KEY, ENTRIES, OWNER, Clock, entries, fill

from capsule.errors import CapsuleError
from capsule.state import State
from capsule.state.audit import START, entry_hash
from capsule.state.denials import MOST, WINDOW_SECONDS
from sonar import canonical


@pytest.fixture
def state(state: State) -> State:
    fill(state)
    return state


# ---- what it tells


def test_a_log_that_nobody_touched_holds_and_every_head_of_it_is_found_again(state: State) -> None:
    head = state.audit_head()
    assert state.verify_audit() == head
    assert head.length == ENTRIES
    for entry in state.audit.entries():
        assert state.verify_audit(noted=entry.hash) == head
    assert state.verify_audit(noted=START) == head


def test_an_entry_is_hashed_as_it_is_written_down() -> None:
    # Computed by hand with `printf ... | sha256sum` from the layout in the module's docstring.
    expected = "9d32ed18dc2699512c132d06d043bd896ded8a995c3ec607485d8d8d700cf22e"
    assert entry_hash(1, 2, "kind", "{}", START).hex() == expected


def test_bodies_are_canonical_json_with_bytes_in_hex(state: State) -> None:
    body = next(state.audit.entries()).body
    assert canonical.loads(body.encode()) == {"number": 0, "digest": "00" * 32, "nothing": None}


def test_entries_of_a_transaction_that_fails_are_not_there(state: State) -> None:
    def append_two() -> None:
        with state.transaction() as db:
            state.audit.append(db, "trial", {})
            state.audit.append(db, "trial", {"what": object()})  # is no JSON

    with pytest.raises(TypeError):
        append_two()
    assert state.audit_head().length == ENTRIES
    assert len(entries(state)) == ENTRIES


def test_entries_can_be_read_from_a_place_on(state: State) -> None:
    assert [entry.sequence for entry in state.audit.entries(after=4)] == [5, 6]


def test_a_log_is_begun_once(state: State) -> None:
    with pytest.raises(CapsuleError, match="already"):
        state.audit.begin(bytes(32))


def test_without_its_key_nothing_is_appended_and_no_head_is_told(state: State, target: Path | str) -> None:
    locked = State(target)
    for action in (locked.audit_head, locked.verify_audit, lambda: locked.audit.denied(OWNER, "admit", "bad_spec")):
        with pytest.raises(CapsuleError, match="locked"):
            action()
    with pytest.raises(ValueError, match="32 bytes"):
        locked.audit.unlock(b"short")
    locked.audit.unlock(bytes(32))
    with pytest.raises(CapsuleError, match="not written by this Capsule"):
        locked.audit_head()
    locked.close()
    assert state.audit_head().length == ENTRIES


# ---- denied requests


def kinds(state: State) -> list[tuple[str, Any]]:
    return [(entry.kind, canonical.loads(entry.body.encode())) for entry in state.audit.entries(after=ENTRIES)]


def test_a_denial_is_told_at_once_and_its_repetitions_once_an_hour(target: Path | str) -> None:
    clock = Clock()
    opened = State(target, clock=clock)
    opened.audit.begin(AUDIT_KEY)
    fill(opened)
    for _ in range(5):
        opened.audit.denied(OWNER, "admit", "bad_spec")
    opened.audit.denied(OWNER, "deliver", "not_owner")
    what = {"account": OWNER, "action": "admit", "code": "bad_spec"}
    told = [("denied", what), ("denied", {"account": OWNER, "action": "deliver", "code": "not_owner"})]
    assert kinds(opened) == told
    opened.audit.look_after()
    assert kinds(opened) == told
    clock.now += WINDOW_SECONDS
    opened.audit.look_after()
    assert kinds(opened) == [*told, ("denied again", {**what, "repeats": 4})]
    opened.audit.denied(OWNER, "admit", "bad_spec")
    assert kinds(opened)[-1] == ("denied", what)
    opened.verify_audit()
    opened.close()


def test_a_flood_of_denials_from_ever_new_accounts_is_counted_and_does_not_fill_the_log(tmp_path: Path) -> None:
    clock = Clock()
    opened = State(tmp_path / "capsule.db", clock=clock)
    opened.audit.begin(AUDIT_KEY)
    for number in range(MOST + 50):
        opened.audit.denied(f"0x{number:040x}", "admit", "bad_spec")
    assert opened.audit_head().length == MOST
    clock.now += WINDOW_SECONDS
    opened.audit.denied(OWNER, "admit", "bad_spec")
    last = [canonical.loads(entry.body.encode()) for entry in opened.audit.entries(after=MOST)]
    assert last == [
        {"account": None, "action": None, "code": None, "repeats": 50},
        {"account": OWNER, "action": "admit", "code": "bad_spec"},
    ]
    opened.close()


# ---- several processes


APPEND = """
import sys
from capsule.state import State, StoredAdmission, StoredRound, Version
state = State(sys.argv[1])
state.audit.unlock(bytes(range(32)))
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    state.audit.denied(sys.argv[3], str(number), "code")
state.close()
"""


def test_two_processes_that_append_at_once_make_one_chain(postgres_url: str) -> None:
    opened = State(postgres_url)
    opened.audit.begin(AUDIT_KEY)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, postgres_url, "40", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert opened.verify_audit().length == 80
    accounts = [canonical.loads(entry.body.encode())["account"] for entry in opened.audit.entries()]
    assert accounts.count("one") == accounts.count("two") == 40
    opened.close()
