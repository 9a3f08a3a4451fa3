"""Claims: work that one of several workers on a database does, on SQLite and on PostgreSQL."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from capsule.errors import CapsuleUnavailableError
from capsule.state import SERVING, Claim, State


def test_a_claim_is_held_by_one_until_it_is_given_back(state: State) -> None:
    claim = state.claims.try_claim("relay")
    assert claim is not None
    with claim:
        claim.check()
        assert state.claims.try_claim("relay") is None
        assert state.claims.try_claim("relay", shared=True) is None
        other = state.claims.try_claim("campaign 1")
        assert other is not None
        other.release()
        other.release()
    again = state.claims.try_claim("relay")
    assert again is not None
    again.release()


def test_a_shared_claim_keeps_out_who_wants_it_alone(state: State) -> None:
    first, second = (state.claims.try_claim("serving", shared=True) for _ in range(2))
    assert first is not None
    assert second is not None
    first.release()
    assert state.claims.try_claim("serving") is None
    second.release()
    alone = state.claims.try_claim("serving")
    assert alone is not None
    alone.release()


def lose_claims(postgres: Any, url: str) -> None:
    """Ends the sessions that hold claims of a database."""
    with postgres.connect() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = %s)",
            [url.partition("?")[0].rpartition("/")[2]],
        )


def claimed(state: State, name: str, *, shared: bool = False) -> Claim:
    """The claim, as soon as nobody else has it: a session ends when it sees its signal."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(CapsuleUnavailableError):
            if (claim := state.claims.try_claim(name, shared=shared)) is not None:
                return claim
        assert time.monotonic() < deadline


def test_a_claim_is_lost_with_its_connection_and_that_is_noticed(postgres: Any, postgres_url: str) -> None:
    first, second = State(postgres_url), State(postgres_url)
    claim = claimed(first, "relay")
    assert second.claims.try_claim("relay") is None
    lose_claims(postgres, postgres_url)
    taken = claimed(second, "relay")
    for _ in range(2):
        with pytest.raises(CapsuleUnavailableError, match="lost"):
            claim.check()
    assert first.claims.try_claim("relay") is None
    claim.release()
    taken.check()
    assert first.claims.try_claim("relay") is None
    taken.release()
    assert first.claims.try_claim("relay") is not None
    first.close()
    second.close()


def test_a_shared_claim_is_taken_again_after_its_connection_was_lost(postgres: Any, postgres_url: str) -> None:
    first, second = State(postgres_url), State(postgres_url)
    claim = claimed(first, "serving", shared=True)
    lose_claims(postgres, postgres_url)
    alone = claimed(second, "serving")
    for action in (claim.check, claim.check, lambda: first.claims.try_claim("relay")):
        with pytest.raises(CapsuleUnavailableError, match=r"broke|alone"):
            action()
    alone.release()
    claim.check()
    assert second.claims.try_claim("serving") is None
    claim.release()
    assert second.claims.try_claim("serving") is not None
    first.close()
    second.close()


HOLD = """
import sys
from capsule.state import State
claim = State(sys.argv[1]).claims.try_claim("relay")
print("held" if claim else "not held", flush=True)
sys.stdin.read()
"""


def test_a_claim_is_free_when_its_process_is_killed(postgres_url: str) -> None:
    state = State(postgres_url)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, postgres_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert state.claims.try_claim("relay") is None
        process.kill()
    claimed(state, "relay")
    state.close()


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    first, second = State(tmp_path / "capsule.db"), State(tmp_path / "capsule.db")
    claim = first.claims.try_claim(SERVING, shared=True)
    assert claim is not None
    (tmp_path / "capsule.db.lock").unlink()
    claim.check()
    assert second.claims.try_claim(SERVING, shared=True) is None
    claim.release()
    later = second.claims.try_claim(SERVING)
    assert later is not None
    later.release()
    first.close()
    second.close()


def test_a_lock_whose_file_was_removed_and_taken_by_another_is_lost(tmp_path: Path) -> None:
    first, second = State(tmp_path / "capsule.db"), State(tmp_path / "capsule.db")
    claim = first.claims.try_claim(SERVING, shared=True)
    assert claim is not None
    (tmp_path / "capsule.db.lock").unlink()
    taken = second.claims.try_claim(SERVING, shared=True)
    assert taken is not None
    for action in (claim.check, lambda: first.claims.try_claim("relay")):
        with pytest.raises(CapsuleUnavailableError, match="was removed while this process served"):
            action()
    taken.check()
    taken.release()
    claim.check()
    first.close()
    second.close()
