"""The audit log: nothing in it, or in what it tells of, can be edited, cut, reordered or added unnoticed."""

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select, update
from stored import AUDIT_KEY, CAMPAIGN, ENTRIES, OWNER, admit, entries, fill, spare, unsealed

from capsule.errors import AuditLogError, CapsuleError
from capsule.state import State, StoredAdmission, StoredKey, StoredRound, Version
from capsule.state import tables as t
from capsule.state.audit import START, entry_hash
from sonar.chain.records import Admission
from sonar.storage import Artifact
from sonar.units import Address, Cid, Digest, KeyId, Ppm, digest_of


@pytest.fixture
def state(state: State) -> State:
    fill(state)
    return state


def heads(state: State) -> list[dict[str, Any]]:
    with state._reading() as db:
        return [dict(row) for row in db.execute(select(t.audit_head)).mappings()]


# ---- every change is detected


FIELDS = {
    "sequence": st.integers(-3, ENTRIES + 3),
    "time": st.integers(-(2**63), 2**63 - 1),
    "kind": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    "body": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    "previous": st.binary(max_size=40),
    "hash": st.binary(max_size=40),
}
DRAWN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def restored(state: State, intruder: Callable[..., None]) -> Callable[[], None]:
    """Puts the log back as it was, after a change that a test made."""
    kept, head = entries(state), heads(state)

    def restore() -> None:
        intruder(delete(t.audit), delete(t.audit_head), insert(t.audit).values(kept), insert(t.audit_head).values(head))

    return restore


@DRAWN
@given(data=st.data(), field=st.sampled_from(sorted(FIELDS)), place=st.integers(1, ENTRIES))
def test_an_edit_of_any_field_is_detected(
    state: State, intruder: Callable[..., None], restored: Callable[[], None], data: Any, field: str, place: int
) -> None:
    before = entries(state)
    value = data.draw(FIELDS[field].filter(lambda value: value != before[place - 1][field]))
    if field == "sequence" and value in range(1, ENTRIES + 1):
        value = place + ENTRIES + 1  # the others are taken
    intruder(update(t.audit).where(t.audit.c.sequence == place).values({field: value}))
    try:
        with pytest.raises(AuditLogError) as caught:
            state.verify_audit()
        assert caught.value.sequence in {place, place + 1} or field == "sequence"
    finally:
        restored()
    state.verify_audit()


@DRAWN
@given(places=st.sets(st.integers(1, ENTRIES), min_size=1))
def test_a_cut_anywhere_is_detected(
    state: State, intruder: Callable[..., None], restored: Callable[[], None], places: set[int]
) -> None:
    intruder(delete(t.audit).where(t.audit.c.sequence.in_(places)))
    with pytest.raises(AuditLogError) as caught:
        state.verify_audit()
    assert caught.value.sequence == min(places)
    restored()


@DRAWN
@given(places=st.lists(st.integers(1, ENTRIES), min_size=2, max_size=2, unique=True), fields=st.sets(
    st.sampled_from(sorted(set(FIELDS) - {"sequence"})), min_size=1))  # fmt: skip
def test_entries_or_parts_of_them_that_change_places_are_detected(
    state: State, intruder: Callable[..., None], restored: Callable[[], None], places: list[int], fields: set[str]
) -> None:
    before = entries(state)
    first, second = (before[place - 1] for place in places)
    changed = any(first[field] != second[field] for field in fields)
    for entry, other in ((first, second), (second, first)):
        values = {field: other[field] for field in fields}
        intruder(update(t.audit).where(t.audit.c.sequence == entry["sequence"]).values(values))
    if changed:
        with pytest.raises(AuditLogError) as caught:
            state.verify_audit()
        assert caught.value.sequence in range(min(places), max(places) + 2)
    else:
        state.verify_audit()
    restored()


@DRAWN
@given(sequence=st.one_of(st.integers(-3, 0), st.integers(ENTRIES + 1, ENTRIES + 3)), chained=st.booleans())
def test_an_entry_that_somebody_adds_is_detected(
    state: State, intruder: Callable[..., None], restored: Callable[[], None], sequence: int, chained: bool
) -> None:
    before = entries(state)
    row = {**before[-1], "sequence": sequence, "kind": "forged", "previous": before[-1]["hash"]}
    if chained and sequence > 0:
        row["hash"] = entry_hash(sequence, row["time"], row["kind"], row["body"], row["previous"])
    intruder(insert(t.audit).values(row))
    with pytest.raises(AuditLogError):
        state.verify_audit()
    restored()


@pytest.mark.parametrize("place", range(1, ENTRIES + 1))
def test_an_entry_put_in_the_middle_is_detected(state: State, intruder: Callable[..., None], place: int) -> None:
    before = entries(state)
    moved = [{**entry, "sequence": entry["sequence"] + 1} for entry in before[place - 1 :]]
    forged = {**before[place - 1], "kind": "forged"}
    forged["hash"] = entry_hash(place, forged["time"], forged["kind"], forged["body"], forged["previous"])
    intruder(delete(t.audit).where(t.audit.c.sequence >= place), insert(t.audit).values([forged, *moved]))
    with pytest.raises(AuditLogError) as caught:
        state.verify_audit()
    assert caught.value.sequence == place + 1


def rebuilt(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries chained anew, as somebody without the key can do."""
    previous, chained = START, []
    for sequence, row in enumerate(rows, start=1):
        entry = {**row, "sequence": sequence, "previous": previous}
        previous = entry_hash(sequence, row["time"], row["kind"], row["body"], previous)
        chained.append({**entry, "hash": previous})
    return chained


@pytest.mark.parametrize("keep", [0, 1, ENTRIES - 1, ENTRIES])
@pytest.mark.parametrize("head", ["left", "moved"])
def test_a_chain_that_was_computed_anew_is_detected(
    state: State, intruder: Callable[..., None], keep: int, head: str
) -> None:
    before = entries(state)
    chain = rebuilt([*before[:keep], *({**entry, "body": "{}"} for entry in before[keep:])][: max(keep, 1)])
    intruder(delete(t.audit), insert(t.audit).values(chain))
    if head == "moved":
        intruder(update(t.audit_head).values(length=len(chain), hash=chain[-1]["hash"]))
    if chain == before and head in {"left", "moved"}:
        state.verify_audit()
        return
    with pytest.raises(AuditLogError):
        state.verify_audit()


@pytest.mark.parametrize("field", ["length", "hash", "mac"])
def test_an_edit_of_the_head_is_detected_and_nothing_is_appended_to_it(
    state: State, intruder: Callable[..., None], field: str
) -> None:
    intruder(update(t.audit_head).values({field: ENTRIES - 1 if field == "length" else b"x" * 32}))
    with pytest.raises(AuditLogError):
        state.verify_audit()
    with pytest.raises(CapsuleError, match="audit verify"):
        state.audit_head()
    for action in (lambda: fill(state, 1), state.audit.look_after):
        with pytest.raises(CapsuleError, match="audit verify"):
            action()


@pytest.mark.parametrize("count", [0, 2])
def test_a_log_without_one_head_is_detected(state: State, intruder: Callable[..., None], count: int) -> None:
    if count == 0:
        intruder(delete(t.audit_head))
    else:
        intruder(insert(t.audit_head).values({**heads(state)[0], "id": 2}))
    with pytest.raises(AuditLogError, match="heads"):
        state.verify_audit()
    with pytest.raises(CapsuleError, match="heads"):
        fill(state, 1)


def test_an_old_state_of_the_whole_log_shows_against_a_head_that_was_noted(
    state: State, intruder: Callable[..., None], restored: Callable[[], None]
) -> None:
    fill(state, 2)
    noted = state.audit_head().hash
    restored()
    assert state.verify_audit().length == ENTRIES  # by itself it is whole
    with pytest.raises(AuditLogError, match="put back"):
        state.verify_audit(noted=noted)


def loosened(file: Path, *, keyless: bool = False) -> None:
    """Makes the tables anew, with columns of any type and perhaps without keys, as who may write to the file can."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        tables = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'"
        ).fetchall()
        for name, made in tables:
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({name})"))
            db.execute(f"ALTER TABLE {name} RENAME TO strict_{name}")
            db.execute(f"CREATE TABLE {name} ({columns})" if keyless else made.replace("STRICT", ""))
            db.execute(f"INSERT INTO {name} SELECT * FROM strict_{name}")
            db.execute(f"DROP TABLE strict_{name}")


STRANGE = (
    "UPDATE audit SET body = CAST(body AS BLOB) WHERE sequence = 3",
    "UPDATE audit SET body = CAST(X'FF' AS TEXT) WHERE sequence = 3",
    "UPDATE audit SET time = 'now' WHERE sequence = 3",
    "UPDATE audit SET hash = 'text' WHERE sequence = 3",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    opened = State(tmp_path / "capsule.db")
    opened.audit.begin(AUDIT_KEY)
    fill(opened)
    opened.close()
    return tmp_path / "capsule.db"


@pytest.mark.parametrize("change", STRANGE)
def test_values_of_strange_types_in_the_file_are_detected(file: Path, change: str) -> None:
    loosened(file)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(change)
    opened = State(file)
    opened.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError) as caught:
        opened.verify_audit()
    assert caught.value.sequence == 3
    opened.close()


def test_the_database_itself_takes_no_value_of_another_type_than_its_columns(file: Path) -> None:
    for change in (*STRANGE[:1], *STRANGE[2:]):
        with closing(sqlite3.connect(file)) as db, pytest.raises(sqlite3.IntegrityError, match="cannot store"):
            db.execute(change)


# ---- what it tells of is still so


HEAD = b"h" * 32


@pytest.fixture
def signed(state: State) -> State:
    """A state with an admission, for which a key was issued and used up, and a settlement."""
    given = Admission(
        digest_of(b"spec"), Digest(b"m" * 32), KeyId(b"k" * 32), b"x" * 32, Ppm(5), Address(OWNER), Address(OWNER), 9
    )  # fmt: skip
    version = Version(0, Ppm(5), KeyId(b"k" * 32), Artifact(Cid("model"), Digest(b"m" * 32)), b"weights")
    admit(state, StoredAdmission(CAMPAIGN, given, b"signature", b"spec", Cid("model"), b"validation"), version)
    state.add_round(CAMPAIGN, settlement(), {})
    return state


def settlement(score: int = 6) -> StoredRound:
    return StoredRound(
        0, HEAD, json.dumps({"score": score, "key": "0x", "outcomes": []}), None, "signed", KeyId(b"k" * 32)
    )


def test_what_was_signed_is_in_the_database_as_the_log_tells(signed: State) -> None:
    assert signed.verify_audit().length == ENTRIES + 4


@pytest.mark.parametrize(
    ("change", "sequence", "words"),
    [
        (update(t.rounds).values(settlement="{}"), ENTRIES + 4, "as it was signed"),
        (delete(t.rounds), ENTRIES + 4, "not in the database any more"),
        (update(t.rounds).values(head=b"x" * 32), ENTRIES + 4, "does not tell of"),
        (update(t.admissions).values(start_score=1), ENTRIES + 3, "as it was signed"),
        (update(t.admissions).values(model=b"x" * 32), ENTRIES + 3, "as it was signed"),
        (delete(t.admissions), ENTRIES + 3, "not in the database any more"),
        (update(t.admissions).values(spec=b"another"), ENTRIES + 4, "spec of campaign"),
        (update(t.versions).values(score=6), ENTRIES + 4, "none that was signed"),
        (update(t.versions).values(model=b"x" * 32), ENTRIES + 4, "none that was signed"),
        (update(t.versions).values(campaign=b"x" * 32), ENTRIES + 4, "none that was signed"),
    ],
)
def test_a_changed_or_deleted_signature_is_found(
    signed: State, intruder: Callable[..., None], change: Any, sequence: int, words: str
) -> None:
    intruder(change)
    with pytest.raises(AuditLogError, match=words) as caught:
        signed.verify_audit()
    assert caught.value.sequence == sequence


@pytest.mark.parametrize("log", ["left", "edited"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_round_whose_settlement_was_deleted_is_not_signed_again(
    signed: State, target: Path | str, intruder: Callable[..., None], log: str, restarted: bool
) -> None:
    intruder(delete(t.rounds))
    if log == "edited":
        intruder(update(t.audit).where(t.audit.c.kind == "settlement").values(kind="trial"))
    state = State(target) if restarted else signed
    state.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError, match=r"was signed|was changed"):
        state.add_round(CAMPAIGN, settlement(score=7), {})
    assert state.rounds(CAMPAIGN) == []
    assert state.add_round(CAMPAIGN, dataclasses.replace(settlement(), head=b"y" * 32), {}) if log == "left" else True
    state.close()


FORGED = {
    "a version that nobody made": (
        insert(t.keys).values(id=b"f" * 32, modulus=b"n", use="lost", time=9.0, born=10**6),
        insert(t.versions).values(
            campaign=CAMPAIGN, version=999, score=5, key=b"f" * 32, model=b"m" * 32, model_cid="model"
        ),
    ),
    "a younger key": (update(t.keys).values(born=10**6),),
    "a version under a younger key": (update(t.versions).values(key=b"y" * 32),),
}


@pytest.mark.parametrize("what", FORGED)
def test_no_row_says_from_when_on_the_log_is_looked_through_for_a_rounds_settlement(
    signed: State, target: Path | str, intruder: Callable[..., None], what: str
) -> None:
    """A process that is started again has checked nothing yet."""
    signed.add_key(dataclasses.replace(spare(KeyId(b"y" * 32)), born=signed.audit_head().length))
    intruder(delete(t.rounds), *FORGED[what])
    state = State(target)
    state.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError, match="was signed") as caught:
        state.add_round(CAMPAIGN, settlement(score=7), {})
    assert caught.value.sequence == ENTRIES + 4
    assert state.rounds(CAMPAIGN) == []
    state.close()


def test_a_round_that_was_signed_twice_is_found(signed: State) -> None:
    again = settlement(score=7)
    with signed.transaction() as db:
        body = {"campaign": CAMPAIGN, "round": again.round, "head": again.head, "settlement": b"s" * 32}
        signed.audit.append(db, "settlement", body)
    with pytest.raises(AuditLogError, match=f"signed before, in entry {ENTRIES + 4}") as caught:
        signed.verify_audit()
    assert caught.value.sequence == ENTRIES + 5


TWINS = {
    "settlement": ("UPDATE rounds SET campaign = lower(hex(campaign))",),
    "settlement's head": ("UPDATE rounds SET head = lower(hex(head))",),
    "another settlement's": (
        "UPDATE rounds SET (round, head, settlement) = (SELECT round, head, settlement FROM rounds WHERE round = 1)",
        "UPDATE rounds SET campaign = lower(hex(campaign)) WHERE rowid = 1",
    ),
    "round's number": ("UPDATE rounds SET round = CAST(round AS TEXT) WHERE round = 0",),
    "admission": ("UPDATE admissions SET campaign = lower(hex(campaign))",),
    "admission's key": ("UPDATE admissions SET key = lower(hex(key))",),
    "version": ("UPDATE versions SET campaign = lower(hex(campaign))",),
    "key": ("UPDATE keys SET id = lower(hex(id))",),
    "key's owner": ("UPDATE keys SET owner = CAST(owner AS BLOB)",),
    "box": ("UPDATE boxes SET digest = lower(hex(digest))",),
    "row of the log": ("UPDATE audit SET sequence = CAST(sequence AS REAL)",),
}


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
@pytest.mark.parametrize("what", TWINS)
def test_a_row_whose_bytes_became_their_digits_is_found(signed: State, target: Path, what: str) -> None:
    """In SQLite, whose columns take values of any type once somebody has taken their strictness away."""
    signed.add_round(CAMPAIGN, dataclasses.replace(settlement(), round=1), {})
    signed.use_up_box(Digest(b"b" * 32))
    signed.verify_audit()
    signed.close()
    loosened(target, keyless=True)
    with closing(sqlite3.connect(target)) as db, db:
        for change in TWINS[what]:
            db.execute(change)
    again = State(target)
    again.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError, match=r"was changed|missing"):
        again.verify_audit()
    again.close()


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_a_row_that_is_in_the_database_twice_is_found(signed: State, target: Path) -> None:
    signed.add_round(CAMPAIGN, dataclasses.replace(settlement(), round=1), {})
    signed.close()
    loosened(target, keyless=True)
    with closing(sqlite3.connect(target)) as db, db:
        db.execute("DELETE FROM rounds WHERE round = 0")
        db.execute("INSERT INTO rounds SELECT * FROM rounds")
    again = State(target)
    again.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError, match="twice"):
        again.verify_audit()
    again.close()


# ---- keys and boxes serve once


KEYS = [KeyId(bytes([number]) * 32) for number in range(4)]
FRESH = range(ENTRIES + 1, ENTRIES + 6)
"""The entries about keys and boxes: one is issued, used up with a box, another issued, one taken for a round."""


@pytest.fixture
def taken(state: State) -> State:
    """A state with a used key, an issued one, a round's and a spare one, and a used box."""
    for number, key in enumerate(KEYS):
        state.add_key(spare(key, float(number)))
    assert state.claim_key("issued", Address(OWNER), 1.0, reseal=unsealed) is not None
    assert state.use_up_key(KEYS[0], Address(OWNER), 1.0, reseal=unsealed)
    assert state.use_up_box(Digest(b"b" * 32))
    assert state.claim_key("issued", Address(OWNER), 2.0, reseal=unsealed) is not None
    assert state.claim_key("round", None, 3.0, campaign=CAMPAIGN, reseal=unsealed) is not None
    return state


def test_keys_and_boxes_stand_as_the_log_tells(taken: State) -> None:
    assert taken.verify_audit().length == FRESH[-1]
    with taken.transaction() as db:
        db.execute(update(t.keys).where(t.keys.c.id == KEYS[0]).values(secret=None, deleted=9.0))
    assert taken.verify_audit().length == FRESH[-1]


@pytest.mark.parametrize(
    ("change", "sequence", "words"),
    [
        (update(t.keys).where(t.keys.c.id == KEYS[0]).values(use="issued"), FRESH[1], "the log tells of"),
        (update(t.keys).where(t.keys.c.id == KEYS[0]).values(use="spare", owner=None), FRESH[1], "the log tells of"),
        (update(t.keys).where(t.keys.c.id == KEYS[1]).values(owner="0xother"), FRESH[3], "the log tells of"),
        (update(t.keys).where(t.keys.c.id == KEYS[2]).values(use="issued"), FRESH[4], "the log tells of"),
        (update(t.keys).where(t.keys.c.id == KEYS[2]).values(campaign=b"x" * 32), FRESH[4], "the log tells of"),
        (update(t.keys).where(t.keys.c.id == KEYS[3]).values(use="issued"), FRESH[4], "does not tell"),
        (delete(t.keys).where(t.keys.c.id == KEYS[0]), FRESH[1], "not in the database any more"),
        (delete(t.boxes), FRESH[2], "not in the database any more"),
    ],
)
def test_a_key_or_box_that_could_serve_again_is_found(
    taken: State, intruder: Callable[..., None], change: Any, sequence: int, words: str
) -> None:
    intruder(change)
    with pytest.raises(AuditLogError, match=words) as caught:
        taken.verify_audit()
    assert caught.value.sequence == sequence


@pytest.mark.parametrize("log", ["left", "cut", "rewritten"])
def test_a_key_that_was_made_spare_again_is_not_taken(taken: State, intruder: Callable[..., None], log: str) -> None:
    intruder(update(t.keys).where(t.keys.c.id == KEYS[0]).values(use="spare", owner=None, time=0.0))
    if log != "left":
        forget(taken, intruder, log)
    with pytest.raises(CapsuleError):
        taken.claim_key("round", None, 4.0, campaign=CAMPAIGN, reseal=unsealed)
    with pytest.raises(AuditLogError):
        taken.verify_audit()


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"key":7}', '{"key":"no hex"}', '{"key":"00","use":[]}', "[" * 500])
def test_an_entry_that_tells_nonsense_is_refused_as_one_that_was_changed(
    state: State, target: Path | str, intruder: Callable[..., None], body: str
) -> None:
    last = entries(state)[-1]
    changed = {"kind": "key", "body": body}
    changed["hash"] = entry_hash(last["sequence"], last["time"], "key", body, last["previous"])
    intruder(update(t.audit).where(t.audit.c.sequence == last["sequence"]).values(changed))
    other = State(target)
    other.audit.unlock(AUDIT_KEY)
    with pytest.raises(AuditLogError) as caught:
        other.check_unsigned(CAMPAIGN, 0, bytes(32))
    assert caught.value.sequence in {last["sequence"], last["sequence"] + 1}
    other.close()


def test_a_key_is_issued_once_until_it_is_used_or_a_backup_is_restored(taken: State) -> None:
    owner = Address(OWNER)
    assert [taken.issued_once(spare(key), owner) for key in KEYS] == [False, True, False, False]
    assert not taken.issued_once(spare(KEYS[1]), Address("0x00000000000000000000000000000000000000bB"))
    for moved, still in ((True, True), (False, False)):
        with taken.transaction() as db:
            taken.audit.append(db, "restore", {"made": 1, "length": 1, "head": "00", "moved": moved, "since": 1})
        assert taken.issued_once(spare(KEYS[1]), owner) is still
    assert taken.claim_key("issued", owner, 5.0, reseal=unsealed) is not None
    assert taken.issued_once(spare(KEYS[3]), owner), "issued by the restored Capsule"


def forget(state: State, intruder: Callable[..., None], how: str) -> None:
    """Has the log's rows tell nothing of the first key's use, as somebody without the key can do."""
    rows = entries(state)
    if how == "cut":
        intruder(delete(t.audit).where(t.audit.c.sequence > FRESH[0]))
    elif how == "in place":
        intruder(update(t.audit).where(t.audit.c.sequence.in_((FRESH[0], FRESH[1]))).values(kind="trial"))
    else:
        chain = rebuilt([{**row, "kind": "trial"} if row["sequence"] in FRESH[:2] else row for row in rows])
        intruder(delete(t.audit), insert(t.audit).values(chain), update(t.audit_head).values(hash=chain[-1]["hash"]))


@pytest.mark.parametrize("how", ["cut", "in place", "rewritten"])
@pytest.mark.parametrize("known", [True, False], ids=["read before", "never read"])
def test_a_used_key_does_not_admit_again_whatever_becomes_of_its_rows(
    taken: State, target: Path | str, intruder: Callable[..., None], how: str, known: bool
) -> None:
    """The row is put back as it was before, with the secret that was sealed for it, and the log tells nothing."""
    state = State(target)
    state.audit.unlock(AUDIT_KEY)
    try:
        if known:
            assert not state.issued_once(spare(KEYS[0]), Address(OWNER))
        intruder(update(t.keys).where(t.keys.c.id == KEYS[0]).values(use="issued", used=None))
        forget(taken, intruder, how)
        try:
            assert not state.use_up_key(KEYS[0], Address(OWNER), 9.0, reseal=unsealed)
        except CapsuleError:
            assert how != "in place" or not known
        else:
            assert known, "it had checked these entries, and remembers them"
    finally:
        state.close()


def test_a_log_that_is_put_back_while_a_capsule_runs_is_noticed_at_the_next_key(
    taken: State, intruder: Callable[..., None]
) -> None:
    rows, head = entries(taken), heads(taken)
    fill(taken, 1)
    assert taken.issued_once(spare(KEYS[1]), Address(OWNER))
    intruder(delete(t.audit), delete(t.audit_head), insert(t.audit).values(rows), insert(t.audit_head).values(head))
    with pytest.raises(AuditLogError, match="put back"):
        taken.issued_once(spare(KEYS[1]), Address(OWNER))


def test_looking_keys_up_costs_what_was_appended_since_and_not_the_whole_log(taken: State, target: Path | str) -> None:
    state = State(target)
    state.audit.unlock(AUDIT_KEY)
    read: list[int] = []
    event.listen(state._engine, "before_cursor_execute", lambda _db, _cursor, text, values, *_: asked(text, values))

    def asked(text: str, values: Any) -> None:
        if "FROM audit WHERE sequence >" in text:
            after, last = values.values() if isinstance(values, dict) else values
            read.append(last - after)

    def cost(born: int = 0) -> int:
        read.clear()
        state.issued_once(StoredKey(KEYS[1], b"n", b"", "issued", None, born=born), Address(OWNER))
        return sum(read)

    try:
        assert cost(born=ENTRIES) == FRESH[-1] - ENTRIES, "back to before the key"
        assert cost(born=ENTRIES) == 0
        assert cost() == ENTRIES, "back to before an older one"
        assert cost() == 0
        fill(taken, 3)
        assert cost() == 3
    finally:
        state.close()
