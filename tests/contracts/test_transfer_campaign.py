"""transferCampaign and acceptCampaign: a campaign changes hands when both sides say so, and not before."""

import pytest
from market import BOND, BOUNTY, DAY, NATIVE, Status, judged, kept, refused

HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]
NOBODY = NATIVE


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


@pytest.fixture
def buyer(chain):
    return chain.accounts[8]


@pytest.fixture
def offered(sonar, campaign, owner, buyer):
    """A campaign that its owner offered to the buyer."""
    sonar.transferCampaign(campaign.id, buyer, sender=owner)
    return campaign


def owner_of(sonar, campaign):
    return sonar.getCampaign(campaign.id)["owner"]


# R708, R711, R709
def test_an_offer_names_the_pending_owner_and_changes_nothing_else(sonar, campaign, owner, buyer):
    receipt = sonar.transferCampaign(campaign.id, buyer, sender=owner)
    assert receipt.events["CampaignTransferStarted"] == [{"id": campaign.id, "owner": owner, "pendingOwner": buyer}]
    assert (sonar.pendingOwner(campaign.id), owner_of(sonar, campaign)) == (buyer, owner)


# R709, R711
def test_the_account_it_is_offered_to_becomes_the_owner(sonar, offered, owner, buyer):
    receipt = sonar.acceptCampaign(offered.id, sender=buyer)
    assert receipt.events["CampaignTransferred"] == [{"id": offered.id, "previousOwner": owner, "newOwner": buyer}]
    assert (sonar.pendingOwner(offered.id), owner_of(sonar, offered)) == (NOBODY, buyer)


# R709
def test_an_offer_is_accepted_once(sonar, offered, buyer):
    sonar.acceptCampaign(offered.id, sender=buyer)
    with refused("Sonar_NotPendingOwner", offered.id, buyer, NOBODY):
        sonar.acceptCampaign(offered.id, sender=buyer)


# R709
def test_nobody_else_can_accept(sonar, offered, owner, buyer, attacker):
    for account in (attacker, owner):
        with refused("Sonar_NotPendingOwner", offered.id, account, buyer):
            sonar.acceptCampaign(offered.id, sender=account)
    assert owner_of(sonar, offered) == owner


# R709
def test_a_campaign_that_is_not_offered_cannot_be_accepted(sonar, campaign, attacker):
    with refused("Sonar_NotPendingOwner", campaign.id, attacker, NOBODY):
        sonar.acceptCampaign(campaign.id, sender=attacker)


# R708
def test_only_the_owner_can_offer(sonar, offered, owner, buyer, attacker):
    for account in (attacker, buyer):
        with refused("Sonar_NotOwner", offered.id, account, owner):
            sonar.transferCampaign(offered.id, account, sender=account)


# R708
def test_an_offer_is_taken_back_with_the_zero_address(sonar, offered, owner, buyer):
    sonar.transferCampaign(offered.id, NOBODY, sender=owner)
    with refused("Sonar_NotPendingOwner", offered.id, buyer, NOBODY):
        sonar.acceptCampaign(offered.id, sender=buyer)


# R708
def test_a_later_offer_replaces_an_earlier_one(sonar, offered, owner, buyer, stranger):
    sonar.transferCampaign(offered.id, stranger, sender=owner)
    with refused("Sonar_NotPendingOwner", offered.id, buyer, stranger):
        sonar.acceptCampaign(offered.id, sender=buyer)
    sonar.acceptCampaign(offered.id, sender=stranger)
    assert owner_of(sonar, offered) == stranger


# R708, R709
def test_the_old_owner_has_no_say_any_more(sonar, offered, owner, buyer):
    sonar.acceptCampaign(offered.id, sender=buyer)
    with refused("Sonar_NotOwner", offered.id, owner, buyer):
        sonar.transferCampaign(offered.id, owner, sender=owner)
    with refused("Sonar_NotOwner", offered.id, owner, buyer):
        sonar.close(offered.id, sender=owner)


# R710
def test_refund_and_later_slashed_bonds_are_the_new_owners(market, sonar, offered, owner, buyer, mines):
    market.fill(offered, mines[:3])
    market.settle(offered, 180_000, HALVES, sender=mines[0])
    assert market.credits(owner, buyer) == [BOND // 10, 0]
    sonar.acceptCampaign(offered.id, sender=buyer)
    market.fill(offered, mines[:3])
    market.settle(offered, 800_000, HALVES, sender=mines[0])
    sonar.close(offered.id, sender=buyer)
    assert market.credits(owner, buyer) == [BOND // 10, BOND // 10 + BOUNTY // 8]


# R710
def test_a_round_in_flight_is_settled_for_the_new_owner(market, sonar, offered, owner, buyer, mines):
    market.fill(offered, mines[:3])
    sonar.acceptCampaign(offered.id, sender=buyer)
    market.settle(offered, 180_000, HALVES, sender=mines[0])
    assert market.credits(owner, buyer) == [0, BOND // 10]


# R708, R709
def test_finished_and_closed_campaigns_change_hands_too(chain, market, sonar, offered, owner, buyer):
    chain.at(chain.now() + DAY + 10)
    market.close(offered)
    sonar.acceptCampaign(offered.id, sender=buyer)
    assert (owner_of(sonar, offered), market.status(offered)) == (buyer, Status.CLOSED)
    assert market.credits(owner, buyer) == [BOUNTY, 0]
    with refused("Sonar_WrongStatus", offered.id, Status.CLOSED):
        sonar.close(offered.id, sender=buyer)


# R708, R709
def test_an_unknown_campaign_is_refused(sonar, owner):
    for call in (sonar.acceptCampaign, sonar.pendingOwner):
        with refused("Sonar_CampaignUnknown", bytes(32)):
            call(bytes(32), sender=owner)
    with refused("Sonar_CampaignUnknown", bytes(32)):
        sonar.transferCampaign(bytes(32), owner, sender=owner)


# R203, R201
def test_a_handed_over_campaign_cannot_be_made_again_with_its_admission(market, sonar, offered, owner, buyer):
    sonar.acceptCampaign(offered.id, sender=buyer)
    with refused("Sonar_CampaignExists", offered.id):
        market.create(owner, admission=offered.admission)
    with refused("Sonar_AdmissionNotForCaller", buyer, owner):
        market.create(owner, admission=offered.admission, sender=buyer)
