"""Events that a node leaves out: whatever they told of, the contract tells too, and so the worker reads them again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from worker_checks import check_settled_once, signatures, steps

from capsule.worker import untold
from capsule.worker.looking import LOOK_SECONDS
from capsule.worker.patience import Patience
from sonar.chain.calls import close_campaign
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignClosed, CampaignCreated, RoundSettled

LeavingOut = Callable[[type], AbstractContextManager[None]]


@pytest.fixture
def leaving_out(monkeypatch: pytest.MonkeyPatch) -> LeavingOut:
    """A node that tells of no event of a kind, as long as that lasts."""
    read = EventCursor.read_page

    @contextmanager
    def without(kind: type) -> Iterator[None]:
        def lying(cursor: EventCursor, last: int) -> Any:
            page = read(cursor, last)
            if page is not None:
                object.__setattr__(page, "events", tuple(one for one in page.events if not isinstance(one, kind)))
            return page

        with monkeypatch.context() as node:
            node.setattr(EventCursor, "read_page", lying)
            yield

    return without


def pass_later(world: Any, seconds: int = LOOK_SECONDS) -> None:
    world.advance_time(seconds)
    world.worker.step()


def test_a_settlement_that_a_node_leaves_out_is_missed_before_another_gradient_comes(
    world: Any, scientist: Any, leaving_out: LeavingOut
) -> None:
    campaign = scientist.campaign(seconds=3600)
    for _ in range(3):
        campaign.submit()
    with leaving_out(RoundSettled):
        while world.chain.round(campaign.id).number == 0:
            world.worker.step()
        pass_later(world)
        pass_later(world)
    steps(world)
    assert world.capsule.state.version(campaign.id).number == 1
    check_settled_once(world, campaign, 1)


def test_a_campaign_does_not_end_on_a_version_that_a_node_left_out(
    world: Any, scientist: Any, leaving_out: LeavingOut
) -> None:
    campaign = scientist.campaign(seconds=3600)
    for _ in range(3):
        campaign.submit()
    with leaving_out(RoundSettled):
        while world.chain.round(campaign.id).number == 0:
            world.worker.step()
        for _ in range(4):
            pass_later(world, 3600)
        assert [one for one, _ in world.capsule.state.running()] == [campaign.id]
        assert "contradict" in world.worker.health()["problems"][campaign.id.hex()]
    world.worker.close()
    world.restart()
    for _ in range(3):
        pass_later(world)
    assert world.worker.health()["ok"]
    assert world.capsule.state.running() == []
    assert len(signatures(world, campaign)) == 1


def test_an_end_that_a_node_leaves_out_is_found(world: Any, scientist: Any, leaving_out: LeavingOut) -> None:
    campaign = scientist.campaign()
    steps(world)
    with leaving_out(CampaignClosed):
        world.chain_for(scientist.account).transact(close_campaign(campaign.id))
        pass_later(world)
        pass_later(world)
    steps(world)
    assert world.capsule.state.running() == []


def test_a_creation_that_a_node_leaves_out_is_told_and_found_where_it_tells_of_it_later(
    world: Any, scientist: Any, leaving_out: LeavingOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(untold, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    world.restart()
    with leaving_out(CampaignCreated):
        campaign = scientist.campaign()
        world.worker.step()
        for _ in range(3):
            world.worker.step()
            assert campaign.id.hex() in world.worker.health()["problems"]["creations"]
    assert world.capsule.state.running() == []
    now[0] += 61
    world.worker.step()
    steps(world)
    assert [one for one, _ in world.capsule.state.running()] == [campaign.id]
    assert world.worker.tally.reorganisations.value == 1
    for _ in range(3):
        campaign.submit()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_the_contract_is_asked_about_an_admission_less_and_less_often_and_no_more_once_it_is_good_for_nothing(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked, ask = [0.0], [], world.chain.campaign
    monkeypatch.setattr(untold, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    world.restart()
    given = scientist.admit(scientist.draft())

    def counting(campaign: Any, *, block: int | None = None) -> Any:
        asked.append(now[0])
        return ask(campaign, block=block)

    monkeypatch.setattr(world.chain, "campaign", counting)
    for _ in range(60):
        now[0] += 120
        steps(world, 1)
    assert 3 < len(asked) < 10
    world.advance_time(given.admission.valid_until - world.chain.now() + 1)
    for _ in range(3):
        now[0] += 3600
        steps(world, 1)
    count = len(asked)
    now[0] += 3600
    steps(world, 1)
    assert len(asked) == count
