"""The Capsule's database, the same on SQLite and on PostgreSQL: what is stored, never replaced, and undone."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from capsule.errors import CapsuleError, CapsuleHomeError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.state import (
    Claim,
    Final,
    Position,
    Relay,
    State,
    StoredAdmission,
    StoredRound,
    Submission,
    Told,
    Version,
)
from sonar.chain.records import Admission, Entry
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

AUDIT_KEY = bytes(range(32))
OWNER = Address("0x00000000000000000000000000000000000000AA")
MINE = Address("0x00000000000000000000000000000000000000bB")
CAMPAIGN = CampaignId(b"c" * 32)


def digest(text: str) -> Digest:
    return Digest(text.encode().ljust(32, b"."))


def version(number: int = 0) -> Version:
    model = Artifact(Cid(f"model {number}"), digest(f"model {number}"))
    return Version(number, Ppm(500_000 + number), KeyId(digest(f"key {number}")), model, b"weights %d" % number)


def admission(campaign: CampaignId = CAMPAIGN) -> StoredAdmission:
    given = Admission(
        digest("spec"), digest("model"), KeyId(digest("key 0")), b"s" * 32, Ppm(500_000), OWNER, OWNER, 2**33
    )  # fmt: skip
    return StoredAdmission(campaign, given, b"signature", b"spec", Cid("model"), b"validation")


def signed(number: int = 0, head: bytes = b"h" * 32, *, mark: str = "") -> StoredRound:
    value = {"score": 510_000, "key": "0x" + "ab" * 32, "outcomes": [{"verdict": "kept"}], "mark": mark}
    return StoredRound(number, head, json.dumps(value), b"next weights", "signed")


def submission(number: int, index: int, block: int, gradient: str = "gradient") -> Submission:
    return Submission(number, index, Entry(MINE, digest("box"), digest(gradient)), Cid("box"), block)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "capsule.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def state(target: Path | str) -> Iterator[State]:
    opened = State(target)
    opened.audit.begin(AUDIT_KEY)
    yield opened
    opened.close()


def at_once(count: int, action: Callable[[int], Any]) -> list[Any]:
    """What the action returns for each number, all started together."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        results[number] = action(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---- keys, boxes, nonces, settings


def test_settings_are_kept_and_replaced(state: State, target: Path | str) -> None:
    assert state.setting("colour") is None
    state.set(colour=b"red", size=b"\0\xff")
    state.set(colour=b"blue")
    again = State(target)
    assert (again.setting("colour"), again.setting("size")) == (b"blue", b"\0\xff")
    again.close()


def test_a_nonce_is_new_once_until_it_expires(state: State) -> None:
    assert state.remember_nonce(OWNER, b"n", expiry=2**40, now=100)
    assert not state.remember_nonce(OWNER, b"n", expiry=2**40, now=100)
    assert state.remember_nonce(MINE, b"n", expiry=150, now=100)
    assert not state.remember_nonce(MINE, b"n", expiry=150, now=151)  # by the clock of another worker it is not over
    assert state.remember_nonce(MINE, b"n", expiry=5000, now=3751)


def test_a_nonce_is_new_to_one_of_many_that_bring_it_at_once(state: State) -> None:
    assert sorted(at_once(8, lambda _: state.remember_nonce(OWNER, b"n", 2**40, 0))) == [False] * 7 + [True]


def test_a_box_is_used_once(state: State) -> None:
    assert sorted(at_once(6, lambda _: state.use_up_box(digest("box")))) == [False] * 5 + [True]


def test_keys_are_claimed_the_oldest_first_and_each_once_by_many_at_once(state: State, target: Path | str) -> None:
    other = State(target)
    other.audit.unlock(AUDIT_KEY)
    for number in range(10):
        state.add_key(KeyId(digest(f"key {number}")), b"n", b"sealed %d" % number, float(number))
    first = state.claim_key("round", None, 50.0, campaign=CAMPAIGN)
    assert first is not None
    assert (first.secret, first.use, first.campaign, first.time) == (b"sealed 0", "round", CAMPAIGN, 50.0)
    claimed = at_once(12, lambda number: (state, other)[number % 2].claim_key("issued", OWNER, 60.0))
    found = [key.id for key in claimed if key is not None]
    assert len(found) == len(set(found)) == 9
    assert state.spare_keys() == 0
    assert state.issued_since(OWNER, 60.0) == 9
    other.close()


def test_an_account_gets_no_more_keys_than_it_may_however_many_requests_come_at_once(state: State) -> None:
    for number in range(8):
        state.add_key(KeyId(digest(f"key {number}")), b"n", b"sealed", 0.0)

    def ask(_: int) -> bool:
        try:
            return state.claim_key("issued", OWNER, 60.0, at_most=(3, 0.0)) is not None
        except CapsuleRefusedError:
            return False

    assert sum(at_once(8, ask)) == 3


def test_an_issued_key_is_used_up_once_and_by_its_owner(state: State) -> None:
    key_id = KeyId(digest("key"))
    state.add_key(key_id, b"n", b"sealed", 0.0)
    assert not state.use_up_key(key_id, OWNER)
    state.claim_key("issued", OWNER, 1.0)
    assert state.key_uses(OWNER) == {"issued"}
    assert not state.use_up_key(key_id, MINE)
    assert sorted(at_once(6, lambda _: state.use_up_key(key_id, OWNER))) == [False] * 5 + [True]
    assert state.key_uses(OWNER) == {"used"}


def test_a_deleted_key_keeps_its_row_without_its_secret(state: State) -> None:
    key_id = KeyId(digest("key"))
    state.add_key(key_id, b"n", b"sealed", 0.0)
    assert state.delete_key(key_id, 5.0)
    assert not state.delete_key(key_id, 6.0)
    stored = state.key(key_id)
    assert stored is not None
    assert (stored.secret, stored.deleted) == (b"", 5.0)
    (listed,) = state.keys()
    assert (listed.id, listed.secret) == (key_id, b"")


# ---- admissions and deletion


def test_an_admission_comes_back_as_it_was_given(state: State) -> None:
    state.add_admission(admission(), version())
    assert state.admission(CAMPAIGN) == admission()
    assert state.version(CAMPAIGN) == state.version(CAMPAIGN, 0) == version()
    assert state.version(CAMPAIGN, 1) is None
    assert state.knows(CAMPAIGN)
    assert not state.knows(CampaignId(b"x" * 32))


def test_a_campaigns_secrets_are_deleted_and_its_public_facts_stay(state: State) -> None:
    state.add_admission(admission(), version())
    state.add_round(CAMPAIGN, signed(), {0: b"gradient", 1: b"other"})
    state.publish(CAMPAIGN, 0, b"h" * 32, 1, Artifact(Cid("published"), digest("published")))
    state.delete_secrets(CAMPAIGN)
    stored, start, round_ = state.admission(CAMPAIGN), state.version(CAMPAIGN), state.round(CAMPAIGN, 0)
    assert stored is not None
    assert start is not None
    assert round_ is not None
    assert (stored.validation, start.weights, round_.weights) == (b"", b"", None)
    assert stored.admission == admission().admission
    assert state.published(CAMPAIGN, 0, b"h" * 32) == {1: Artifact(Cid("published"), digest("published"))}


# ---- settlements


def test_a_second_signature_for_the_same_round_and_head_is_impossible(state: State) -> None:
    first = signed(mark="first")
    assert state.add_round(CAMPAIGN, first, {0: b"gradient"}) == first
    assert state.add_round(CAMPAIGN, signed(mark="second"), {1: b"other"}) == first
    assert state.rounds(CAMPAIGN) == [first]
    state.follow(Told(6, settled=(Final(CAMPAIGN, 0, first.head, 5, None),)), since=None)
    assert [gradient for *_, gradient in state.unpublished()] == [b"gradient"]


def test_of_many_workers_that_sign_a_round_at_once_all_get_the_same_settlement(
    state: State, target: Path | str
) -> None:
    other = State(target)
    other.audit.unlock(AUDIT_KEY)
    stored = at_once(
        8, lambda number: (state, other)[number % 2].add_round(CAMPAIGN, signed(mark=str(number)), {0: b"%d" % number})
    )
    assert len({settlement.settlement for settlement in stored}) == 1
    assert [entry.kind for entry in state.audit.entries()] == ["settlement"]
    other.close()


def test_a_round_has_a_settlement_for_each_history_and_the_chain_says_which_counts(state: State) -> None:
    first, second = signed(head=b"1" * 32), signed(head=b"2" * 32)
    state.add_round(CAMPAIGN, first, {0: b"first"})
    state.add_round(CAMPAIGN, second, {0: b"second"})
    assert state.round(CAMPAIGN, 0, b"1" * 32) == first
    assert state.round(CAMPAIGN, 0, b"3" * 32) is None
    assert state.round(CAMPAIGN, 0) == second
    state.follow(Told(6, settled=(Final(CAMPAIGN, 0, b"1" * 32, 5, version(1)),)), since=None)
    assert state.round(CAMPAIGN, 0) == dataclasses.replace(first, state="final")
    assert state.unpublished() == [(CAMPAIGN, 0, b"1" * 32, 0, b"first")]
    assert state.counts()["unsettled"] == 0
    state.publish(CAMPAIGN, 0, b"1" * 32, 0, Artifact(Cid("x"), digest("x")))
    assert state.unpublished() == []


# ---- what the chain told


def test_facts_and_the_place_to_read_on_change_together_or_not_at_all(state: State) -> None:
    assert state.position() is None
    told = Told(10, created=((CAMPAIGN, 4),), submitted=((CAMPAIGN, submission(0, 0, 5)),))
    assert state.follow(told, since=None)
    assert state.position() == Position(10)
    assert state.running() == [(CAMPAIGN, 4)]
    assert state.submissions(CAMPAIGN, 0) == [submission(0, 0, 5)]
    stale = Told(12, submitted=((CAMPAIGN, submission(0, 1, 11)),))
    assert not state.follow(stale, since=None)
    assert not state.follow(stale, since=Position(9))
    assert state.submissions(CAMPAIGN, 0) == [submission(0, 0, 5)]


def test_of_many_workers_that_read_the_same_blocks_one_stores_them(state: State) -> None:
    state.follow(Told(10), since=None)
    told = Told(12, created=((CAMPAIGN, 11),))
    assert sorted(at_once(6, lambda _: state.follow(told, since=Position(10)))) == [False] * 5 + [True]


def test_a_read_that_began_before_a_rewind_is_not_stored_after_it(state: State) -> None:
    state.follow(Told(10), since=None)
    began = state.position()
    assert state.rewind(8, since=began)
    assert state.follow(Told(10), since=Position(8, 1))
    assert not state.follow(Told(12, created=((CAMPAIGN, 11),)), since=began)
    assert state.running() == []


def test_a_rewind_forgets_what_was_told_from_that_block_on(state: State) -> None:
    late = CampaignId(b"l" * 32)
    state.add_admission(admission(), version())
    state.add_round(CAMPAIGN, signed(0, b"0" * 32), {})
    state.add_round(CAMPAIGN, signed(1, b"1" * 32), {})
    state.add_round(CAMPAIGN, signed(2, b"2" * 32), {})
    told = Told(
        20,
        created=((CAMPAIGN, 4), (late, 12)),
        submitted=((CAMPAIGN, submission(0, 0, 5)), (CAMPAIGN, submission(1, 0, 9)), (CAMPAIGN, submission(1, 1, 10))),
        settled=(Final(CAMPAIGN, 0, b"0" * 32, 7, version(1)), Final(CAMPAIGN, 1, b"1" * 32, 10, version(2))),
        expired=((CAMPAIGN, 2, 13),),
        over=((CAMPAIGN, 14),),
        checkpoints=((9, b"nine"), (10, b"ten"), (19, b"nineteen")),
    )
    state.follow(told, since=None)
    assert state.running() == [(late, 12)]
    assert state.version(CAMPAIGN) == version(2)

    assert state.rewind(10, since=state.position())
    assert state.position() == Position(10, 1)
    assert state.running() == [(CAMPAIGN, 4)]
    assert state.submissions(CAMPAIGN, 1) == [submission(1, 0, 9)]
    assert state.version(CAMPAIGN) == version(1)
    assert [round_.state for round_ in state.rounds(CAMPAIGN)] == ["final", "signed", "signed"]
    assert state.checkpoints() == [(9, b"nine")]

    assert state.follow(told, since=None) is False
    assert state.follow(dataclasses.replace(told, created=((late, 12),)), since=Position(10, 1))
    assert state.version(CAMPAIGN, 2) == version(2)


def test_an_end_that_was_seen_in_a_history_that_changed_is_forgotten(state: State) -> None:
    state.follow(Told(10, created=((CAMPAIGN, 4),)), since=None)
    state.end(CAMPAIGN)
    assert state.running() == []
    (over,) = state.campaigns()
    assert over.ended is not None
    state.rewind(9, since=state.position())
    assert state.running() == [(CAMPAIGN, 4)]
    assert state.campaigns()[0].ended is None


def test_old_checkpoints_can_be_dropped(state: State) -> None:
    state.follow(Told(20, checkpoints=((5, b"5"), (6, b"6"), (7, b"7"))), since=None)
    state.forget_checkpoints(before=7)
    assert state.checkpoints() == [(7, b"7")]


def test_a_gradient_that_another_account_posted_in_an_earlier_round_is_a_repetition(state: State) -> None:
    state.follow(Told(9, submitted=((CAMPAIGN, submission(0, 0, 5)),)), since=None)
    assert state.repeated(CAMPAIGN, digest("gradient"), before=1, mine=OWNER)
    assert not state.repeated(CAMPAIGN, digest("gradient"), before=0, mine=OWNER)
    assert not state.repeated(CAMPAIGN, digest("gradient"), before=1, mine=MINE)
    assert not state.repeated(CAMPAIGN, digest("another"), before=1, mine=OWNER)


# ---- relays


def test_a_transaction_is_stored_before_it_is_sent_and_its_replacement_is_one_more(state: State) -> None:
    first = Relay(b"a" * 32, CAMPAIGN, 0, b"h" * 32, 7, b"raw", fee=2**90, tip=1, time=1.0)
    bumped = dataclasses.replace(first, hash=b"b" * 32, fee=2**91, time=2.0)
    state.add_relay(first)
    state.set_relay(first.hash, "sent")
    state.add_relay(bumped)
    assert state.open_relays() == [dataclasses.replace(first, state="sent"), bumped]
    state.set_relay(first.hash, "replaced")
    state.set_relay(bumped.hash, "mined")
    assert state.open_relays() == []
    assert [relay.state for relay in state.relays(CAMPAIGN, 0)] == ["replaced", "mined"]
    assert [entry.kind for entry in state.audit.entries()] == ["relay", "relay"]


# ---- claims


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


def test_nothing_is_sealed_under_a_passphrase_that_was_changed_meanwhile(state: State, target: Path | str) -> None:
    state.set(vault=b"first header")
    state.pin_vault(b"first header")
    state.add_key(KeyId(digest("key 0")), b"n", b"sealed", 0.0)
    other = State(target)
    other.set(vault=b"second header")
    other.close()
    for action in (
        lambda: state.add_key(KeyId(digest("key 1")), b"n", b"sealed", 0.0),
        lambda: state.add_admission(admission(), version()),
        lambda: state.add_round(CAMPAIGN, signed(), {}),
        lambda: state.follow(Told(10), since=None),
    ):
        with pytest.raises(CapsuleHomeError, match="passphrase was changed"):
            action()
    assert state.spare_keys() == 1


# ---- opening


def test_what_is_not_a_database_that_a_capsule_can_use_is_refused_without_its_password(tmp_path: Path) -> None:
    for url in (
        "mysql://capsule:hunter2@db/capsule", "postgresql+asyncpg://capsule:hunter2@db/capsule", "://hunter2",
        "postgresql://capsule:hunter2@/none?host=/nowhere", "postgresql://capsule:hunter2@127.0.0.1:9/none",
        "postgresql://capsule@127.0.0.1:9/none?password=hunter2", "sqlite://", "sqlite:///:memory:", "sqlite:///x?a=b",
    ):  # fmt: skip
        with pytest.raises(CapsuleHomeError) as caught:
            State(url)
        assert "hunter2" not in str(caught.value)


def test_what_hinders_the_database_is_told_without_what_was_written(state: State) -> None:
    state.add_admission(admission(), version())
    with pytest.raises(IntegrityError) as caught:
        state.add_admission(dataclasses.replace(admission(), validation=b"s3cret"), version())
    assert "s3cret" not in str(caught.value)


def test_a_number_beyond_any_that_the_database_holds_is_told(state: State) -> None:
    with pytest.raises(CapsuleError, match="cannot hold a value"):
        state.follow(Told(10, created=((CAMPAIGN, 2**64),)), since=None)
    assert state.position() is None


def test_a_sqlite_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    opened = State(f"sqlite:///{tmp_path / 'capsule.db'}")
    opened.set(name=b"value")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    opened.close()


def test_a_database_that_is_gone_is_unavailable_and_comes_back(postgres: Any, postgres_url: str) -> None:
    opened = State(postgres_url)
    opened.set(name=b"value")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with postgres.connect() as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        with pytest.raises(CapsuleUnavailableError, match="cannot be used now"):
            opened.setting("name")
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert opened.setting("name") == b"value"
    opened.close()
