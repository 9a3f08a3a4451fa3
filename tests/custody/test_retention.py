"""What is deleted when, and that nothing else is."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from custody import (
    OVER,
    OWNER,
    PASSPHRASE,
    RUNNING,
    VALIDATION,
    Filled,
    all_values,
    cheap_keystores,
    check_everything_opens,
    fill,
    make_home,
    pool_of,
)
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from capsule.custody.retention import Kept, Retention, delete_secrets, is_due
from capsule.errors import CapsuleError
from capsule.home import OpenHome
from capsule.policy import Policy
from capsule.secret import CapsuleSecretError, Record
from capsule.state import Told
from capsule.state import tables as t
from sonar.chain.lookups import Block

DAY = 86_400.0
SEEN = 1e13
"""The time of the last block, after every other one."""
POLICY = Policy(retention_seconds=30 * DAY, abandoned_seconds=365 * DAY)


@pytest.fixture(scope="module", autouse=True)
def _cheap_keystores() -> Iterator[None]:
    strong = Account.encrypt
    cheap_keystores()
    yield
    Account.encrypt = strong  # type: ignore[method-assign]


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenHome]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    made = make_home(tmp_path / "capsule", url)
    yield made
    made.state.close()


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def tip(clock: Clock) -> Block:
    """The last block that `fill` tells of, at the present time."""
    return Block(8, b"h" * 32, b"p" * 32, int(clock.now))


def kept(state: str | None, *, ended: float | None = None, delivered: float | None = None) -> Kept:
    return Kept(RUNNING, 1_000, state, ended, delivered)


def test_a_delivered_campaign_is_due_after_the_retention_time_of_its_last_delivery() -> None:
    campaign = kept("over", ended=10 * DAY, delivered=20 * DAY)
    assert not is_due(campaign, POLICY, 50 * DAY - 1, SEEN)
    assert is_due(campaign, POLICY, 50 * DAY, SEEN)
    assert not is_due(kept("over", ended=25 * DAY, delivered=20 * DAY), POLICY, 50 * DAY, SEEN)


def test_a_campaign_that_nobody_fetched_is_due_after_the_longer_time() -> None:
    campaign = kept("over", ended=10 * DAY)
    assert not is_due(campaign, POLICY, 375 * DAY - 1, SEEN)
    assert is_due(campaign, POLICY, 375 * DAY, SEEN)


def test_an_admission_that_was_never_used_is_due_after_the_longer_time() -> None:
    assert not is_due(kept(None), POLICY, 365 * DAY + 999, SEEN)
    assert is_due(kept(None), POLICY, 365 * DAY + 1_000, SEEN)


@given(
    now=st.floats(0, 1e12), ended=st.none() | st.floats(0, 1e12), delivered=st.none() | st.floats(0, 1e12),
    retention=st.floats(0, 1e9), abandoned=st.floats(0, 1e9),
)  # fmt: skip
def test_a_running_campaign_is_never_due(
    now: float, ended: float | None, delivered: float | None, retention: float, abandoned: float
) -> None:
    policy = Policy(retention_seconds=retention, abandoned_seconds=abandoned)
    assert not is_due(kept("running", ended=ended, delivered=delivered), policy, now, SEEN)


@given(
    ended=st.floats(0, 1e9), delivered=st.none() | st.floats(0, 1e9), now=st.floats(0, 1e12), later=st.floats(0, 1e9)
)
def test_what_is_due_stays_due(ended: float, delivered: float | None, now: float, later: float) -> None:
    campaign = kept("over", ended=ended, delivered=delivered)
    if is_due(campaign, POLICY, now, SEEN):
        assert is_due(campaign, POLICY, now + later, SEEN)


def test_what_is_due_is_deleted_and_the_rest_still_opens(home: OpenHome, tmp_path: Path) -> None:
    filled, clock = fill(home), Clock()
    retention = Retention(home.state, POLICY, clock)
    retention.step(tip(clock))
    check_everything_opens(tmp_path / "capsule", home.state, PASSPHRASE, filled)
    home.state.delivered(OVER, OWNER, 2)
    before = home.state.audit_head()
    clock.now += 31 * DAY
    retention.step(tip(clock))

    gone, left = _keys_of(home, filled, OVER), _keys_of(home, filled, RUNNING)
    assert len(gone) == len(left) == 3
    for key_id, data in filled.secrets.items():
        row = home.state.key(key_id)
        assert row is not None, "the row stays"
        assert (row.secret == b"") == (key_id in gone)
        assert (row.deleted is not None) == (key_id in gone)
        if row.secret:
            assert pool_of(home).secret(key_id).to_bytes() == data
    over, running = home.state.admission(OVER), home.state.admission(RUNNING)
    assert over is not None
    assert over.validation == b""
    assert running is not None
    assert home.vault.open(running.validation, Record.VALIDATION, RUNNING) == VALIDATION
    for number in range(3):
        version, other = home.state.version(OVER, number), home.state.version(RUNNING, number)
        assert version is not None
        assert version.weights == b""
        assert other is not None
        assert other.weights
    assert [round_.weights for round_ in home.state.rounds(OVER)] == [None, None]
    told = [(entry.kind, json.loads(entry.body)) for entry in home.state.audit.entries(before.length)]
    assert [kind for kind, _ in told] == ["key deleted"] * 3 + ["campaign deleted"]
    assert {body["key"] for _, body in told[:3]} == {key_id.hex() for key_id in gone}
    assert told[3][1]["campaign"] == OVER.hex()


def test_a_second_look_finds_nothing_more_to_delete(home: OpenHome) -> None:
    fill(home)
    clock = Clock()
    home.state.delivered(OVER, OWNER, 2)
    clock.now += 31 * DAY
    Retention(home.state, POLICY, clock).step(tip(clock))
    head = home.state.audit_head()
    clock.now += DAY
    Retention(home.state, POLICY, clock).step(tip(clock))
    assert home.state.audit_head() == head


def test_secrets_that_are_left_over_after_a_deletion_are_deleted(home: OpenHome) -> None:
    filled = fill(home)
    clock = Clock()
    home.state.delivered(OVER, OWNER, 2)
    clock.now += 31 * DAY
    with home.state.transaction() as db:
        delete_secrets(home.state, db, OVER, clock.now)
        db.execute(update(t.keys).where(t.keys.c.campaign == OVER).values(secret=b"again"))
    Retention(home.state, POLICY, clock).step(tip(clock))
    rows = [home.state.key(key_id) for key_id in _keys_of(home, filled, OVER)]
    assert [row.secret for row in rows if row is not None] == [b""] * 3


def test_nothing_is_deleted_of_a_campaign_that_the_chain_does_not_show_as_over(home: OpenHome) -> None:
    """As while its events are read again: its end is forgotten, or even that it was made."""
    filled, clock = fill(home), Clock()
    home.state.delivered(OVER, OWNER, 2)
    clock.now += 2**34
    for block in (8, 4):
        assert home.state.rewind(block, home.state.position())
        Retention(home.state, POLICY, clock).step(tip(clock))
        for campaign in (OVER, RUNNING):
            assert all(home.state.key(key).secret for key in _keys_of(home, filled, campaign))  # type: ignore[union-attr]
            assert home.state.admission(campaign).validation  # type: ignore[union-attr]


def test_an_end_that_is_taken_back_while_it_is_looked_at_saves_the_campaign(
    home: OpenHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled, clock = fill(home), Clock()
    home.state.delivered(OVER, OWNER, 2)
    clock.now += 31 * DAY
    retention, found = Retention(home.state, POLICY, clock), Retention._kept

    def and_then_rewound(this: Retention) -> list[Kept]:
        rows = found(this)
        assert home.state.rewind(8, home.state.position())
        return rows

    monkeypatch.setattr(Retention, "_kept", and_then_rewound)
    retention.step(tip(clock))
    assert all(home.state.key(key).secret for key in _keys_of(home, filled, OVER))  # type: ignore[union-attr]


def test_a_delivery_is_remembered_when_the_chain_is_read_again(home: OpenHome) -> None:
    fill(home)
    home.state.delivered(OVER, OWNER, 2)
    (before,) = [known.delivered for known in home.state.campaigns() if known.campaign == OVER]
    assert home.state.rewind(4, home.state.position())
    assert home.state.follow(Told(9, ((OVER, 4),), over=((OVER, 8),)), home.state.position())
    (known,) = home.state.campaigns()
    assert (known.campaign, known.delivered) == (OVER, before)
    assert before is not None


@pytest.mark.parametrize(
    ("campaign", "due"),
    [
        (kept("over", ended=10 * DAY, delivered=20 * DAY), 50 * DAY),
        (kept("over", ended=10 * DAY), 375 * DAY),
        (kept(None), 365 * DAY + 1_000),
    ],
    ids=["delivered", "abandoned", "never used"],
)
def test_neither_a_clock_that_jumped_ahead_nor_a_block_of_a_later_time_makes_anything_due(
    campaign: Kept, due: float
) -> None:
    assert not is_due(campaign, POLICY, 1e12, due - 1)
    assert not is_due(campaign, POLICY, due - 1, 1e12)
    assert is_due(campaign, POLICY, due, due)


def test_a_clock_that_jumped_ahead_retires_no_key(home: OpenHome) -> None:
    filled, clock = fill(home), Clock()
    (issued,) = filled.keys["issued"]
    right = tip(clock)
    clock.now += 366 * DAY
    Retention(home.state, POLICY, clock).step(right)
    assert home.state.key(issued).secret  # type: ignore[union-attr]
    Retention(home.state, POLICY, clock).step(tip(clock))
    assert not home.state.key(issued).secret  # type: ignore[union-attr]


def test_a_key_that_nobody_used_for_long_is_retired(home: OpenHome) -> None:
    filled, clock = fill(home), Clock()
    (issued,) = filled.keys["issued"]
    clock.now += 364 * DAY
    retention = Retention(home.state, POLICY, clock)
    retention.step(tip(clock))
    assert home.state.key(issued).secret  # type: ignore[union-attr]
    clock.now += 2 * DAY
    retention.step(tip(clock))
    row = home.state.key(issued)
    assert row is not None
    assert (row.use, row.secret) == ("used", b"")
    assert not pool_of(home).use_up(issued, OWNER)
    home.state.verify_audit()


def test_what_is_read_meanwhile_is_scrubbed_as_soon_as_nobody_reads_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = make_home(tmp_path / "capsule")
    filled, clock = fill(home), Clock()
    home.state.delivered(OVER, OWNER, 2)
    sealed = [home.state.key(key_id).secret for key_id in _keys_of(home, filled, OVER)]  # type: ignore[union-attr]
    clock.now += 31 * DAY
    retention = Retention(home.state, POLICY, clock)
    with home.state.snapshot() as db:  # as a backup does
        db.execute(select(t.keys)).all()
        retention.step(tip(clock))
        clock.now += 61
        retention.step(tip(clock))
        assert any(_in_files(tmp_path, each) for each in sealed)
        assert "still be in the log" in caplog.text
    clock.now += 10
    retention.step(tip(clock))
    assert not any(_in_files(tmp_path, each) for each in sealed), "long before an hour is over"
    home.state.close()


def test_it_looks_once_an_hour(home: OpenHome) -> None:
    fill(home)
    clock = Clock()
    home.state.delivered(OVER, OWNER, 2)
    clock.now += 30 * DAY - 1000
    retention = Retention(home.state, POLICY, clock)
    retention.step(tip(clock))
    clock.now += 1100
    retention.step(tip(clock))
    assert home.state.version(OVER, 2).weights  # type: ignore[union-attr]
    clock.now += 3000
    retention.step(tip(clock))
    assert not home.state.version(OVER, 2).weights  # type: ignore[union-attr]


def test_keys_of_failed_admissions_go_and_issued_ones_stay(home: OpenHome) -> None:
    filled = fill(home)
    clock = Clock()
    (issued,) = filled.keys["issued"]
    clock.now += 31 * DAY
    Retention(home.state, POLICY, clock).step(tip(clock))
    assert home.state.key(issued).secret  # type: ignore[union-attr]
    assert pool_of(home, clock).use_up(issued, OWNER)
    clock.now += 29 * DAY
    Retention(home.state, POLICY, clock).step(tip(clock))
    assert home.state.key(issued).secret, "an admission may be at work with it"  # type: ignore[union-attr]
    clock.now += 2 * DAY
    Retention(home.state, POLICY, clock).step(tip(clock))
    assert home.state.key(issued).secret == b""  # type: ignore[union-attr]
    for key_id in filled.keys["used"] + filled.keys["spare"]:
        assert home.state.key(key_id).secret  # type: ignore[union-attr]


def test_a_deleted_key_is_not_found_again_and_says_why(home: OpenHome) -> None:
    filled = fill(home)
    pool = pool_of(home)
    (issued,) = filled.keys["issued"]
    assert pool.secret(issued).to_bytes() == filled.secrets[issued]
    with home.state.transaction() as db:
        db.execute(update(t.keys).where(t.keys.c.id == issued).values(secret=None, deleted=0.0))
    with pytest.raises(CapsuleError, match="was deleted"):
        pool.secret(issued)


def test_what_was_deleted_is_in_no_file_of_sqlite(tmp_path: Path) -> None:
    home = make_home(tmp_path / "capsule")
    try:
        filled, clock = fill(home), Clock()
        home.state.delivered(OVER, OWNER, 2)
        sealed = [home.state.key(key_id).secret for key_id in _keys_of(home, filled, OVER)]  # type: ignore[union-attr]
        sealed.append(home.state.admission(OVER).validation)  # type: ignore[union-attr]
        assert all(_in_files(tmp_path, each) for each in sealed)
        clock.now += 31 * DAY
        Retention(home.state, POLICY, clock).step(tip(clock))
        assert not any(_in_files(tmp_path, each) for each in sealed)
        assert not [value for value in all_values(home.state) if value in sealed]
    finally:
        home.state.close()


def test_a_record_that_was_deleted_does_not_open_as_an_empty_one(home: OpenHome) -> None:
    with pytest.raises(CapsuleSecretError):
        home.vault.open(b"", Record.WEIGHTS, RUNNING)


def _keys_of(home: OpenHome, filled: Filled, campaign: bytes) -> list[bytes]:
    stored = home.state.admission(campaign)  # type: ignore[arg-type]
    assert stored is not None
    rows = [key for key in home.state.keys() if key.campaign == campaign]  # noqa: SIM118  (a method)
    return [stored.admission.key, *(row.id for row in rows)]


def _in_files(directory: Path, sealed: bytes) -> bool:
    """Whether the start of the bytes, which fits a page of the database, is in a file of the directory."""
    return any(sealed[:100] in path.read_bytes() for path in directory.rglob("*") if path.is_file())
