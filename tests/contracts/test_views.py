"""The views: what clients read, and the digests that the oracle signs."""

import pytest
from market import BOUNTY, PPM, Verdict, digest, judged, kept, refused

HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]


@pytest.fixture
def campaign(market, owner):
    return market.running(owner)


# R213
def test_the_shortest_settlement_window_is_ten_minutes(sonar):
    assert sonar.MIN_SETTLEMENT_SECONDS() == 600


def test_unknown_campaigns_are_unknown_to_every_view(sonar, owner):
    nothing = digest("nothing")
    for view, arguments in [
        (sonar.getCampaign, ()),
        (sonar.getRound, ()),
        (sonar.lastSubmission, (owner,)),
        (sonar.quote, (PPM,)),
    ]:
        with refused("Sonar_CampaignUnknown", nothing):
            view(nothing, *arguments)


# R101, R107
def test_the_admissions_digest_is_eip_712s(market, sonar, owner):
    admission = market.admission(owner)
    assert sonar.hashAdmission(admission) == market.digest("Admission", admission)


# R102, R107
@pytest.mark.parametrize("outcomes", [[], HALVES, [judged(verdict) for verdict in Verdict]], ids=len)
def test_the_settlements_digest_is_eip_712s(market, sonar, campaign, outcomes):
    settlement = market.settlement(campaign, 123_456, outcomes, modelCid="å" * 70)
    assert sonar.hashSettlement(settlement) == market.digest("Settlement", settlement)


# R102
def test_digests_belong_to_one_contract(chain, market, sonar, owner):
    other = chain.deploy("Sonar", sender=owner)
    admission = market.admission(owner)
    assert other.hashAdmission(admission) != sonar.hashAdmission(admission)


# R304
def test_the_round_is_open_from_its_first_gradient_to_its_closing_time(chain, market, sonar, campaign, mines):
    assert sonar.getRound(campaign.id)["open"]
    market.submit(campaign, mines[0])
    assert sonar.getRound(campaign.id)["open"]
    chain.at(sonar.getRound(campaign.id)["closesAt"])
    chain.transact(mines[3], mines[3])
    assert chain.now() == sonar.getRound(campaign.id)["closesAt"]
    assert not sonar.getRound(campaign.id)["open"]


# R302
def test_the_round_is_not_open_after_the_deadline(chain, market, sonar, campaign, mines):
    chain.at(campaign.terms["deadline"])
    chain.transact(mines[3], mines[3])
    assert not sonar.getRound(campaign.id)["open"]


def test_a_closed_campaigns_round_is_not_open(market, sonar, campaign):
    market.close(campaign)
    present = sonar.getRound(campaign.id)
    assert (present["open"], present["count"]) == (False, 0)


# R305
def test_the_last_submission_is_a_round_plus_one(market, sonar, campaign, mines):
    assert sonar.lastSubmission(campaign.id, mines[0]) == 0
    market.fill(campaign, mines[:3])
    assert sonar.lastSubmission(campaign.id, mines[0]) == 1
    assert sonar.lastSubmission(campaign.id, mines[3]) == 0


# R509, R501
@pytest.mark.parametrize("score", [0, 99_999, 100_000, 100_001, 180_000, 800_000, 800_001, PPM, 2**32 - 1])
def test_a_quote_is_the_formulas_difference(market, sonar, campaign, score):
    assert sonar.quote(campaign.id, score) == campaign.paid_at(max(score, 100_000))


# R509
def test_a_quote_is_what_the_round_then_pays(market, sonar, campaign, mines):
    for score in (180_000, 345_678):
        quote = sonar.quote(campaign.id, score)
        market.fill(campaign, mines[:3])
        tx = market.settle(campaign, score, HALVES, sender=mines[0])
        assert tx.events["RoundSettled"][0]["payout"] == quote > 0


# R509
def test_a_campaign_that_is_over_quotes_nothing(market, sonar, campaign, owner, mines):
    market.close(campaign)
    assert sonar.quote(campaign.id, PPM) == 0
    finished = market.running(owner, maxRounds=1)
    market.fill(finished, mines[:3])
    market.settle(finished, 180_000, HALVES, sender=mines[0])
    assert sonar.quote(finished.id, PPM) == 0


# R801
def test_a_credit_is_counted_by_token_and_account(market, sonar, campaign, owner, token):
    market.close(campaign)
    assert market.credits(owner) == [BOUNTY]
    assert market.credits(owner, token=token) == [0]
