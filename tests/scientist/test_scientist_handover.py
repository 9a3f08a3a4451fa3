"""Campaigns that are topped up and that change hands: whose they are, who is served, who is refunded."""

import numpy as np
import pytest

from pysonar.errors import NotOwnerError, TermsError, UnknownCampaignError
from sonar.chain.errors import ContractRevertError
from sonar.chain.records import Status
from sonar.units import Address, ether


@pytest.fixture
def heir(stage):
    """Another account, with a session of its own."""
    return stage.session(stage.new_account())


def test_a_top_up_raises_the_bounty_for_everybody(stage):
    campaign = stage.campaign()
    friend = stage.session(stage.new_account())
    assert campaign.top_up(ether("0.5")) == ether("1.5")
    assert friend.campaign(campaign.id).top_up(ether("0.25")) == ether("1.75")
    assert campaign.record.terms.bounty == ether("1.75")
    assert campaign.spec.payout.target == 900_000, "the spec still holds against the terms"
    assert campaign.close() == ether("1.75")


@pytest.mark.parametrize(
    ("amount", "says"), [(0, "is zero"), (-1, "not an amount"), (0.5, "not an amount"), (2**128, r"above 2\^128 - 1")]
)
def test_an_amount_that_is_none_is_refused(stage, amount, says):
    campaign = stage.campaign()
    with pytest.raises(TermsError, match=says):
        campaign.top_up(amount)


def test_a_closed_campaign_takes_no_top_up(stage):
    campaign = stage.campaign()
    campaign.close()
    with pytest.raises(ContractRevertError, match="is closed, which does not allow this"):
        campaign.top_up(1)


def test_a_campaign_changes_hands_when_its_new_owner_accepts(stage, heir):
    campaign, other = stage.campaign(), stage.campaign()
    owner = stage.session()
    assert campaign.pending_owner is None
    campaign.transfer(heir.address.lower())
    assert campaign.pending_owner == heir.address
    assert (owner.campaigns(), heir.campaigns()) == ([campaign, other], [])
    assert heir.accept(campaign.id.hex()) == heir.campaign(campaign.id)
    assert campaign.pending_owner is None
    assert owner.campaigns() == [other]
    assert [found.id for found in heir.campaigns()] == [campaign.id]
    assert campaign.record.owner == heir.address


def test_a_campaign_that_comes_back_is_listed_again(stage, heir):
    campaign = stage.campaign()
    campaign.transfer(heir.address)
    theirs = heir.accept(campaign.id)
    theirs.transfer(stage.owner.address)
    stage.session().accept(campaign.id)
    assert stage.session().campaigns() == [campaign]
    assert heir.campaigns() == []


def test_an_offer_can_be_taken_back_and_is_for_nobody_else(stage, heir):
    campaign = stage.campaign()
    campaign.transfer(heir.address)
    with pytest.raises(ContractRevertError, match=f"is offered to {heir.address}, not to"):
        stage.session(stage.new_account()).accept(campaign.id)
    campaign.transfer(None)
    assert campaign.pending_owner is None
    with pytest.raises(ContractRevertError, match="ask its owner to offer it to this account"):
        heir.accept(campaign.id)


def test_only_the_owner_hands_a_campaign_over_and_only_to_an_address(stage, heir):
    campaign = stage.campaign()
    with pytest.raises(NotOwnerError, match="it is handed over by its owner"):
        heir.campaign(campaign.id).transfer(heir.address)
    with pytest.raises(TermsError, match="the new owner 'Alice' is not an address"):
        campaign.transfer("Alice")
    with pytest.raises(TermsError, match=r"the new owner '0x5AAe.* is mistyped"):
        campaign.transfer("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    with pytest.raises(UnknownCampaignError):
        heir.accept("ab" * 32)


def test_the_new_owner_gets_the_result_and_the_refund_and_the_old_one_neither(stage, heir):
    campaign = stage.campaign(target=0.5, payout={"base": "gain"})
    mines = [stage.new_account() for _ in range(3)]
    for mine in mines:
        stage.submit(campaign, mine)
    campaign.transfer(heir.address)
    stage.settle(campaign, 500_000, [400_000, 300_000, 300_000])
    theirs = heir.accept(campaign.id)
    assert campaign.status is Status.FINISHED
    stage.capsule.delivered = np.arange(15).reshape(5, 3) << 20
    # The played Capsule seals to whom it is told is the owner; the real one asks the chain.
    stage.capsule.owner = Address(heir.address)
    model = theirs.result()
    assert model is not None
    with pytest.raises(NotOwnerError, match=f"belongs to {heir.address}"):
        campaign.result()
    with pytest.raises(NotOwnerError):
        campaign.close()
    left = ether(1) - campaign.record.paid
    assert theirs.close() == left
    assert heir.credit() == left
    assert stage.session().credit() == 0
