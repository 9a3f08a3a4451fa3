"""What transactions offer per gas: the market's price, a replacement's rise, and the limit above both."""

import dataclasses

import pytest
from eth_account import Account
from hypothesis import assume, given
from hypothesis import strategies as st

from sonar.chain.errors import FeeLimitError
from sonar.chain.fees import FeeMarket, Fees
from sonar.units import Wei

GWEI = 10**9
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
        raised = former.highest if former.tip is None else former.tip
        if former.tip is not None:
            asked = max(asked, former.tip + former.tip / 8 + (market.base or 0))
        assert limit < asked + 1 or raised + raised / 8 + 1 > max(10 * market.tip, market.base or 0)
        return
    assert offered.highest <= limit
    assert 8 * offered.highest >= 9 * former.highest
    assert offered.highest > former.highest or offered == former == Fees(Wei(0), former.tip)
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


def test_a_limit_between_the_present_and_the_usual_price_leaves_room_to_be_replaced() -> None:
    market, limit = FeeMarket(Wei(260 * GWEI), Wei(GWEI)), Wei(500 * GWEI)
    first = market.offer(limit)
    assert market.usual.highest > limit > first.highest > 395 * GWEI
    second = market.offer(limit, first)
    third = market.offer(limit, second)
    assert first.highest < second.highest < third.highest <= limit
    with pytest.raises(FeeLimitError, match=r"to replace .* the limit is 500, though the chain asks for 261"):
        market.offer(limit, third)


@given(market=markets, limit=wei)
def test_what_is_offered_first_can_be_replaced_twice_unless_the_chain_asks_for_more(
    market: FeeMarket, limit: Wei
) -> None:
    asked = market.tip + (market.base or 0)
    assume(market.tip and 81 * asked <= 64 * (limit - 2))
    first = market.offer(limit)
    second = dataclasses.replace(market.offer(limit, first), tip=first.tip)
    assert market.offer(limit, second).highest <= limit


@pytest.mark.parametrize(("least", "offered"), [(789, 789), (790, 888), (888, 888), (889, 1000), (1000, 1000)])
def test_no_more_than_is_asked_for_is_left_of_the_room_for_replacements(least: int, offered: int) -> None:
    assert FeeMarket(Wei(least), Wei(0)).offer(Wei(1000)).highest == offered


def test_where_gas_is_free_nothing_is_raised() -> None:
    for base in (Wei(0), None):
        market = FeeMarket(base, Wei(0))
        free = market.offer(Wei(500 * GWEI))
        assert free.highest == 0
        assert market.offer(Wei(500 * GWEI), free) == free
    dear = FeeMarket(Wei(5), Wei(2)).offer(Wei(500 * GWEI), Fees(Wei(0), Wei(0)))
    assert dear == Fees(Wei(12), Wei(2))
    assert FeeMarket(Wei(5), Wei(0)).offer(Wei(500 * GWEI), Fees(Wei(12), Wei(0))).tip == 1


@pytest.mark.parametrize("base", [Wei(GWEI // 4), None])
def test_replacements_raise_what_is_paid_to_ten_times_the_usual_and_no_further(base: Wei | None) -> None:
    market, limit = FeeMarket(base, Wei(GWEI)), Wei(500 * GWEI)
    raised = market.offer(limit, Fees(Wei(8 * GWEI), None if base is None else Wei(8 * GWEI)))
    assert (raised.highest if raised.tip is None else raised.tip) == 9 * GWEI
    with pytest.raises(
        FeeLimitError, match=r"takes 10\.125 gwei .* for the block's maker, and the usual is 1: waiting"
    ):
        market.offer(limit, raised)


@pytest.mark.parametrize("fees", [Fees(Wei(123), Wei(7)), Fees(Wei(10**12), None)])
def test_the_fees_of_a_signed_transaction_can_be_read_back(fees: Fees) -> None:
    account = Account.create()
    rest = {"to": account.address, "value": 0, "gas": 21_000, "nonce": 300, "chainId": 31337}
    signed = account.sign_transaction({**rest, **fees.to_transaction()})
    assert Fees.of(bytes(signed.raw_transaction)) == fees
