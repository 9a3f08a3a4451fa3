"""Campaigns that are topped up and handed over while the Capsule judges them: nothing stops, owners are served."""

from typing import Any

import pytest

from capsule.errors import CapsuleRefusedError
from sonar.chain.calls import accept_campaign, close_campaign, top_up, transfer_campaign
from sonar.chain.records import Status
from sonar.protocol.payloads import decode_weights
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.units import Address, ether


def hand_over(world: Any, campaign: Any, heir: Any) -> None:
    """Offers a campaign of its first owner to another account, which accepts it."""
    world.chain_for(campaign.owner.account).transact(transfer_campaign(campaign.id, Address(heir.address)))
    world.chain_for(heir).transact(accept_campaign(campaign.id))


def steps(world: Any, count: int = 2) -> None:
    for _ in range(count):
        world.worker.step()
        assert world.worker.health()["ok"], world.worker.health()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_round_is_judged_and_paid_though_the_campaign_changes_in_its_middle(
    world: Any, scientist: Any, restarted: bool
) -> None:
    campaign, heir = scientist.campaign(), world.new_account()
    mines = [campaign.submit()]
    steps(world)
    world.chain_for(heir).transact(top_up(campaign.id, ether(1)))
    hand_over(world, campaign, heir)
    mines += [campaign.submit() for _ in range(2)]
    if restarted:
        world.restart()
    steps(world)
    record = world.chain.campaign(campaign.id)
    assert (record.version, record.terms.bounty, record.owner) == (1, ether(2), heir.address)
    bonds = 3 * record.terms.bond
    credited = [world.chain.credit(Address(account.address)) for account in (*mines, heir)]
    assert sum(credited) == record.paid + bonds
    assert world.chain.credit(scientist.address) == 0
    # The next round goes on as the first.
    world.chain_for(heir).transact(top_up(campaign.id, ether(1)))
    for mine in mines:
        campaign.submit(mine)
    steps(world)
    assert world.chain.round(campaign.id).number == 2


def test_the_new_owner_is_served_and_the_old_one_is_not(world: Any, scientist: Any) -> None:
    campaign, heir = scientist.campaign(seconds=1000), world.new_account()
    for _ in range(3):
        campaign.submit()
    steps(world)
    world.advance_time(1001)
    steps(world)
    pair, theirs = SealingKeyPair.generate(), world.client(heir)
    assert scientist.client.deliver(campaign.id, pair.public)
    offered = world.chain_for(scientist.account)
    offered.transact(transfer_campaign(campaign.id, Address(heir.address)))
    with pytest.raises(CapsuleRefusedError) as early:
        theirs.deliver(campaign.id, pair.public)
    assert (early.value.code, scientist.address in str(early.value)) == ("not_owner", True), (
        "an offer gives no right yet"
    )
    world.chain_for(heir).transact(accept_campaign(campaign.id))
    with pytest.raises(CapsuleRefusedError) as late:
        scientist.client.deliver(campaign.id, pair.public)
    assert (late.value.code, heir.address in str(late.value)) == ("not_owner", True)
    domain = world.domain
    expected = BoxContext(
        Purpose.DELIVERY, domain.chain_id, domain.contract, Address(heir.address), campaign.id.hex(), 1
    )
    box = theirs.deliver(campaign.id, pair.public)
    assert decode_weights(open_box_for(box, pair, expected), campaign.draft.parsed).any()
    world.chain_for(heir).transact(close_campaign(campaign.id))
    assert world.chain.campaign(campaign.id).status is Status.CLOSED
    assert theirs.deliver(campaign.id, pair.public)
