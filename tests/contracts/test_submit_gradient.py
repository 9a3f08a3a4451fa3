"""submitGradient: one gradient an account and round, with its bond, as long as the round is open."""

import pytest
from market import BOND, BOUNTY, HOUR, MINUTE, Status, digest, judged, kept, refused


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


# R307, R301
def test_it_enters_the_rounds_hash_chain(market, sonar, campaign, mines):
    for count, mine in enumerate(mines[:2], start=1):
        market.submit(campaign, mine)
        present = sonar.getRound(campaign.id)
        assert present["count"] == count
        assert present["head"] == campaign.head()


# R308
def test_it_answers_and_announces_the_gradients_place(market, campaign, mines):
    market.submit(campaign, mines[0])
    tx = market.submit(campaign, mines[1])
    assert tx.return_value == 1
    (event,) = tx.events["GradientSubmitted"]
    _, artifact, gradient = campaign.entries[1]
    assert event["id"] == campaign.id
    assert (event["round"], event["mine"], event["index"]) == (0, mines[1], 1)
    assert (event["artifact"], event["gradient"]) == (artifact, gradient)
    assert event["cid"] == "cid of the gradient"


# R304
def test_the_first_one_starts_the_rounds_clock(chain, market, sonar, campaign, mines):
    market.submit(campaign, mines[0])
    opened = chain.now()
    chain.at(opened + MINUTE)
    market.submit(campaign, mines[1])
    present = sonar.getRound(campaign.id)
    assert (present["openedAt"], present["closesAt"]) == (opened, opened + 5 * MINUTE)
    assert present["expiresAt"] == opened + 5 * MINUTE + HOUR


# R306
def test_it_takes_the_bond_and_nothing_else(chain, market, sonar, campaign, mine):
    before = chain.balance(mine)
    market.submit(campaign, mine)
    assert chain.balance(mine) == before - BOND
    assert chain.balance(sonar) == BOUNTY + BOND
    assert market.credits(mine) == [0]


# R306
@pytest.mark.parametrize("value", [0, BOND - 1, BOND + 1])
def test_the_bond_must_come_exactly(market, campaign, mine, value):
    with refused("Sonar_WrongValue", value, BOND):
        market.submit(campaign, mine, value=value)


# R306
def test_a_campaign_without_bonds_takes_none(market, sonar, owner, mine):
    campaign = market.running(owner, bond=0)
    with refused("Sonar_WrongValue", 1, 0):
        market.submit(campaign, mine, value=1)
    market.submit(campaign, mine)
    assert sonar.getRound(campaign.id)["count"] == 1


# R305
def test_an_account_submits_once_a_round(market, campaign, mine):
    market.submit(campaign, mine)
    with refused("Sonar_AlreadySubmitted", campaign.id, 0, mine):
        market.submit(campaign, mine)


# R305
def test_an_account_submits_again_in_the_next_round(market, sonar, campaign, mines):
    market.fill(campaign, mines[:3])
    market.settle(campaign, 200_000, [kept(1, 500_000), kept(1, 500_000), judged(0)], sender=mines[0])
    market.submit(campaign, mines[0])
    assert sonar.getRound(campaign.id)["count"] == 1
    assert sonar.lastSubmission(campaign.id, mines[0]) == 2
    with refused("Sonar_AlreadySubmitted", campaign.id, 1, mines[0]):
        market.submit(campaign, mines[0])


# R305, R902
def test_an_account_submits_to_two_campaigns_at_once(market, sonar, campaign, owner, mine):
    other = market.running(owner)
    market.submit(campaign, mine)
    market.submit(other, mine)
    assert sonar.lastSubmission(campaign.id, mine) == sonar.lastSubmission(other.id, mine) == 1


# R301
def test_a_mine_may_be_a_contract(chain, market, sonar, campaign, mine):
    actor = chain.deploy("Actor", sender=mine)
    market.submit_through(actor, campaign, mine)
    assert sonar.lastSubmission(campaign.id, actor) == 1
    assert sonar.lastSubmission(campaign.id, mine) == 0


# R301
def test_a_gradient_for_an_unknown_campaign_is_refused(sonar, mine):
    with refused("Sonar_CampaignUnknown", digest("nothing")):
        sonar.submitGradient(digest("nothing"), 0, digest("a"), digest("g"), "cid", sender=mine, value=BOND)


# R301
@pytest.mark.parametrize("number", [1, 2**32 - 1])
def test_a_gradient_for_another_round_is_refused(market, campaign, mine, number):
    with refused("Sonar_WrongRound", campaign.id, number, 0):
        market.submit(campaign, mine, number=number)


# R301
def test_a_gradient_for_a_past_round_is_refused(market, campaign, mines):
    market.fill(campaign, mines[:3])
    market.settle(campaign, 100_000, [judged(0)] * 3, sender=mines[0])
    with refused("Sonar_WrongRound", campaign.id, 0, 1):
        market.submit(campaign, mines[0], number=0)


# R303
def test_a_round_closed_by_its_last_gradient_takes_no_more(market, sonar, campaign, mines):
    market.fill(campaign, mines[:3])
    assert not sonar.getRound(campaign.id)["open"]
    with refused("Sonar_RoundClosed", campaign.id, 0):
        market.submit(campaign, mines[3])


# R304
def test_a_round_takes_gradients_until_its_last_second_and_none_once_closed(chain, market, sonar, campaign, mines):
    market.submit(campaign, mines[0])
    closes = sonar.getRound(campaign.id)["closesAt"]
    chain.at(closes - 1)
    market.submit(campaign, mines[1])
    assert chain.now() == closes - 1
    with refused("Sonar_RoundClosed", campaign.id, 0):
        market.submit(campaign, mines[2])


# R304
def test_an_empty_round_waits_for_its_first_gradient(chain, market, sonar, campaign, mine):
    chain.at(chain.now() + 20 * HOUR)
    market.submit(campaign, mine)
    assert sonar.getRound(campaign.id)["count"] == 1


# R302
def test_a_campaign_takes_gradients_until_its_deadline(chain, market, campaign, mines):
    deadline = campaign.terms["deadline"]
    chain.at(deadline - 1)
    market.submit(campaign, mines[0])
    with refused("Sonar_DeadlinePassed", campaign.id, deadline, deadline):
        market.submit(campaign, mines[1])


# R304
def test_a_round_closes_at_the_deadline_if_that_comes_first(chain, market, sonar, campaign, mine):
    deadline = campaign.terms["deadline"]
    chain.at(deadline - MINUTE)
    market.submit(campaign, mine)
    present = sonar.getRound(campaign.id)
    assert (present["closesAt"], present["expiresAt"]) == (deadline, deadline + HOUR)


# R301
def test_a_closed_campaign_takes_no_gradient(market, campaign, mine):
    market.close(campaign)
    with refused("Sonar_WrongStatus", campaign.id, Status.CLOSED):
        market.submit(campaign, mine)


# R301
def test_a_finished_campaign_takes_no_gradient(market, campaign, mines):
    market.fill(campaign, mines[:3])
    market.settle(campaign, 800_000, [kept(1, 500_000), kept(1, 500_000), judged(0)], sender=mines[0])
    with refused("Sonar_WrongStatus", campaign.id, Status.FINISHED):
        market.submit(campaign, mines[0])


# R301
def test_the_owner_may_mine_her_own_campaign(market, sonar, campaign, owner):
    market.submit(campaign, owner)
    assert sonar.lastSubmission(campaign.id, owner) == 1


# R905
def test_submitting_costs_the_same_for_any_number_of_mines(metered_market, owner, mines):
    market = metered_market
    campaign = market.running(owner, roundSize=64)
    first, *others = [market.submit(campaign, mine).gas_used for mine in mines]
    assert max(others) - min(others) < 100
    assert 0 < first - others[0] < 500  # it opens the round
