"""How often the worker asks the contract about a campaign: rarely where events tell enough, always before it signs."""

from typing import Any

import pytest
from worker_checks import check_settled_once, signatures, steps

from capsule.worker.looking import LOOK_SECONDS
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted


@pytest.fixture
def asked(world: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks after which the worker looked at a campaign."""
    blocks: list[int] = []
    ask = world.chain.campaign

    def counting(campaign: Any, *, block: int | None = None) -> Any:
        if block is not None:
            blocks.append(block)
        return ask(campaign, block=block)

    monkeypatch.setattr(world.chain, "campaign", counting)
    return blocks


def pass_in_a_new_block(world: Any, seconds: int) -> None:
    world.advance_time(seconds)
    world.worker.step()


def test_a_campaign_of_which_nothing_is_told_is_looked_at_once_in_half_a_minute(
    world: Any, scientist: Any, asked: list[int]
) -> None:
    campaign = scientist.campaign()
    steps(world, 1)
    asked.clear()
    for _ in range(3):
        pass_in_a_new_block(world, 5)
    assert asked == []
    pass_in_a_new_block(world, LOOK_SECONDS)
    assert len(asked) == 1
    campaign.submit()
    world.worker.step()
    assert len(asked) == 2


def test_a_gradient_that_a_node_leaves_out_is_missed_after_half_a_minute(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign(scientist.spec(round_seconds=3000))
    steps(world)
    read = EventCursor.read_page

    def without_gradients(cursor: EventCursor, last: int) -> Any:
        page = read(cursor, last)
        if page is not None:
            object.__setattr__(page, "events", tuple(e for e in page.events if not isinstance(e, GradientSubmitted)))
        return page

    with monkeypatch.context() as lying:
        lying.setattr(EventCursor, "read_page", without_gradients)
        for _ in range(3):
            campaign.submit()
        for _ in range(2):
            pass_in_a_new_block(world, LOOK_SECONDS)
        assert world.worker.tally.reorganisations.value == 1
        assert signatures(world, campaign) == []
    steps(world, 3)
    check_settled_once(world, campaign, 1)


def test_a_round_is_not_judged_on_an_old_look_at_the_contract(world: Any, scientist: Any, asked: list[int]) -> None:
    campaign = scientist.campaign(scientist.spec(round_seconds=20))
    for _ in range(2):
        campaign.submit()
    steps(world, 1)
    asked.clear()
    pass_in_a_new_block(world, 21)  # which closes the round, and brings no event
    assert len(signatures(world, campaign)) == 1
    assert len(asked) == 1
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_campaign_is_given_up_only_when_the_contract_still_has_no_gradient(
    world: Any, scientist: Any, asked: list[int]
) -> None:
    scientist.campaign(seconds=25)
    steps(world, 1)
    asked.clear()
    pass_in_a_new_block(world, 26)
    steps(world, 1)
    assert world.capsule.state.running() == []
    assert len(asked) == 1


def test_campaigns_are_judged_whatever_round_the_others_are_in(world: Any, scientist: Any) -> None:
    behind, ahead = scientist.campaign(), scientist.campaign()
    steps(world, 1)
    mines = [ahead.submit() for _ in range(3)]
    steps(world)
    for mine in mines:
        ahead.submit(mine)
    for _ in range(3):
        behind.submit()
    steps(world)
    check_settled_once(world, ahead, 2)
    check_settled_once(world, behind, 1)
