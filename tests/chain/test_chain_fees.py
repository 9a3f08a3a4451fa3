"""What transactions offer per gas: the market's price, a replacement's rise, and the limit above both."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from sonar.chain.errors import FeeLimitError
from sonar.chain.fees import FeeMarket, Fees
from sonar.units import Wei

wei = st.integers(0, 10**15).map(Wei)
markets = st.builds(FeeMarket, st.one_of(st.none(), wei), wei)


@given(markets)
def test_without_a_former_transaction_the_usual_fees_are_offered_below_the_limit(market: FeeMarket) -> None:
    assert market.offer(Wei(10**18)) == market.usual


@given(market=markets, highest=wei, tip=wei, limit=wei)
def test_a_replacement_offers_an_eighth_more_of_both_fees_or_nothing(
    market: FeeMarket, highest: Wei, tip: Wei, limit: Wei
) -> None:
    former = Fees(Wei(max(highest, tip)), None if market.base is None else tip)
    try:
        offered = market.offer(limit, former)
    except FeeLimitError:
        asked = max(former.highest + former.highest / 8, market.tip + (market.base or 0))
        if former.tip is not None:
            asked = max(asked, former.tip + former.tip / 8 + (market.base or 0))
        assert limit < asked + 1
        return
    assert offered.highest <= limit
    assert 8 * offered.highest >= 9 * former.highest
    assert offered.highest >= (market.base or 0) + (offered.tip or 0)
    if former.tip is not None:
        assert offered.tip is not None
        assert 8 * offered.tip >= 9 * former.tip


@given(market=markets, limit=wei)
def test_what_was_offered_now_is_not_too_low_now(market: FeeMarket, limit: Wei) -> None:
    try:
        assert not market.asks_more_than(market.offer(limit))
    except FeeLimitError:
        assert limit < market.tip + (market.base or 0)


@pytest.mark.parametrize(
    ("market", "fees", "more"),
    [
        (FeeMarket(Wei(100), Wei(10)), Fees(Wei(110), Wei(10)), False),
        (FeeMarket(Wei(101), Wei(10)), Fees(Wei(110), Wei(10)), True),
        (FeeMarket(Wei(100), Wei(11)), Fees(Wei(500), Wei(10)), True),
        (FeeMarket(Wei(100), Wei(10)), Fees(Wei(109), None), True),
        (FeeMarket(None, Wei(10)), Fees(Wei(10), None), False),
        (FeeMarket(None, Wei(11)), Fees(Wei(10), None), True),
    ],
)
def test_fees_are_too_low_where_base_fee_or_tip_have_risen_above_them(
    market: FeeMarket, fees: Fees, more: bool
) -> None:
    assert market.asks_more_than(fees) is more


def test_a_spike_above_the_limit_says_what_is_asked_for_and_what_the_limit_is() -> None:
    with pytest.raises(FeeLimitError, match=r"asks for 501\.5 gwei per gas, and the limit is 500"):
        FeeMarket(Wei(500 * 10**9), Wei(1_500_000_000)).offer(Wei(500 * 10**9))


def test_a_limit_between_the_present_and_the_usual_price_is_offered() -> None:
    assert FeeMarket(Wei(100), Wei(10)).offer(Wei(150)) == Fees(Wei(150), Wei(10))


@pytest.mark.parametrize("fees", [Fees(Wei(123), Wei(7)), Fees(Wei(10**12), None)])
def test_the_fees_of_a_signed_transaction_can_be_read_back(fees: Fees) -> None:
    account = Account.create()
    rest = {"to": account.address, "value": 0, "gas": 21_000, "nonce": 300, "chainId": 31337}
    signed = account.sign_transaction({**rest, **fees.to_transaction()})
    assert Fees.of(bytes(signed.raw_transaction)) == fees
