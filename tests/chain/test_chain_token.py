"""ERC-20 bounties: what an account holds, exact allowances, and tokens that are odd, false or none."""

import pytest
from eth_account import Account

from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.errors import (
    ChainError,
    ContractRevertError,
    UnfundedAccountError,
    WrongChainError,
)
from sonar.chain.records import NATIVE
from sonar.chain.token import Token, ensure_allowance, require_balance
from sonar.units import Address, Wei

USUAL = ["HonestToken", "StubbornToken"]


@pytest.fixture
def holder(client_for, new_account):
    """An account that pays in tokens."""
    return client_for(new_account())


def address(client: SonarClient) -> Address:
    return Address(client.account.address)


@pytest.mark.parametrize("name", USUAL)
def test_an_allowance_is_exact_and_can_be_changed(holder, new_token, name):
    made = new_token(name, {address(holder): 1000})
    token = Token(holder, made.address.lower())
    assert (token.address, token.balance(address(holder)), token.allowance(address(holder))) == (made.address, 1000, 0)
    for amount in (7, 700, 0, 5):
        token.approve(Wei(amount))
        assert token.allowance(address(holder)) == amount
        assert made.functions.allowance(address(holder), holder.address).call() == amount


@pytest.mark.parametrize("name", USUAL)
def test_a_bounty_in_a_token_is_escrowed_topped_up_paid_and_withdrawn(holder, new_token, mines, play, name):
    made = new_token(name, {address(holder): 1_500})
    token = Address(made.address)
    ensure_allowance(holder, token, Wei(1_000))
    campaign = play(holder, Account.create(), token=token, bounty=Wei(1_000), round_size=1, min_mines=1)
    assert (Token(holder, token).balance(address(holder)), Token(holder, token).allowance(address(holder))) == (500, 0)
    ensure_allowance(holder, token, Wei(500))
    (raised,) = holder.transact(calls.top_up(campaign.id, Wei(500), token)).events
    assert (raised.amount, raised.bounty) == (500, 1_500)
    (mine,) = mines(1)
    campaign.submit(mine, "a")
    entries = [campaign.entry(address(mine), "a")]
    campaign.settle(mine, campaign.settlement(entries, 800_000), entries)
    paid = 1_500 * 7 // 8
    assert mine.credit(address(mine), token) == paid
    holder.transact(calls.close_campaign(campaign.id))
    mine.transact(calls.withdraw(address(mine), token))
    holder.transact(calls.withdraw(address(holder), token))
    assert made.functions.balanceOf(address(mine)).call() == paid
    assert made.functions.balanceOf(address(holder)).call() == 1_500 - paid
    assert made.functions.balanceOf(holder.address).call() == 0


def test_an_allowance_that_is_enough_is_left_as_it_is(holder, new_token):
    token = Address(new_token("HonestToken", {address(holder): 1000}).address)
    ensure_allowance(holder, token, Wei(900))
    sent = holder.used_nonce()
    ensure_allowance(holder, token, Wei(100))
    assert (holder.used_nonce(), Token(holder, token).allowance(address(holder))) == (sent, 900)
    ensure_allowance(holder, token, Wei(901))
    assert Token(holder, token).allowance(address(holder)) == 901


def test_native_coin_needs_no_allowance(holder):
    ensure_allowance(holder, NATIVE, Wei(10**30))
    assert holder.used_nonce() == 0


def test_a_short_balance_is_one_sentence_and_costs_nothing(holder, new_token):
    token = Address(new_token("HonestToken", {address(holder): 99}).address)
    says = f"account {address(holder)} holds 99 of token {token}, but 100 is needed: fund it, or offer less"
    for attempt in (
        lambda: ensure_allowance(holder, token, Wei(100)),
        lambda: require_balance(holder, token, address(holder), Wei(100)),
    ):
        with pytest.raises(UnfundedAccountError) as caught:
            attempt()
        assert str(caught.value) == says
    assert holder.used_nonce() == 0


def test_an_approval_that_a_token_forgets_is_noticed(holder, new_token):
    token = new_token("LyingToken", {address(holder): 100})
    with pytest.raises(WrongChainError, match=r"was told to let 0x\w+ take 100, but allows 0"):
        ensure_allowance(holder, Address(token.address), Wei(100))


def test_nothing_that_a_token_calls_itself_is_ever_shown(holder, new_token):
    token = Address(new_token("LyingToken").address)
    with pytest.raises(UnfundedAccountError) as caught:
        require_balance(holder, token, address(holder), Wei(1))
    assert str(caught.value).isprintable()
    assert not {"USD", "script"} & set(str(caught.value).split())


def test_what_is_no_token_is_said_to_be_none(holder, deployed):
    for place in (Account.create().address, deployed.address):
        with pytest.raises(WrongChainError, match=rf"what is at {place} on chain \d+ does not answer balanceOf like"):
            Token(holder, Address(place)).balance(address(holder))


def test_a_token_that_refuses_an_approval_says_so(holder, new_token, chain_web3):
    # The zero address holds nothing and may not be approved of, which this token's library refuses.
    token = Token(holder, Address(new_token("HonestToken").address))
    reader = SonarClient(holder.web3, NATIVE, holder.chain_id, holder.account)
    with pytest.raises(ContractRevertError):
        Token(reader, token.address).approve(Wei(1))
    with pytest.raises(ChainError, match="can only read"):
        Token(SonarClient(holder.web3, holder.address, holder.chain_id), token.address).approve(Wei(1))


@pytest.mark.parametrize(
    ("name", "error"), [("FeeToken", "Sonar_TokenDeliveredOtherAmount"), ("FalseToken", "SafeERC20FailedOperation")]
)
def test_a_token_that_does_not_deliver_is_refused_with_a_sentence(holder, new_token, play, name, error):
    token = Address(new_token(name, {address(holder): 1000}).address)
    ensure_allowance(holder, token, Wei(1000))
    with pytest.raises(ContractRevertError) as caught:
        play(holder, Account.create(), token=token, bounty=Wei(1000))
    assert caught.value.name == error
    assert token in str(caught.value)
