"""Which gradients count as copies of earlier ones, and that no row of the database makes one."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from stored import CAMPAIGN, MINE, OWNER, admission, admit, digest, signed, submission, version

from capsule.errors import AuditLogError
from capsule.state import Final, State, Submission, Told
from capsule.state import tables as t
from sonar.chain.heads import entries_head
from sonar.units import Address, CampaignId


def posted(number: int, index: int, gradient: str, mine: Address = MINE) -> tuple[CampaignId, Submission]:
    made = submission(number, index, 5 + number, gradient)
    return CAMPAIGN, dataclasses.replace(made, entry=dataclasses.replace(made.entry, mine=mine))


@pytest.mark.parametrize("verdict", ["kept", "left_out", "invalid", "unavailable", "copy"])
def test_only_a_gradient_that_was_judged_makes_a_later_one_of_another_account_its_copy(
    state: State, verdict: str
) -> None:
    settlement = json.dumps({"score": 1, "key": "0x", "outcomes": [{"verdict": "kept"}, {"verdict": verdict}]})
    before = posted(0, 0, "first"), posted(0, 1, "second")
    head = entries_head(CAMPAIGN, 0, [one.entry for _, one in before])
    state.add_round(CAMPAIGN, dataclasses.replace(signed(0, head), settlement=settlement), {})
    after = (
        posted(1, 0, "new", OWNER),
        posted(1, 1, "first"),
        posted(1, 2, "first", OWNER),
        posted(1, 3, "second", OWNER),
    )
    told = Told(10, submitted=before + after, settled=(Final(CAMPAIGN, 0, head, 7, None),))
    state.follow(told, since=None)
    assert state.repeated(CAMPAIGN, 0) == frozenset()
    assert state.repeated(CAMPAIGN, 1) == ({2, 3} if verdict in {"kept", "left_out"} else {2})


def test_a_gradient_of_a_round_that_expired_makes_no_other_its_copy(state: State) -> None:
    state.add_round(CAMPAIGN, signed(), {})
    told = Told(10, submitted=(posted(0, 0, "first"), posted(1, 0, "first", OWNER)), expired=((CAMPAIGN, 0, 7),))
    state.follow(told, since=None)
    assert state.repeated(CAMPAIGN, 1) == frozenset()


@pytest.fixture
def settled(state: State) -> State:
    """A state with a settled round, and one more in which another account posted one of its gradients again."""
    admit(state, admission(), version())
    before = posted(0, 0, "first"), posted(0, 1, "second")
    head = entries_head(CAMPAIGN, 0, [one.entry for _, one in before])
    outcomes = [{"verdict": "kept"}, {"verdict": "invalid"}]
    changed = json.dumps(json.loads(signed().settlement) | {"outcomes": outcomes})
    state.add_round(CAMPAIGN, dataclasses.replace(signed(0, head), settlement=changed), {})
    submitted = (*before, posted(1, 0, "first", OWNER), posted(1, 1, "honest", OWNER))
    final = Final(CAMPAIGN, 0, head, 7, version(1))
    state.follow(Told(10, created=((CAMPAIGN, 1),), submitted=submitted, settled=(final,)), None)
    assert state.repeated(CAMPAIGN, 1) == {0}
    state.verify_audit()
    return state


def earlier(place: int) -> Any:
    return update(t.submissions).where(t.submissions.c.round == 0, t.submissions.c.place == place)


EDITS = {
    "its gradient": (earlier(0).values(gradient=digest("honest")),),
    "its account": (earlier(0).values(mine=OWNER), earlier(1).values(gradient=digest("first"))),
    "its box": (earlier(0).values(artifact=digest("another box")),),
    "words that begin elsewhere": tuple(
        update(t.submissions)
        .where(t.submissions.c.gradient == digest(gradient))
        .values(artifact=digest("box") + digest(gradient), gradient=b"")
        for gradient in ("first", "second", "honest")
    ),
    "one more": (
        insert(t.submissions).values(
            campaign=CAMPAIGN, round=0, place=2, mine=MINE, artifact=digest("box"), gradient=digest("honest"),
            cid="box", block=5,
        ),
    ),
    "one less": (delete(t.submissions).where(t.submissions.c.round == 0, t.submissions.c.place == 1),),
    "an account that is none": (earlier(0).values(mine="nobody"),),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_nothing_that_is_put_into_a_settled_round_makes_a_later_gradient_a_copy(
    settled: State, intruder: Callable[..., None], what: str
) -> None:
    intruder(*EDITS[what])
    with pytest.raises(AuditLogError, match="as it was settled"):
        settled.repeated(CAMPAIGN, 1)
    with pytest.raises(AuditLogError, match=r"settled with other gradients"):
        settled.verify_audit()


def test_no_verdict_that_is_put_into_a_settlement_makes_a_later_gradient_a_copy(
    settled: State, intruder: Callable[..., None]
) -> None:
    settled.follow(Told(12, submitted=(posted(1, 2, "second", OWNER),)), settled.position())
    assert settled.repeated(CAMPAIGN, 1) == {0}
    edited = json.dumps(json.loads(signed().settlement) | {"outcomes": [{"verdict": "kept"}] * 2})
    intruder(update(t.rounds).values(settlement=edited))
    with pytest.raises(AuditLogError, match="as it was settled"):
        settled.repeated(CAMPAIGN, 1)


def test_a_round_that_nobody_settled_makes_no_later_gradient_a_copy(
    settled: State, intruder: Callable[..., None]
) -> None:
    intruder(update(t.rounds).values(round=9, head=b"9" * 32), insert_final(0))
    with pytest.raises(AuditLogError, match="as it was settled"):
        settled.repeated(CAMPAIGN, 1)


def insert_final(number: int) -> Any:
    """A row of a settlement that was never signed."""
    made = signed(number)
    return insert(t.rounds).values(
        campaign=CAMPAIGN, round=number, head=made.head, settlement=made.settlement, state="final", base=made.base,
        block=7, time=1.0,
    )  # fmt: skip


def test_gradients_of_a_settled_round_that_are_gone_are_found(settled: State, intruder: Callable[..., None]) -> None:
    intruder(delete(t.submissions).where(t.submissions.c.round == 0))
    with pytest.raises(AuditLogError, match="not in the database any more"):
        settled.verify_audit()
