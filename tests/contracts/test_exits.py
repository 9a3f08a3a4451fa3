"""From every state there is a way out for everyone's money, also if the oracle never says another word."""

import pytest
from market import NATIVE, Status, judged, kept

HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]


def fresh(market, campaign, mines):
    """Nothing has happened."""


def open_round(market, campaign, mines):
    """A gradient waits for others."""
    market.submit(campaign, mines[0])


def full_round(market, campaign, mines):
    """A round waits for a settlement that does not come."""
    market.fill(campaign, mines[:3])


def paid(market, campaign, mines):
    """A round was settled, and nothing came after it."""
    market.fill(campaign, mines[:3])
    market.settle(campaign, 180_000, HALVES, sender=mines[0])


def paid_and_pending(market, campaign, mines):
    """A round was settled, and the next one waits."""
    paid(market, campaign, mines)
    market.fill(campaign, mines[1:4])


def topped_up(market, campaign, mines):
    """The bounty was raised between two rounds, of which the second waits."""
    paid(market, campaign, mines)
    market.sonar.topUp(campaign.id, 12_345, sender=mines[3], value=12_345)
    market.submit(campaign, mines[0])


def offered(market, campaign, mines):
    """An offer of the campaign was never answered."""
    market.sonar.transferCampaign(campaign.id, mines[3], sender=campaign.owner)
    market.submit(campaign, mines[0])


def expired(market, campaign, mines):
    """A round was given up already."""
    market.fill(campaign, mines[:3])
    market.chain.at(market.sonar.getRound(campaign.id)["expiresAt"])
    market.expire(campaign, sender=mines[0])
    market.submit(campaign, mines[2])


def finished(market, campaign, mines):
    """The target is reached."""
    market.fill(campaign, mines[:3])
    market.settle(campaign, 900_000, HALVES, sender=mines[0])


# R907, R601, R712, R713, R802, R901
@pytest.mark.parametrize("payout_base", [0, 1], ids=["target", "gain"])
@pytest.mark.parametrize(
    "reach", [fresh, open_round, full_round, paid, paid_and_pending, topped_up, offered, expired, finished]
)
def test_every_state_is_left_without_a_word_from_the_oracle(
    chain, market, sonar, owner, mines, stranger, reach, payout_base
):
    campaign = market.running(owner, payoutBase=payout_base)
    reach(market, campaign, mines)
    if campaign.entries:
        chain.at(sonar.getRound(campaign.id)["expiresAt"])
        market.expire(campaign, sender=stranger)
    if market.status(campaign) == Status.RUNNING and chain.now() < campaign.terms["deadline"]:
        chain.at(campaign.terms["deadline"])
    market.close(campaign)
    for account in (*mines, owner):
        if sonar.credit(NATIVE, account):
            sonar.withdraw(NATIVE, account, sender=account)
    assert market.status(campaign) == Status.CLOSED
    assert chain.balance(sonar) == 0
