"""expireRound: a silent oracle costs nobody anything but time."""

import pytest
from market import BOND, BOUNTY, HOUR, OTHER, Status, digest, judged, kept, refused


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


@pytest.fixture
def late(chain, market, sonar, campaign, mines):
    """A campaign whose first round is full and past its settlement window; the next block is the first such one."""
    market.fill(campaign, mines[:3])
    chain.at(sonar.getRound(campaign.id)["expiresAt"])
    return campaign


# R603, R601
def test_it_gives_every_bond_back(chain, market, sonar, late, owner, mines, stranger):
    before = chain.balance(sonar)
    market.expire(late, sender=stranger)
    assert market.credits(*mines[:3], owner, stranger) == [BOND, BOND, BOND, 0, 0]
    assert chain.balance(sonar) == before


# R604
def test_it_opens_the_next_round_on_the_same_model(market, sonar, late, mines, stranger):
    market.expire(late, sender=stranger)
    record, present = sonar.getCampaign(late.id), sonar.getRound(late.id)
    assert (record["score"], record["version"], record["paid"]) == (100_000, 0, 0)
    assert (record["status"], present["open"]) == (Status.RUNNING, True)
    assert (present["number"], present["settled"], present["count"]) == (1, 0, 0)
    assert (present["openedAt"], present["closesAt"], present["expiresAt"]) == (0, 0, 0)
    assert present["head"] == late.head()
    market.submit(late, mines[0])
    assert sonar.getRound(late.id)["count"] == 1


# R605
def test_it_says_so(market, late, stranger):
    tx = market.expire(late, sender=stranger)
    (event,) = tx.events["RoundExpired"]
    assert (event["id"], event["round"]) == (late.id, 0)


# R412
def test_it_counts_not_as_a_settled_round(chain, market, sonar, owner, mines, stranger):
    campaign = market.running(owner, maxRounds=1)
    market.fill(campaign, mines[:3])
    chain.at(sonar.getRound(campaign.id)["expiresAt"])
    market.expire(campaign, sender=stranger)
    assert market.status(campaign) == Status.RUNNING


# R601
def test_a_round_that_never_filled_expires_as_well(chain, market, sonar, campaign, mines, stranger):
    market.submit(campaign, mines[0])
    chain.at(sonar.getRound(campaign.id)["expiresAt"])
    market.expire(campaign, sender=stranger)
    assert market.credits(mines[0]) == [BOND]


# R508, R603
def test_bonds_of_a_token_campaign_come_back_in_coin(chain, market, sonar, owner, mines, token, stranger):
    campaign = market.running(owner, token=token.address)
    market.fill(campaign, mines[:3])
    chain.at(sonar.getRound(campaign.id)["expiresAt"])
    market.expire(campaign, sender=stranger)
    assert market.credits(*mines[:3]) == [BOND] * 3
    assert market.credits(*mines[:3], token=token) == [0] * 3


# R601
def test_it_waits_for_the_end_of_the_settlement_window(chain, market, sonar, campaign, mines, stranger):
    market.fill(campaign, mines[:3])
    expires = sonar.getRound(campaign.id)["expiresAt"]
    with refused("Sonar_RoundNotExpired", campaign.id, 0, expires):
        market.expire(campaign, sender=stranger)
    chain.at(expires - 1)
    with refused("Sonar_RoundNotExpired", campaign.id, 0, expires):
        market.expire(campaign, sender=stranger)
    market.expire(campaign, sender=stranger)
    assert campaign.round == 1


# R304, R601
def test_the_settlement_window_starts_at_the_deadline_at_the_latest(chain, market, sonar, campaign, mines, stranger):
    deadline = campaign.terms["deadline"]
    chain.at(deadline - 1)
    market.submit(campaign, mines[0])
    chain.at(deadline + HOUR)
    market.expire(campaign, sender=stranger)
    assert chain.now() == deadline + HOUR
    assert market.credits(mines[0]) == [BOND]


# R405
def test_a_late_settlement_that_comes_first_wins(market, late, mines, stranger):
    entries = list(late.entries)
    market.settle(late, 180_000, [kept(1, 500_000), kept(1, 500_000), judged(0)], sender=mines[0])
    with refused("Sonar_WrongRound", late.id, 0, 1):
        market.expire(late, sender=stranger, number=0, entries=entries)
    assert market.credits(mines[0]) == [BOUNTY // 20 + BOND]


# R604
def test_an_expiry_that_comes_first_wins(market, sonar, late, mines, stranger):
    entries = list(late.entries)
    outcomes = [kept(1, 500_000), kept(1, 500_000), judged(0)]
    settlement = market.settlement(late, 180_000, outcomes)
    signature = market.sign("Settlement", settlement)
    market.expire(late, sender=stranger)
    with refused("Sonar_WrongRound", late.id, 0, 1):
        sonar.settleRound(settlement, entries, signature, sender=mines[0])
    assert market.credits(*mines[:3]) == [BOND] * 3


# R601, R604
def test_a_round_expires_once(market, late, stranger):
    entries = list(late.entries)
    market.expire(late, sender=stranger)
    with refused("Sonar_WrongRound", late.id, 0, 1):
        market.expire(late, sender=stranger, number=0, entries=entries)
    with refused("Sonar_RoundEmpty", late.id, 1):
        market.expire(late, sender=stranger, entries=entries)


# R601
def test_an_unknown_campaigns_round_does_not_expire(sonar, stranger):
    with refused("Sonar_CampaignUnknown", digest("nothing")):
        sonar.expireRound(digest("nothing"), 0, [], sender=stranger)


# R601
def test_a_closed_campaigns_round_does_not_expire(market, campaign, stranger):
    market.close(campaign)
    with refused("Sonar_WrongStatus", campaign.id, Status.CLOSED):
        market.expire(campaign, sender=stranger)


# R602
@pytest.mark.parametrize(
    "tamper",
    [
        lambda entries: entries[::-1],
        lambda entries: entries[:-1],
        lambda entries: [*entries, entries[0]],
        lambda entries: [(OTHER, *entries[0][1:]), *entries[1:]],
    ],
    ids=["reordered", "left out", "added", "other mine"],
)
def test_entries_that_are_not_the_rounds_are_refused(market, late, attacker, tamper):
    head = late.head()
    late.entries = tamper(late.entries)
    with refused("Sonar_WrongHead", late.id, late.head(), head):
        market.expire(late, sender=attacker)
