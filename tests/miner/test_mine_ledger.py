"""The ledger by itself: each event once, no state twice, and files of other versions left alone."""

import os
import sqlite3
from dataclasses import replace

import pytest

from mine.data import Column, Dataset, Kind, Source
from mine.errors import DataError, LedgerError
from mine.ledger import Ledger
from mine.records import Aim, Fate, Prospect, Purpose, State, Submission, Transaction
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.records import NATIVE, Admission, PayoutBase, Terms, Verdict
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, Wei, ether

ID, OTHER = CampaignId(b"\x01" * 32), CampaignId(b"\x02" * 32)
MINE, OWNER = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
TERMS = Terms(
    NATIVE, ether(1), Wei(10), Ppm(100_000), Ppm(900_000), PayoutBase.TARGET, Ppm(1), 2, 3, 5, 60, 600, 10**10
)
ADMISSION = Admission(
    Digest(b"s" * 32), Digest(b"m" * 32), KeyId(b"k" * 32), b"x" * 32, Ppm(100_000), OWNER, OWNER, 10**10
)


def created(campaign: CampaignId = ID) -> CampaignCreated:
    return CampaignCreated(1, 0, b"t" * 32, campaign, OWNER, OWNER, TERMS, ADMISSION, Cid("spec"), Cid("model"))


def submission(number: int = 0) -> Submission:
    return Submission(
        ID, number, State.TRAINED, 0, "d", Artifact(Cid("box"), Digest(b"a" * 32)), Digest(b"g" * 32), Wei(10)
    )


SIGNED = Transaction(b"hash", Aim(Purpose.SUBMIT, ID, 0), 7, b"raw", 1.5)


def modes(home):
    return {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}


def test_the_ledger_and_what_sqlite_keeps_beside_it_are_for_their_owner_alone(tmp_path):
    before = os.umask(0o022)
    try:
        with Ledger(tmp_path / "mine.db") as ledger:
            ledger.record("posted", {})
            assert modes(tmp_path) == dict.fromkeys(("mine.db", "mine.db-wal", "mine.db-shm", "audit.jsonl"), 0o600)
            for name in ("mine.db", "mine.db-wal", "mine.db-shm"):  # as a copy is that was put back
                (tmp_path / name).chmod(0o644)
            with Ledger(tmp_path / "mine.db") as again:
                again.record("posted", {})
                assert set(modes(tmp_path).values()) == {0o600}
    finally:
        os.umask(before)


def test_a_ledger_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(LedgerError, match="cannot be used: No such file or directory"):
        Ledger(tmp_path / "nowhere" / "mine.db")


def test_a_round_is_never_taken_to_have_ended_later_than_now(tmp_path):
    with Ledger(tmp_path / "mine.db") as ledger:
        assert ledger.ended(ID, 0, 90_000.0) == 90_000.0
        assert ledger.ended(ID, 0, 3_600.0) == 3_600.0
        assert ledger.ended(ID, 0, 7_200.0) == 3_600.0


def stored(ledger: Ledger, number: int = 0) -> None:
    ledger.train(submission(number), b"box")
    ledger.store(submission(number), Cid("box"))


def settled(number: int, *, advances: bool) -> RoundSettled:
    value = b"n" * 32 if advances else bytes(32)
    return RoundSettled(
        3, 0, b"t" * 32, ID, number, Ppm(500_000), 1, Digest(value), KeyId(value), Digest(value), Cid("next"), Cid("p"),
        Wei(5),
    )  # fmt: skip


def judged(number: int, verdict: Verdict) -> GradientJudged:
    return GradientJudged(3, 0, b"t" * 32, ID, number, MINE, 0, verdict, 1, Ppm(7), Wei(10**30), Wei(9))


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "mine.db") as opened:
        opened.apply("net", MINE, [created()], before=None, after=2)
        yield opened


def test_events_are_applied_once_even_when_two_processes_read_them(ledger):
    assert ledger.apply("net", MINE, [created(OTHER)], before=2, after=3)
    assert not ledger.apply("net", MINE, [created(OTHER)], before=2, after=3)
    assert [campaign.id for campaign in ledger.campaigns("net")] == [ID, OTHER]
    assert ledger.cursor("net") == 3


def test_a_failure_among_events_leaves_the_cursor_and_everything_before_it(ledger):
    with pytest.raises(LedgerError):
        ledger.apply("net", MINE, [created(OTHER), replace(created(OTHER), block=1 << 70)], before=2, after=3)
    assert ledger.cursor("net") == 2
    assert [campaign.id for campaign in ledger.campaigns("net")] == [ID]


def test_a_campaign_whose_block_was_taken_back_is_taken_from_its_new_block(ledger):
    ledger.apply("net", MINE, [settled(0, advances=True)], before=2, after=3)
    again = [replace(created(), block=3, transaction=b"u" * 32), settled(0, advances=True)]
    assert ledger.apply("net", MINE, again, before=3, after=4)
    campaign = ledger.campaign(ID)
    assert (campaign.block, campaign.transaction, campaign.round, campaign.version) == (3, b"u" * 32, 1, 1)


def test_the_ledger_survives_being_closed(ledger, tmp_path):
    stored(ledger)
    ledger.sign(ledger.submission(ID, 0), SIGNED, "net")
    ledger.close()
    with Ledger(tmp_path / "mine.db") as again:
        found = again.submission(ID, 0)
        assert (found.state, found.hash, found.artifact.cid) == (State.SIGNED, b"hash", "box")
        assert again.transactions("net", aim=SIGNED.aim) == [SIGNED]
        assert again.box(found) == b"box"
        assert again.campaign(ID).admission == ADMISSION


def test_an_advancing_round_brings_the_next_model_and_a_standing_one_keeps_it(ledger):
    ledger.apply("net", MINE, [settled(0, advances=False)], before=2, after=3)
    campaign = ledger.campaign(ID)
    assert (campaign.round, campaign.version, campaign.model.cid) == (1, 0, "model")
    ledger.apply("net", MINE, [settled(1, advances=True)], before=3, after=4)
    campaign = ledger.campaign(ID)
    assert (campaign.round, campaign.version, campaign.model.cid, campaign.key) == (2, 1, "next", b"n" * 32)


def test_a_verdict_is_final_and_drops_the_box(ledger):
    stored(ledger)
    ledger.apply("net", MINE, [judged(0, Verdict.KEPT), settled(0, advances=True)], before=2, after=3)
    found = ledger.submission(ID, 0)
    assert (found.state, found.verdict, found.payout) == (State.SETTLED, Verdict.KEPT, 10**30)
    assert ledger.box(found) is None
    # What a slower part of the process believes does not undo it.
    assert ledger.send(submission(), 0).state is State.SETTLED
    assert ledger.miss(submission(), "late").state is State.SETTLED
    with pytest.raises(LedgerError, match="already"):
        ledger.sign(submission(), SIGNED, "net")


def test_what_was_withdrawn_is_paid_and_later_verdicts_are_not(ledger):
    for number in (0, 1):
        stored(ledger, number)
        ledger.apply("net", MINE, [judged(number, Verdict.KEPT)], before=2 + 2 * number, after=3 + 2 * number)
        events = [Withdrawn(3, 0, b"t" * 32, NATIVE, MINE, OWNER, Wei(1))] if number == 0 else []
        ledger.apply("net", MINE, events, before=3 + 2 * number, after=4 + 2 * number)
    assert [ledger.submission(ID, number).state for number in (0, 1)] == [State.PAID, State.SETTLED]
    assert ledger.verdicts(ID) == [Verdict.KEPT, Verdict.KEPT]


def test_work_that_came_too_late_counts_as_work_for_nothing(ledger):
    stored(ledger)
    ledger.miss(submission(), "too late")
    assert ledger.verdicts(ID) == [Verdict.LEFT_OUT]
    assert [one.state for one in ledger.history(ID)] == [State.MISSED]


def test_of_transactions_with_one_nonce_one_is_mined_and_the_others_are_out(ledger):
    again = replace(SIGNED, hash=b"other", raw=b"raw2", time=2.5)
    for one in (SIGNED, again):
        ledger.intend("net", one)
    ledger.intend("elsewhere", SIGNED)
    assert ledger.transactions("net", Fate.SIGNED, aim=SIGNED.aim) == [SIGNED, again]
    ledger.mined("net", SIGNED, succeeded=True, block=5, gas_used=70_000, gas_price=Wei(3))
    assert ledger.transactions("net", Fate.SIGNED) == []
    done, out = ledger.transactions("net")
    assert (done.fate, done.gas_used, done.gas_price, out.fate) == (Fate.MINED, 70_000, 3, Fate.REPLACED)
    assert ledger.transactions("elsewhere") == [SIGNED], "another chain's nonces are another matter"
    assert "raw" not in repr(SIGNED)


def test_what_did_not_get_into_the_last_round_of_a_closed_campaign_was_missed(ledger):
    stored(ledger)
    ledger.apply("net", MINE, [CampaignClosed(3, 0, b"t" * 32, ID, OWNER, Wei(0))], before=2, after=3)
    assert ledger.submission(ID, 0).state is State.MISSED


def test_every_round_begins_as_found(ledger):
    assert ledger.prospects("net") == [Prospect(ID, 0, State.FOUND)]
    ledger.look(Prospect(ID, 0, State.REFUSED, note="no"))
    ledger.apply("net", MINE, [settled(0, advances=True)], before=2, after=3)
    assert ledger.prospects("net") == [Prospect(ID, 1, State.FOUND)]


def test_an_expired_round_returns_the_bond_of_what_was_in_it_only(ledger):
    stored(ledger)
    ledger.send(submission(0), 1)
    ledger.apply("net", MINE, [RoundExpired(3, 0, b"t" * 32, ID, 0)], before=2, after=3)
    stored(ledger, 1)
    ledger.apply("net", MINE, [RoundExpired(4, 0, b"t" * 32, ID, 1)], before=3, after=4)
    assert (ledger.submission(ID, 0).state, ledger.submission(ID, 0).bond_returned) == (State.EXPIRED, 10)
    assert (ledger.submission(ID, 1).state, ledger.submission(ID, 1).bond_returned) == (State.MISSED, None)


def test_a_gradient_that_another_copy_of_the_mine_posted_is_known(ledger):
    event = GradientSubmitted(2, 0, b"t" * 32, ID, 0, MINE, 2, Digest(b"b" * 32), Digest(b"h" * 32), Cid("there"))
    ledger.apply("net", MINE, [event], before=2, after=3)
    found = ledger.submission(ID, 0)
    assert (found.state, found.index, found.artifact.cid) == (State.SENT, 2, "there")


def test_a_round_is_prepared_once(ledger):
    stored(ledger)
    with pytest.raises(LedgerError):
        ledger.train(submission(), b"another")


def test_a_data_set_keeps_its_name(ledger, tmp_path):
    dataset = Dataset(
        "d", Source(Kind.CSV, str(tmp_path / "d.csv")), ("y",),
        (Column("a", "number", -1.5, 2.5, missing=3, bad=1, unit="kg"), Column("b", "boolean", 0.0, 1.0)),
        (("no", 3), ("yes", 4)), 8, left=("text",), unlabelled=1, aliases=(("weight", "a"),), fingerprint="f",
        state="s",
    )  # fmt: skip
    ledger.add_dataset(dataset)
    assert ledger.datasets() == [dataset]
    with pytest.raises(DataError, match="--replace"):
        ledger.add_dataset(dataset)
    ledger.add_dataset(dataset, replace=True)


def test_a_ledger_of_a_later_format_is_left_alone(tmp_path):
    path = tmp_path / "mine.db"
    with Ledger(path):
        pass
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(LedgerError, match="99"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "mine.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path)
