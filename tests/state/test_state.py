"""What the Capsule's database holds, the same on SQLite and on PostgreSQL, and what is never replaced."""

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from stored import AUDIT_KEY, CAMPAIGN, MINE, OWNER, admission, admit, at_once, digest, signed, spare, unsealed, version

from capsule.custody.retention import delete_secrets
from capsule.errors import CapsuleHomeError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.state import (
    Final,
    Relay,
    State,
    Told,
)
from capsule.state import tables as t
from sonar.storage import Artifact
from sonar.units import CampaignId, Cid, KeyId

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
        state.add_key(spare(KeyId(digest(f"key {number}")), float(number), secret=b"sealed %d" % number))
    first = state.claim_key("round", None, 50.0, campaign=CAMPAIGN, reseal=unsealed)
    assert first is not None
    assert (first.secret, first.use, first.campaign, first.time) == (b"sealed 0", "round", CAMPAIGN, 50.0)
    claimed = at_once(12, lambda number: (state, other)[number % 2].claim_key("issued", OWNER, 60.0, reseal=unsealed))
    found = [key.id for key in claimed if key is not None]
    assert len(found) == len(set(found)) == 9
    assert state.spare_keys() == 0
    assert state.issued_since(OWNER, 60.0) == 9
    other.close()


def test_an_account_gets_no_more_keys_than_it_may_however_many_requests_come_at_once(state: State) -> None:
    for number in range(8):
        state.add_key(spare(KeyId(digest(f"key {number}"))))

    def ask(_: int) -> bool:
        try:
            return state.claim_key("issued", OWNER, 60.0, at_most=(3, 0.0), reseal=unsealed) is not None
        except CapsuleRefusedError:
            return False

    assert sum(at_once(8, ask)) == 3


def test_an_issued_key_is_used_up_once_and_by_its_owner(state: State) -> None:
    key_id = KeyId(digest("key"))
    state.add_key(spare(key_id))
    assert not state.use_up_key(key_id, OWNER, 2.0, reseal=unsealed)
    state.claim_key("issued", OWNER, 1.0, reseal=unsealed)
    assert state.key_uses(OWNER) == {"issued"}
    assert not state.use_up_key(key_id, MINE, 2.0, reseal=unsealed)
    assert sorted(at_once(6, lambda _: state.use_up_key(key_id, OWNER, 2.0, reseal=unsealed))) == [False] * 5 + [True]
    assert state.key_uses(OWNER) == {"used"}


def test_using_a_key_up_is_no_new_key_of_its_account(state: State) -> None:
    key_id = KeyId(digest("key"))
    state.add_key(spare(key_id))
    state.claim_key("issued", OWNER, 60.0, reseal=unsealed)
    state.use_up_key(key_id, OWNER, 5000.0, reseal=unsealed)
    stored = state.key(key_id)
    assert stored is not None
    assert (stored.time, stored.used) == (60.0, 5000.0)
    assert state.issued_since(OWNER, 1000.0) == 0


def test_nothing_is_admitted_under_a_key_whose_secret_is_gone(state: State) -> None:
    admit(state, admission(), version())
    with state.transaction() as db:
        db.execute(delete(t.admissions))
        db.execute(delete(t.versions))
        db.execute(update(t.keys).values(secret=None))
    with pytest.raises(CapsuleUnavailableError, match="was deleted while"):
        state.add_admission(admission(), version())
    assert state.version(CAMPAIGN) is None


# ---- admissions and deletion


def test_an_admission_comes_back_as_it_was_given(state: State) -> None:
    admit(state, admission(), version())
    assert state.admission(CAMPAIGN) == admission()
    assert state.version(CAMPAIGN) == state.version(CAMPAIGN, 0) == version()
    assert state.version(CAMPAIGN, 1) is None
    assert state.knows(CAMPAIGN)
    assert not state.knows(CampaignId(b"x" * 32))


def test_a_campaigns_secrets_are_deleted_and_its_public_facts_stay(state: State) -> None:
    admit(state, admission(), version())
    state.add_round(CAMPAIGN, signed(), {0: b"gradient", 1: b"other"})
    state.publish([(CAMPAIGN, 0, b"h" * 32, 1, Artifact(Cid("published"), digest("published")))])
    with state.transaction() as db:
        delete_secrets(state, db, CAMPAIGN, 5.0)
    key = state.key(version().key)
    assert key is not None
    assert (key.secret, key.deleted) == (b"", 5.0)
    assert state.key_uses(OWNER) == {"used"}, "nobody is told that it never was"
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
    state.publish([(CAMPAIGN, 0, b"1" * 32, 0, Artifact(Cid("x"), digest("x")))])
    assert state.unpublished() == []


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


def test_nothing_is_sealed_under_a_passphrase_that_was_changed_meanwhile(state: State, target: Path | str) -> None:
    state.set(vault=b"first header")
    state.pin_vault(b"first header")
    state.add_key(spare(KeyId(digest("key 0"))))
    other = State(target)
    other.set(vault=b"second header")
    other.close()
    for action in (
        lambda: state.add_key(spare(KeyId(digest("key 1")))),
        lambda: state.add_admission(admission(), version()),
        lambda: state.add_round(CAMPAIGN, signed(), {}),
        lambda: state.follow(Told(10), since=None),
    ):
        with pytest.raises(CapsuleHomeError, match="passphrase was changed"):
            action()
    assert state.spare_keys() == 1
