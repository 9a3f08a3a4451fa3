"""What the chain told: facts and the place to read on change together, and a history that changed is forgotten."""

import dataclasses
import json

import pytest
from stored import CAMPAIGN, MINE, Clock, admission, admit, at_once, signed, submission, version

from capsule.state import (
    Final,
    Position,
    State,
    Submission,
    Told,
)
from sonar.units import Address, CampaignId


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
    admit(state, admission(), version())
    state.add_round(CAMPAIGN, signed(0, b"0" * 32), {})
    state.add_round(CAMPAIGN, signed(1, b"1" * 32), {})
    state.add_round(CAMPAIGN, signed(2, b"2" * 32), {})
    told = Told(
        20,
        created=((CAMPAIGN, 4), (late, 12)),
        submitted=((CAMPAIGN, submission(0, 0, 5)), (CAMPAIGN, submission(1, 0, 9)), (CAMPAIGN, submission(1, 1, 10))),
        settled=(Final(CAMPAIGN, 0, b"0" * 32, 7, version(1)), Final(CAMPAIGN, 1, b"1" * 32, 10, version(2))),
        expired=((CAMPAIGN, 2, 13),),
        over=((CAMPAIGN, 10),),
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


@pytest.mark.parametrize("told_of", ["by the chain", "by its deadline"])
def test_an_end_that_is_read_again_begins_no_retention_time_anew(
    state: State, monkeypatch: pytest.MonkeyPatch, told_of: str
) -> None:
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)

    def read() -> None:
        over = ((CAMPAIGN, 50),) if told_of == "by the chain" else ()
        state.follow(Told(101, created=((CAMPAIGN, 10),), over=over), state.position())
        if not over:
            state.end(CAMPAIGN)

    read()
    for back_to in (5, 20, 5):
        clock.now += 3600
        assert state.rewind(back_to, state.position())
        assert state.rewind(back_to, state.position())
        assert state.campaigns() == [] if back_to == 5 else state.campaigns()[0].ended is None
        read()
        assert state.campaigns()[0].ended == Clock().now


def test_an_end_in_another_block_is_another_end(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)
    state.follow(Told(101, created=((CAMPAIGN, 10),), over=((CAMPAIGN, 50),)), state.position())
    clock.now += 3600
    state.rewind(20, state.position())
    state.follow(Told(101, over=((CAMPAIGN, 51),)), state.position())
    assert state.campaigns()[0].ended == clock.now


@pytest.mark.parametrize("went_on", [False, True], ids=["without a gradient", "with gradients"])
def test_when_an_end_that_the_chain_took_back_was_told_is_not_when_a_later_one_is_found(
    state: State, monkeypatch: pytest.MonkeyPatch, went_on: bool
) -> None:
    """Else the model of a campaign that runs for another month would be deleted at the moment of its end."""
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)
    state.follow(Told(101, created=((CAMPAIGN, 10),), over=((CAMPAIGN, 50),)), state.position())
    state.rewind(40, state.position())
    clock.now += 31 * 86_400
    submitted = ((CAMPAIGN, submission(0, 0, 4_500)),) if went_on else ()
    state.follow(Told(5_000, submitted=submitted), state.position())
    state.end(CAMPAIGN)
    assert state.campaigns()[0].ended == clock.now


@pytest.mark.parametrize("what", ["submitted", "settled"])
def test_an_end_after_which_the_campaign_went_on_was_none(
    state: State, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)
    state.follow(Told(101, created=((CAMPAIGN, 10),)), state.position())
    state.end(CAMPAIGN)
    state.rewind(20, state.position())
    clock.now += 3600
    before = Told(101, submitted=((CAMPAIGN, submission(0, 0, 100)),), settled=(Final(CAMPAIGN, 9, b"9", 100, None),))
    state.follow(before, state.position())
    state.end(CAMPAIGN)
    assert state.campaigns()[0].ended == Clock().now, "these are from before the end"
    state.rewind(20, state.position())
    after = Told(102, submitted=((CAMPAIGN, submission(0, 0, 101)),), settled=(Final(CAMPAIGN, 9, b"9", 101, None),))
    others = {"submitted", "settled"} - {what}
    state.follow(dataclasses.replace(after, **dict.fromkeys(others, ())), state.position())
    state.end(CAMPAIGN)
    assert state.campaigns()[0].ended == clock.now


@pytest.mark.parametrize("told_of", ["by the chain", "by its deadline"])
def test_a_campaign_that_goes_on_after_an_end_that_was_none_is_running(state: State, told_of: str) -> None:
    over = ((CAMPAIGN, 50),) if told_of == "by the chain" else ()
    state.follow(Told(101, created=((CAMPAIGN, 10),), over=over), state.position())
    if not over:
        state.end(CAMPAIGN, due=1000.0)
    before = 50 if over else 100
    state.follow(Told(102, submitted=((CAMPAIGN, submission(0, 0, before)),)), state.position())
    assert state.running() == [], "it may have been the last one before the end"
    state.follow(Told(103, submitted=((CAMPAIGN, submission(0, 1, 102)),)), state.position())
    assert state.running() == [(CAMPAIGN, 10)]
    assert state.campaigns()[0].ended is None


@pytest.mark.parametrize("told_of", ["by the chain", "by its deadline"])
def test_an_end_that_a_clock_which_lags_sees_is_no_earlier_than_the_chains(
    state: State, monkeypatch: pytest.MonkeyPatch, told_of: str
) -> None:
    """Else what is kept for some time after it would be deleted as soon as the clock is right."""
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)
    right = clock.now + 31 * 86_400
    over = ((CAMPAIGN, 50),) if told_of == "by the chain" else ()
    state.follow(Told(101, created=((CAMPAIGN, 10),), over=over, time=right), state.position())
    if not over:
        state.end(CAMPAIGN, due=right)
    assert state.campaigns()[0].ended == right


def test_an_end_that_was_found_before_the_deadline_is_at_the_deadline(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that showed a later time than there was may have had it found."""
    clock = Clock()
    monkeypatch.setattr(state.audit, "_clock", clock)
    state.follow(Told(101, created=((CAMPAIGN, 10),)), state.position())
    deadline = clock.now + 31 * 86_400
    state.end(CAMPAIGN, due=deadline)
    clock.now = deadline
    for _ in range(3):
        assert state.campaigns()[0].ended == deadline
        clock.now += 3600
        state.rewind(20, state.position())
        state.end(CAMPAIGN, due=deadline)


def test_what_is_read_again_as_before_is_told_once(state: State) -> None:
    admit(state, admission(), version())
    state.add_round(CAMPAIGN, signed(0, b"0" * 32), {})
    other = CampaignId(b"l" * 32)

    def read(block: int) -> list[tuple[str, str]]:
        settled = (Final(CAMPAIGN, 0, b"0" * 32, block, version(1)), Final(other, 0, b"1" * 32, block, None))
        state.follow(Told(20, settled=settled, expired=((other, 1, 9),)), state.position())
        return [(entry.kind, entry.body) for entry in state.audit.entries() if entry.kind in {"final", "expired"}]

    first = read(7)
    assert [kind for kind, _ in first] == ["final"]
    for _ in range(3):
        state.rewind(5, state.position())
        assert state.rounds(CAMPAIGN)[0].state == "signed"
        assert read(7) == first
        assert state.rounds(CAMPAIGN)[0].state == "final"
    state.rewind(5, state.position())
    assert [json.loads(body)["block"] for _, body in read(8)] == [7, 8]


def test_old_checkpoints_can_be_dropped(state: State) -> None:
    state.follow(Told(20, checkpoints=((5, b"5"), (6, b"6"), (7, b"7"))), since=None)
    state.forget_checkpoints(before=7)
    assert state.checkpoints() == [(7, b"7")]


def posted(number: int, index: int, gradient: str, mine: Address = MINE) -> tuple[CampaignId, Submission]:
    made = submission(number, index, 5 + number, gradient)
    return CAMPAIGN, dataclasses.replace(made, entry=dataclasses.replace(made.entry, mine=mine))


def test_the_newest_gradient_of_each_running_campaign_is_told(state: State) -> None:
    quiet, over, behind, ahead = (CampaignId(name * 32) for name in (b"q", b"o", b"b", b"a"))
    created = ((campaign, 1) for campaign in (CAMPAIGN, quiet, over, behind, ahead))
    submitted = (
        posted(0, 0, "a"), posted(0, 1, "b"), posted(1, 0, "c"), (over, submission(0, 0, 5)),
        (behind, submission(0, 0, 6)), (behind, submission(0, 1, 8)), (ahead, submission(9, 7, 9)),
    )  # fmt: skip
    state.follow(Told(10, created=tuple(created), submitted=submitted, over=((over, 9),)), since=None)
    assert state.newest() == {CAMPAIGN: (1, 0, 6), behind: (0, 1, 8), ahead: (9, 7, 9)}
