"""The payout formula: the platform's own examples, and sums that are exact to the wei whatever happens."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market import BOND, NATIVE, PPM, PayoutBase, Verdict, judged, kept


# R501, R502
def test_a_bounty_of_1000_and_a_target_of_80_percent_pay_25_for_2_percent(market, sonar, owner, mines):
    campaign = market.running(owner, 100_000, bounty=1000, target=800_000)
    assert sonar.quote(campaign.id, 120_000) == 25
    market.fill(campaign, mines[:3])
    tx = market.settle(campaign, 120_000, [kept(1, PPM), kept(1, 0), kept(1, 0)], sender=mines[0])
    assert tx.events["RoundSettled"][0]["payout"] == 25
    assert market.credits(mines[0]) == [BOND + 25]


# R501, R502
def test_an_untrained_start_and_a_target_of_100_percent_pay_2_percent_for_2_percent(market, sonar, owner, mines):
    bounty = 10**18
    campaign = market.running(owner, 0, bounty=bounty, target=PPM)
    assert sonar.quote(campaign.id, 20_000) == bounty // 50
    market.fill(campaign, mines[:3])
    market.settle(campaign, 20_000, [kept(1, PPM), kept(1, 0), kept(1, 0)], sender=mines[0])
    assert market.credits(mines[0]) == [BOND + bounty // 50]


# R502
def test_paying_by_gain_spends_the_whole_bounty_at_the_target(market, sonar, owner, mines):
    campaign = market.running(owner, 700_000, bounty=999_999_999_999_999_999, payoutBase=PayoutBase.GAIN)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 733_333, [kept(1, 333_333), kept(1, 333_333), kept(1, 333_334)], sender=mines[0])
    market.fill(campaign, mines[:3])
    market.settle(campaign, 999_999, [kept(1, 1), kept(1, 1), kept(1, 999_998)], sender=mines[0])
    assert sonar.getCampaign(campaign.id)["paid"] == campaign.terms["bounty"]
    assert sum(market.credits(*mines[:3])) == campaign.terms["bounty"] + 6 * BOND


# R504
def test_the_last_mine_with_a_share_takes_the_dust(market, owner, mines):
    campaign = market.running(owner, 0, bounty=101, target=PPM, roundSize=4, bond=0)
    market.fill(campaign, mines[:4])
    shares = [kept(1, 333_333), kept(1, 333_333), kept(1, 333_334), kept(1, 0)]
    market.settle(campaign, 999_999, shares, sender=mines[0])
    assert market.credits(*mines[:4]) == [33, 33, 34, 0]


# R501, R502
@pytest.mark.parametrize("bounty", [1, 2**128 - 1])
def test_the_formula_holds_at_the_extremes_of_a_token_bounty(chain, market, sonar, owner, mines, token, bounty):
    token.mint(owner, 2**128, sender=owner)
    token.approve(sonar, 2**256 - 1, sender=owner)
    campaign = market.running(owner, 0, token=token.address, bounty=bounty, target=PPM, payoutBase=PayoutBase.GAIN)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 999_999, [kept(1, 499_999), kept(1, 500_001), kept(1, 0)], sender=mines[0])
    assert sum(market.credits(*mines[:3], token=token)) == campaign.paid_at(999_999)
    market.fill(campaign, mines[:3])
    chain.at(campaign.terms["deadline"])
    market.settle(campaign, 999_999, [judged(0)] * 3, sender=mines[0])
    market.close(campaign)
    assert sum(market.credits(*mines[:3], owner, token=token)) == bounty


@st.composite
def _rounds(draw):
    """Rounds as (rise in ppm, or 0 for one that does not advance; verdict and relative share of each gradient)."""
    gradient = st.tuples(st.sampled_from(Verdict), st.integers(1, 1000))
    return draw(
        st.lists(st.tuples(st.integers(0, 300_000), st.lists(gradient, min_size=1, max_size=4)), min_size=1, max_size=4)
    )


@pytest.fixture
def beginning(chain):
    """What every example goes back to, for fixtures last for all of them."""
    return chain.snapshot()


# R503, R504, R505, R506, R507, R714, R901
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounty=st.integers(1, 10**20),
    start=st.integers(0, 700_000),
    base=st.sampled_from(PayoutBase),
    slash=st.integers(0, PPM),
    bond=st.integers(0, 10**16),
    rounds=_rounds(),
)
def test_sums_are_exact_to_the_wei(
    chain, beginning, market, sonar, owner, mines, bounty, start, base, slash, bond, rounds
):
    chain.restore(beginning)
    campaign = market.running(
        owner, start, bounty=bounty, target=701_003, payoutBase=base, slash=slash, bond=bond,
        minGain=1, minMines=1, roundSize=4,
    )  # fmt: skip
    ledger = dict.fromkeys([*mines, owner], 0)
    score = start
    for rise, gradients in rounds:
        if score >= 701_003:
            break
        rise = min(rise, PPM - score)
        if rise == 0 or all(verdict != Verdict.KEPT for verdict, _ in gradients):
            rise = 0
            gradients = [(Verdict.LEFT_OUT if verdict == Verdict.KEPT else verdict, 0) for verdict, _ in gradients]
        outcomes = _outcomes(gradients)
        payout = campaign.paid_at(score + rise) - campaign.paid_at(score)
        _book(ledger, owner, mines, outcomes, payout, bond, slash)
        market.fill(campaign, mines[: len(outcomes)])
        score += rise
        market.settle(campaign, score, outcomes, sender=owner)
    chain.at(campaign.terms["deadline"] + len(rounds))
    market.close(campaign)
    ledger[owner] += bounty - campaign.paid_at(score)

    assert market.credits(*ledger) == list(ledger.values())
    assert chain.balance(sonar) == sum(ledger.values())
    for account, amount in ledger.items():
        if amount:
            before = chain.balance(account)
            sonar.withdraw(NATIVE, account, sender=account)
            assert chain.balance(account) == before + amount
    assert chain.balance(sonar) == 0


def _outcomes(gradients):
    """Shares in proportion, the first kept gradient rounded up to a sum of exactly one."""
    total = sum(share for verdict, share in gradients if verdict == Verdict.KEPT)
    outcomes = [
        kept(7, share * PPM // total) if verdict == Verdict.KEPT else judged(verdict) for verdict, share in gradients
    ]
    if total:
        first = next(index for index, outcome in enumerate(outcomes) if outcome[0] == Verdict.KEPT)
        missing = PPM - sum(outcome[2] for outcome in outcomes)
        outcomes[first] = kept(7, outcomes[first][2] + missing)
    return outcomes


def _book(ledger, owner, mines, outcomes, payout, bond, slash):
    """What a settlement owes to whom, in plain integers."""
    unpaid = payout
    for mine, (verdict, _, share) in zip(mines, outcomes, strict=False):
        ledger[mine] += payout * share // PPM
        unpaid -= payout * share // PPM
        lost = {Verdict.KEPT: 0, Verdict.LEFT_OUT: bond * slash // PPM, Verdict.UNAVAILABLE: bond * slash // PPM}
        ledger[mine] += bond - lost.get(verdict, bond)
        ledger[owner] += lost.get(verdict, bond)
    paid = [mine for mine, (_, _, share) in zip(mines, outcomes, strict=False) if share]
    if paid:
        ledger[paid[-1]] += unpaid
    else:
        assert unpaid == 0
