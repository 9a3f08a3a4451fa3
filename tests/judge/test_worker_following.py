"""The worker on real chains that take blocks back."""

import dataclasses
from typing import Any

import pytest
from nodes import Remote
from worker_checks import check_settled_once, signatures, steps

from capsule.worker.following import Follower
from capsule.worker.tally import Tally
from sonar.chain.calls import create_campaign, expire_round
from sonar.chain.cursor import campaign_events
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry
from sonar.protocol.messages import hash_admission
from sonar.protocol.sealing import seal
from sonar.units import Address, ether

pytestmark = pytest.mark.parametrize("remote", ["anvil", "ganache"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def chain_url(remote: Remote) -> str:
    return remote.url


def test_a_settlement_that_vanished_is_relayed_again_as_it_was_signed(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    before = remote.snapshot()
    steps(world)
    signed = signatures(world, campaign)
    assert world.capsule.state.version(campaign.id).number == 1
    remote.revert(before)
    assert world.chain.round(campaign.id).number == 0
    steps(world, 3)
    assert signatures(world, campaign) == signed
    assert world.worker.tally.reorganisations.value == 1
    check_settled_once(world, campaign, 1)


def test_several_rounds_that_vanished_are_judged_anew_where_their_gradients_changed(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign = scientist.campaign()
    mines = [campaign.submit() for _ in range(3)]
    before = remote.snapshot()
    for _ in range(2):
        steps(world)
        for mine in mines:
            campaign.submit(mine)
    steps(world)
    assert world.chain.round(campaign.id).number == 3
    signed = signatures(world, campaign)
    remote.revert(before)
    steps(world, 3)
    assert signatures(world, campaign) == signed
    assert world.chain.round(campaign.id).number == 1
    assert world.capsule.state.version(campaign.id).number == 1
    for _ in range(2):
        for mine in mines:
            campaign.submit(mine)
        steps(world)
    assert len(signatures(world, campaign)) == 5
    assert {number for number, _, _ in signatures(world, campaign)} == {0, 1, 2}
    check_settled_once(world, campaign, 3)


def test_a_campaign_whose_creation_vanished_goes_on_when_it_is_created_again(
    world: Any, scientist: Any, remote: Remote
) -> None:
    draft = scientist.draft()
    given = scientist.admit(draft)
    chain = world.chain_for(scientist.account)
    terms = draft.parsed.terms(bounty=ether(1), deadline=chain.now() + 3600)
    create = create_campaign(terms, given.admission, given.signature, draft.spec.cid, draft.model.cid)
    mines = [world.new_account() for _ in range(3)]
    before = remote.snapshot()
    for _ in range(2):
        chain.transact(create)
        campaign = scientist.taking_part_in(hash_admission(world.domain, given.admission), draft)
        for mine in mines:
            campaign.submit(mine)
        steps(world)
        assert world.chain.campaign(campaign.id).version == 1
        if before:
            remote.revert(before)
            before = ""
            steps(world, 1)
            assert world.capsule.state.running() == []
            assert world.capsule.state.version(campaign.id).number == 0
    assert len(signatures(world, campaign)) == 2
    check_settled_once(world, campaign, 1)


def confirmed(world: Any, blocks: int) -> None:
    """Lets the worker believe only blocks with so many others after them."""
    world.policy = dataclasses.replace(world.policy, confirmations=blocks)
    world.restart()


def test_nothing_is_judged_or_final_before_enough_blocks_follow(world: Any, scientist: Any, remote: Remote) -> None:
    confirmed(world, 3)
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    remote.mine(2)
    steps(world, 3)
    assert signatures(world, campaign) == []
    remote.mine()
    steps(world)
    assert len(signatures(world, campaign)) == 1
    assert world.chain.campaign(campaign.id).version == 1
    remote.mine(2)
    steps(world)
    assert world.capsule.state.version(campaign.id).number == 0
    remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_the_settled_round_pays_its_mines_once_after_a_reorganisation(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign = scientist.campaign()
    mines = [campaign.submit() for _ in range(3)]
    before = remote.snapshot()
    steps(world)
    paid = [world.chain.credit(Address(mine.address)) for mine in mines]
    remote.revert(before)
    steps(world, 3)
    assert [world.chain.credit(Address(mine.address)) for mine in mines] == paid


def test_a_settlement_signed_on_a_version_that_vanished_is_not_relayed(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign = scientist.campaign(scientist.spec(settlement_seconds=600), seconds=10**6)
    mines = [campaign.submit(data=campaign.gradient(records=6)) for _ in range(3)]
    before = remote.snapshot()
    steps(world)
    gradients = [campaign.gradient() for _ in mines]
    boxes = [
        seal(data, campaign.context(mine), world.sealing.public) for mine, data in zip(mines, gradients, strict=True)
    ]

    def post_second_round() -> None:
        for mine, data, box in zip(mines, gradients, boxes, strict=True):
            campaign.submit(mine, data, box=box)

    post_second_round()
    steps(world, 1)
    signed = signatures(world, campaign)
    assert [number for number, _, _ in signed] == [0, 1]
    assert world.client().round(campaign.id, 1).settlement.advances
    remote.revert(before)
    # Nobody relays the first settlement in time, and the second round gets the very same gradients.
    expire(world, scientist, campaign, 0)
    post_second_round()
    for _ in range(5):
        world.worker.step()
    assert "took back" in world.worker.health()["problems"][f"relaying {campaign.id.hex()}"]
    assert world.chain.campaign(campaign.id).version == 0
    assert signatures(world, campaign) == signed
    expire(world, scientist, campaign, 1)
    for mine in mines:
        campaign.submit(mine)
    steps(world, 3)
    assert world.chain.campaign(campaign.id).version == 1
    assert world.capsule.state.version(campaign.id).number == 1


def expire(world: Any, scientist: Any, campaign: Any, number: int) -> None:
    world.advance_time(1000)
    found = campaign_events(world.chain, campaign.id, 0)
    entries = [
        Entry(event.mine, event.artifact, event.gradient)
        for event in found
        if isinstance(event, GradientSubmitted) and event.round == number
    ]
    world.chain_for(scientist.account).transact(expire_round(campaign.id, number, entries))


def test_what_the_store_lost_keeps_no_settlement_from_the_chain_after_a_reorganisation(
    world: Any, scientist: Any, remote: Remote
) -> None:
    lost, other = scientist.campaign(), scientist.campaign()
    for campaign in (lost, other):
        for _ in range(3):
            campaign.submit()
    before = remote.snapshot()
    steps(world)
    for campaign in (lost, other):
        assert world.client().round(campaign.id, 0).settlement.advances
    remote.revert(before)
    product = world.client().round(lost.id, 0).settlement.product_cid
    (world.home / "store" / product).unlink()
    steps(world, 3)
    check_settled_once(world, lost, 1)
    check_settled_once(world, other, 1)


def test_a_settlement_signed_after_its_round_expired_is_let_go_and_the_campaign_goes_on(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign(scientist.spec(settlement_seconds=600), seconds=10**6)
    mines = [campaign.submit() for _ in range(3)]
    add_round, late = world.capsule.state.add_round, []

    def after_the_window(*arguments: Any) -> Any:
        if not late:
            late.append(arguments)
            expire(world, scientist, campaign, 0)
            Follower(world.capsule, 0, Tally()).follow()
        return add_round(*arguments)

    monkeypatch.setattr(world.capsule.state, "add_round", after_the_window)
    steps(world, 3)
    assert [one.state for one in world.capsule.state.rounds(campaign.id)] == ["expired"]
    assert world.capsule.state.unsettled() == []
    for mine in mines:
        campaign.submit(mine)
    steps(world, 3)
    assert [one.state for one in world.capsule.state.rounds(campaign.id)] == ["expired", "final"]
    assert world.chain.campaign(campaign.id).version == world.capsule.state.version(campaign.id).number == 1


def test_a_settlement_that_was_let_go_is_relayed_where_the_chain_takes_the_expiry_back(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign(scientist.spec(settlement_seconds=600), seconds=10**6)
    for _ in range(3):
        campaign.submit()
    add_round, before = world.capsule.state.add_round, []

    def after_the_window(*arguments: Any) -> Any:
        if not before:
            before.append(remote.snapshot())
            expire(world, scientist, campaign, 0)
            Follower(world.capsule, 0, Tally()).follow()
        return add_round(*arguments)

    monkeypatch.setattr(world.capsule.state, "add_round", after_the_window)
    steps(world, 3)
    signed = signatures(world, campaign)
    assert [one.state for one in world.capsule.state.rounds(campaign.id)] == ["expired"]
    remote.revert(before[0])
    remote.mine(2)
    steps(world, 3)
    assert signatures(world, campaign) == signed
    check_settled_once(world, campaign, 1)
