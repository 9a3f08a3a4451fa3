"""close: the owner gets the rest of her bounty, once, and only when nobody can still count on it."""

import pytest
from market import BOND, BOUNTY, NATIVE, Status, digest, judged, kept, refused

HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


@pytest.fixture
def paid(market, campaign, mines):
    """A campaign that has paid a tenth of its bounty."""
    market.fill(campaign, mines[:3])
    market.settle(campaign, 180_000, HALVES, sender=mines[0])
    return campaign


# R713, R714
def test_an_untouched_campaign_is_cancelled_for_all_of_its_bounty(chain, market, sonar, campaign, owner):
    market.close(campaign)
    assert market.status(campaign) == Status.CLOSED
    assert market.credits(owner) == [BOUNTY]
    assert chain.balance(sonar) == BOUNTY


# R713, R506
def test_a_campaign_in_which_nothing_was_kept_is_cancelled(market, campaign, owner, mines):
    market.fill(campaign, mines[:3])
    market.settle(campaign, 100_000, [judged(0)] * 3, sender=mines[0])
    market.close(campaign)
    assert market.credits(owner) == [BOUNTY + 3 * (BOND // 10)]


# R714, R502
def test_a_finished_campaign_is_closed_for_what_its_formula_leaves(market, sonar, campaign, owner, mines):
    market.fill(campaign, mines[:3])
    market.settle(campaign, 800_000, HALVES, sender=mines[0])
    market.close(campaign)
    assert market.credits(owner) == [BOUNTY // 8 + BOND // 10]
    assert sonar.getCampaign(campaign.id)["paid"] == BOUNTY * 7 // 8


# R502, R714
def test_a_finished_campaign_that_pays_by_gain_leaves_nothing(market, sonar, owner, mines):
    campaign = market.running(owner, payoutBase=1)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 800_000, HALVES, sender=mines[0])
    tx = market.close(campaign)
    assert tx.events["CampaignClosed"][0]["refund"] == 0
    assert market.credits(owner) == [BOND // 10]


# R714
def test_payouts_and_refund_are_the_bounty(chain, market, paid, owner, mines):
    chain.at(paid.terms["deadline"])
    tx = market.close(paid)
    refund = tx.events["CampaignClosed"][0]["refund"]
    assert refund == BOUNTY - BOUNTY // 10
    assert sum(market.credits(*mines[:3], owner)) == BOUNTY + 3 * BOND


# R714, R801
def test_a_token_bounty_is_refunded_in_its_token(market, owner, token):
    campaign = market.running(owner, token=token.address)
    market.close(campaign)
    assert market.credits(owner, token=token) == [BOUNTY]
    assert market.credits(owner) == [0]


# R715
def test_it_says_so(market, campaign, owner):
    tx = market.close(campaign)
    (event,) = tx.events["CampaignClosed"]
    assert (event["id"], event["owner"], event["refund"]) == (campaign.id, owner, BOUNTY)


# R713
def test_a_campaign_that_has_paid_stays_open_until_its_deadline(chain, market, paid, owner):
    deadline = paid.terms["deadline"]
    with refused("Sonar_NotClosable", paid.id, deadline):
        market.close(paid)
    chain.at(deadline - 1)
    with refused("Sonar_NotClosable", paid.id, deadline):
        market.close(paid)
    market.close(paid)
    assert chain.now() == deadline
    assert market.status(paid) == Status.CLOSED


# R712
def test_a_pending_round_keeps_it_open_even_after_the_deadline(chain, market, sonar, campaign, mines, owner):
    market.submit(campaign, mines[0])
    with refused("Sonar_RoundPending", campaign.id, 0, 1):
        market.close(campaign)
    chain.at(sonar.getRound(campaign.id)["expiresAt"] + campaign.terms["deadline"])
    with refused("Sonar_RoundPending", campaign.id, 0, 1):
        market.close(campaign)
    market.expire(campaign, sender=owner)
    market.close(campaign)
    assert market.credits(owner, mines[0]) == [BOUNTY, BOND]


# R712
def test_nobody_else_closes(market, campaign, attacker, mine):
    for sender in (attacker, mine):
        with refused("Sonar_NotOwner", campaign.id, sender, campaign.owner):
            market.close(campaign, sender=sender)


# R712
def test_a_campaign_is_not_closed_twice(market, campaign, owner):
    market.close(campaign)
    with refused("Sonar_WrongStatus", campaign.id, Status.CLOSED):
        market.close(campaign)
    assert market.credits(owner) == [BOUNTY]


# R712
def test_an_unknown_campaign_cannot_be_closed(sonar, owner):
    with refused("Sonar_CampaignUnknown", digest("nothing")):
        sonar.close(digest("nothing"), sender=owner)


# R714, R801
def test_what_the_mines_are_owed_stays_theirs(chain, market, sonar, paid, owner, mines):
    chain.at(paid.terms["deadline"])
    market.close(paid)
    sonar.withdraw(NATIVE, owner, sender=owner)
    for mine in mines[:2]:
        before = chain.balance(mine)
        sonar.withdraw(NATIVE, mine, sender=mine)
        assert chain.balance(mine) == before + BOUNTY // 20 + BOND
