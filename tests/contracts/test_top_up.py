"""topUp: anyone adds to a bounty; it pays for what is still to come, and no gradient's pay ever falls."""

from fractions import Fraction

import pytest
from eth_utils import keccak
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from market import BOND, BOUNTY, PPM, REENTRANT, PayoutBase, Status, judged, kept, refused

HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]
MAX = 2**128 - 1
ETHER = 10**18


@pytest.fixture
def campaign(market, owner):
    """Bounty 1 ether, start 10 %, target 80 %: a campaign that nothing has happened to."""
    return market.running(owner)


def advance(market, campaign, mines, score):
    """Settles the present round at `score`."""
    market.fill(campaign, mines[:3])
    return market.settle(campaign, score, HALVES, sender=mines[0])


# What it does


# R701, R707
def test_a_stranger_adds_to_the_bounty(chain, market, sonar, campaign, stranger):
    before = chain.balance(sonar)
    receipt = sonar.topUp(campaign.id, ETHER, sender=stranger, value=ETHER)
    assert receipt.events["BountyRaised"] == [
        {"id": campaign.id, "from": stranger, "amount": ETHER, "bounty": BOUNTY + ETHER}
    ]
    assert sonar.getCampaign(campaign.id)["terms"]["bounty"] == BOUNTY + ETHER
    assert chain.balance(sonar) == before + ETHER


# R704
def test_it_pays_nothing_for_what_the_score_has_risen_already(market, sonar, campaign, mines, owner):
    advance(market, campaign, mines, 180_000)
    paid = sonar.getCampaign(campaign.id)["paid"]
    owed = market.credits(*mines, owner)
    sonar.topUp(campaign.id, 7 * ETHER, sender=owner, value=7 * ETHER)
    assert sonar.getCampaign(campaign.id)["paid"] == paid == BOUNTY // 10
    assert market.credits(*mines, owner) == owed


# R705
def test_with_base_target_later_rises_pay_at_the_raised_bounty(market, sonar, campaign, mines, owner):
    advance(market, campaign, mines, 180_000)
    sonar.topUp(campaign.id, BOUNTY, sender=owner, value=BOUNTY)
    assert sonar.quote(campaign.id, 260_000) == 2 * BOUNTY // 10
    receipt = advance(market, campaign, mines, 260_000)
    assert receipt.events["RoundSettled"][0]["payout"] == 2 * BOUNTY // 10
    assert sonar.getCampaign(campaign.id)["paid"] == 3 * BOUNTY // 10


# R705, R706
def test_with_base_gain_the_addition_is_spread_over_what_is_left_to_the_target(market, sonar, mines, owner):
    campaign = market.running(owner, payoutBase=PayoutBase.GAIN)
    advance(market, campaign, mines, 450_000)  # half of the way
    sonar.topUp(campaign.id, 7 * ETHER, sender=owner, value=7 * ETHER)
    assert sonar.quote(campaign.id, 550_000) == BOUNTY // 7 + 2 * ETHER
    assert sonar.quote(campaign.id, 800_000) == BOUNTY // 2 + 7 * ETHER


# R706
def test_with_base_gain_the_whole_raised_bounty_is_paid_at_the_target(chain, market, sonar, mines, owner, stranger):
    campaign = market.running(owner, payoutBase=PayoutBase.GAIN)
    sonar.topUp(campaign.id, 11, sender=owner, value=11)
    advance(market, campaign, mines, 333_333)
    sonar.topUp(campaign.id, 12_345_678_901, sender=stranger, value=12_345_678_901)
    advance(market, campaign, mines, 777_777)
    sonar.topUp(campaign.id, 1, sender=owner, value=1)
    advance(market, campaign, mines, 900_000)
    bounty = BOUNTY + 11 + 12_345_678_901 + 1
    assert market.status(campaign) == Status.FINISHED
    assert sonar.getCampaign(campaign.id)["paid"] == bounty
    assert market.close(campaign).events["CampaignClosed"][0]["refund"] == 0
    assert sum(market.credits(*mines, owner)) == bounty + 9 * BOND == chain.balance(sonar)


# R701, R714
def test_what_is_not_paid_goes_to_the_owner_whoever_added_it(chain, market, sonar, campaign, mines, owner, stranger):
    advance(market, campaign, mines, 180_000)
    sonar.topUp(campaign.id, BOUNTY, sender=stranger, value=BOUNTY)
    advance(market, campaign, mines, 800_000)
    paid = BOUNTY // 10 + 2 * BOUNTY * 62 // 80
    assert market.close(campaign).events["CampaignClosed"][0]["refund"] == 2 * BOUNTY - paid
    assert market.credits(stranger) == [0]
    assert sum(market.credits(*mines, owner)) == chain.balance(sonar)


# R701
def test_it_counts_for_a_round_that_waits_for_its_settlement(market, sonar, campaign, mines, stranger):
    market.fill(campaign, mines[:3])
    sonar.topUp(campaign.id, BOUNTY, sender=stranger, value=BOUNTY)
    receipt = market.settle(campaign, 180_000, HALVES, sender=stranger)
    assert receipt.events["RoundSettled"][0]["payout"] == 2 * BOUNTY // 10


# R703, R502
def test_an_erc20_addition_is_pulled_from_whoever_adds_it(market, sonar, fund, owner, mines, stranger):
    token = fund("HonestToken", owner)
    campaign = market.running(owner, token=token.address)
    token.mint(stranger, ETHER, sender=stranger)
    token.approve(sonar, ETHER, sender=stranger)
    sonar.topUp(campaign.id, ETHER, sender=stranger)
    assert (token.balanceOf(stranger), token.balanceOf(sonar)) == (0, BOUNTY + ETHER)
    advance(market, campaign, mines, 180_000)
    assert sum(market.credits(*mines, token=token.address)) == 2 * BOUNTY // 10


# R704, R705, R706, R503, R901
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(PayoutBase),
    bounty=st.integers(1, 10**20),
    start=st.integers(0, 998_000),
    reach=st.integers(2, PPM),
    steps=st.lists(st.tuples(st.integers(0, 10**20), st.integers(1, PPM)), min_size=1, max_size=6),
)
@example(base=PayoutBase.GAIN, bounty=1, start=0, reach=PPM, steps=[(0, 500_000), (1, 1), (1, 1), (1, PPM)])
@example(base=PayoutBase.TARGET, bounty=3, start=1, reach=7, steps=[(0, 3), (1, 1), (1, 1), (2, 1)])
def test_no_top_up_lowers_a_quote_and_every_unit_is_accounted_for(
    chain, market, sonar, owner, mines, base, bounty, start, reach, steps
):
    """Top-ups of `steps[i][0]`, then rounds that rise by up to `steps[i][1]`, against exact fractions."""
    target = min(PPM, start + reach)
    restore = chain.snapshot()
    campaign = market.running(owner, start, bounty=bounty, target=target, payoutBase=base, minGain=1, bond=0)
    exact = [(Fraction(bounty, target if base == PayoutBase.TARGET else target - start), start)]
    score, paid, total, raised = start, 0, bounty, 0
    for amount, rise in steps:
        probes = sorted({score + 1, (score + target) // 2, target - 1, target, PPM})
        before = [sonar.quote(campaign.id, probe) for probe in probes]
        if amount:
            sonar.topUp(campaign.id, amount, sender=owner, value=amount)
            total, raised = total + amount, raised + 1
            exact.append((Fraction(amount, target if base == PayoutBase.TARGET else target - score), score))
        after = [sonar.quote(campaign.id, probe) for probe in probes]
        assert all(new >= old for old, new in zip(before, after, strict=True))
        for probe, pays in zip(probes, after, strict=True):
            line = sum(slope * max(0, min(probe, target) - at) for slope, at in exact)
            assert -1 - raised < paid + pays - line <= 0
        score = min(score + rise, target - 1)
        if score == sonar.getCampaign(campaign.id)["score"]:
            break
        paid += advance(market, campaign, mines, score).events["RoundSettled"][0]["payout"]
        assert sonar.getCampaign(campaign.id)["paid"] == paid <= total
    if base == PayoutBase.GAIN:
        assert paid + sonar.quote(campaign.id, target) == total
    advance(market, campaign, mines, PPM)
    market.close(campaign)
    assert sum(market.credits(*mines, owner)) == total == chain.balance(sonar)
    chain.restore(restore)


# What it refuses


# R701
def test_an_unknown_campaign_is_refused(sonar, stranger):
    with refused("Sonar_CampaignUnknown", bytes(32)):
        sonar.topUp(bytes(32), 1, sender=stranger, value=1)


# R701
def test_a_finished_campaign_is_refused(market, sonar, campaign, mines, owner):
    advance(market, campaign, mines, 800_000)
    with refused("Sonar_WrongStatus", campaign.id, Status.FINISHED):
        sonar.topUp(campaign.id, 1, sender=owner, value=1)


# R701
def test_a_closed_campaign_is_refused(market, sonar, campaign, owner):
    market.close(campaign)
    with refused("Sonar_WrongStatus", campaign.id, Status.CLOSED):
        sonar.topUp(campaign.id, 1, sender=owner, value=1)


# R701
def test_the_last_second_before_the_deadline_is_in_time_and_the_deadline_is_not(chain, sonar, campaign, owner):
    deadline = campaign.terms["deadline"]
    chain.at(deadline - 1)
    sonar.topUp(campaign.id, 1, sender=owner, value=1)
    chain.at(deadline)
    with refused("Sonar_DeadlinePassed", campaign.id, deadline, deadline):
        sonar.topUp(campaign.id, 1, sender=owner, value=1)


# R702
def test_nothing_is_no_top_up(sonar, campaign, owner):
    with refused("Sonar_AmountZero"):
        sonar.topUp(campaign.id, 0, sender=owner)


# R702
def test_a_bounty_beyond_128_bits_is_refused(market, sonar, fund, owner):
    token = fund("HonestToken", owner)
    token.mint(owner, MAX, sender=owner)
    token.approve(sonar, 2 * MAX, sender=owner)
    campaign = market.running(owner, token=token.address)
    with refused("Sonar_BountyOverflow", BOUNTY, MAX - BOUNTY + 1):
        sonar.topUp(campaign.id, MAX - BOUNTY + 1, sender=owner)
    sonar.topUp(campaign.id, MAX - BOUNTY, sender=owner)
    assert sonar.getCampaign(campaign.id)["terms"]["bounty"] == MAX
    assert sonar.quote(campaign.id, 800_000) == MAX * 7 // 8


# R702
def test_the_largest_bounty_that_pays_by_gain_can_be_paid_to_the_last_unit(market, sonar, fund, owner, mines):
    token = fund("HonestToken", owner)
    token.mint(owner, MAX, sender=owner)
    token.approve(sonar, MAX, sender=owner)
    campaign = market.running(owner, 0, token=token.address, bounty=1, target=PPM, payoutBase=PayoutBase.GAIN)
    advance(market, campaign, mines, PPM - 1_000)
    sonar.topUp(campaign.id, MAX - 1, sender=owner)
    advance(market, campaign, mines, PPM)
    assert sum(market.credits(*mines, token=token.address)) == MAX


# R703
@pytest.mark.parametrize("value", [0, ETHER - 1, ETHER + 1])
def test_native_coin_must_come_to_the_wei(sonar, campaign, owner, value):
    with refused("Sonar_WrongValue", value, ETHER):
        sonar.topUp(campaign.id, ETHER, sender=owner, value=value)


# R703
def test_coin_with_an_erc20_addition_is_refused(market, sonar, token, owner):
    campaign = market.running(owner, token=token.address)
    with refused("Sonar_WrongValue", 1, 0):
        sonar.topUp(campaign.id, 5, sender=owner, value=1)


# R703
def test_a_token_that_begins_to_take_a_fee_is_refused(chain, market, sonar, fund, owner):
    token = fund("LateFeeToken", owner)
    campaign = market.running(owner, token=token.address)
    token.charge(sender=owner)
    with refused("Sonar_TokenDeliveredOtherAmount", token, 99, 100):
        sonar.topUp(campaign.id, 100, sender=owner)
    assert sonar.getCampaign(campaign.id)["terms"]["bounty"] == BOUNTY


# R703
def test_a_caller_without_allowance_is_refused(market, sonar, token, owner, stranger):
    campaign = market.running(owner, token=token.address)
    with refused("ERC20InsufficientAllowance", sonar, 0, 5):
        sonar.topUp(campaign.id, 5, sender=stranger)


# R906
def test_a_token_cannot_enter_it_again(market, sonar, fund, owner):
    token = fund("CallbackToken", owner)
    campaign = market.running(owner, token=token.address)
    token.arm(sonar, sonar.topUp.encode(campaign.id, 5), sender=owner)
    sonar.topUp(campaign.id, 7, sender=owner)
    assert token.answer() == REENTRANT
    assert sonar.getCampaign(campaign.id)["terms"]["bounty"] == BOUNTY + 7


# R704, R714, R901
def test_many_small_additions_lock_nothing_and_pay_for_nothing_that_is_past(chain, market, sonar, owner, mines):
    campaign = market.running(owner, 0, bounty=100, target=PPM, payoutBase=PayoutBase.GAIN, minGain=1, bond=0)
    advance(market, campaign, mines, 1)
    for _ in range(50):
        sonar.topUp(campaign.id, 1, sender=owner, value=1)
    assert sonar.quote(campaign.id, 900_000) <= 135
    advance(market, campaign, mines, 900_000)
    paid = sonar.getCampaign(campaign.id)["paid"]
    assert paid == sum(market.credits(*mines))
    sonar.topUp(campaign.id, 100, sender=owner, value=100)
    assert sonar.getCampaign(campaign.id)["paid"] == paid
    advance(market, campaign, mines, PPM)
    market.close(campaign)
    assert sum(market.credits(*mines, owner)) == 250 == chain.balance(sonar)


# R909
def test_what_a_token_calls_back_for_is_told_after_the_addition(market, sonar, fund, owner):
    token = fund("CallbackToken", owner)
    campaign = market.running(owner, token=token.address)
    sonar.transferCampaign(campaign.id, token, sender=owner)
    token.arm(sonar, sonar.acceptCampaign.encode(campaign.id), sender=owner)
    receipt = sonar.topUp(campaign.id, 7, sender=owner)
    ours = [log for log in receipt.logs if log.address == sonar.address]
    assert list(receipt.events["CampaignTransferred"])
    assert [log.topics[0] for log in ours] == [
        keccak(text="BountyRaised(bytes32,address,uint128,uint128)"),
        keccak(text="CampaignTransferred(bytes32,address,address)"),
    ]
