"""Bounties in ERC-20 tokens: allowed exactly, escrowed once whatever dies in between, shown in the smallest unit."""

import json

import pytest
from eth_account import Account

from pysonar.errors import TermsError
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.errors import ContractRevertError, UnfundedAccountError, WrongChainError
from sonar.chain.records import Status
from sonar.chain.token import Token
from sonar.units import Address, Wei, ether


@pytest.fixture
def token(stage, new_token):
    """A token of which the owner holds 1000."""
    return Address(new_token("HonestToken", {stage.owner.address: 1000}).address)


def held(stage, token) -> tuple[int, int]:
    """What the owner holds of a token, and what the contract may take of it."""
    asset, owner = Token(stage.client_for(stage.owner), token), Address(stage.owner.address)
    return asset.balance(owner), asset.allowance(owner)


class Died(Exception):
    """The program ends here."""


def dies(*_, **__):
    raise Died


def dying_at(send: int, patch) -> None:
    """Makes the program die instead of sending its transaction number `send`, from 0."""
    real, sent = SonarClient.send, []

    def count(client, signed):
        if len(sent) == send:
            raise Died
        sent.append(signed)
        real(client, signed)

    patch.setattr(SonarClient, "send", count)


def test_a_bounty_in_a_token_is_allowed_exactly_and_escrowed(stage, token):
    campaign = stage.campaign(bounty=700, token=token.lower())
    terms = campaign.record.terms
    assert (terms.token, terms.bounty) == (token, 700)
    assert held(stage, token) == (300, 0)
    assert f"0 of token {token} of 700 of token {token}" in campaign._repr_html_()
    assert campaign.spec == stage.capsule.admitted["spec"]


def test_a_token_that_returns_nothing_is_a_bounty_as_well(stage, new_token):
    token = Address(new_token("StubbornToken", {stage.owner.address: 1000}).address)
    Token(stage.client_for(stage.owner), token).approve(Wei(5))
    campaign = stage.campaign(bounty=700, token=token)
    assert campaign.top_up(300) == 1000
    assert held(stage, token) == (0, 0)


def test_mines_are_paid_and_the_owner_refunded_in_the_token(stage, token, advance_time):
    campaign = stage.campaign(bounty=900, token=token, payout={"base": "gain"})
    mines = [stage.new_account() for _ in range(3)]
    for mine in mines:
        stage.submit(campaign, mine)
    stage.settle(campaign, 616_666, [500_000, 500_000, 0])
    paid = campaign.record.paid
    assert paid == 900 * (616_666 - 333_333) // (900_000 - 333_333)
    for mine, amount in zip(mines, [paid // 2, paid - paid // 2, 0], strict=True):
        client = stage.client_for(mine)
        assert client.credit(Address(mine.address), token) == amount
        if amount:
            client.transact(calls.withdraw(Address(mine.address), token))
        assert Token(client, token).balance(Address(mine.address)) == amount
    assert sorted(payout.amount for payout in campaign.earnings()) == [0, paid // 2, paid - paid // 2]
    advance_time(7300)
    assert campaign.close() == campaign.withdraw() == 900 - paid
    assert held(stage, token) == (1000 - paid, 0)


def test_a_closed_campaign_gives_its_tokens_back(stage, token):
    campaign = stage.campaign(bounty=900, token=token)
    assert campaign.close() == 900
    assert campaign.withdraw() == 900
    assert held(stage, token) == (1000, 0)


def test_too_few_tokens_are_told_in_one_sentence_before_the_capsule_is_asked(stage, token):
    with pytest.raises(UnfundedAccountError) as caught:
        stage.campaign(bounty=1001, token=token)
    assert str(caught.value) == (
        f"account {stage.owner.address} holds 1000 of token {token}, but 1001 is needed: fund it, or offer less"
    )
    assert stage.capsule.requests == []


@pytest.mark.parametrize("wrong", ["0x12", "USDC", 5, b"\x11" * 20])
def test_what_is_no_address_is_no_token(stage, wrong):
    with pytest.raises(TermsError, match="is not an address: give 0x and 40 hexadecimal digits"):
        stage.campaign(bounty=5, token=wrong)


@pytest.mark.parametrize("wrong", ["banana", "0x12", 5, "", "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"])
def test_credit_is_asked_for_and_withdrawn_by_addresses_alone_even_where_nothing_is_owed(stage, wrong):
    sonar = stage.session()
    with pytest.raises(TermsError, match=r"token .* is (not an address|mistyped)"):
        sonar.credit(wrong)
    with pytest.raises(TermsError, match=r"token .* is (not an address|mistyped)"):
        sonar.withdraw(wrong)
    with pytest.raises(TermsError, match=r"the receiver .* is (not an address|mistyped)"):
        sonar.withdraw(to=wrong)


def test_an_account_is_no_token_and_no_bounty_is_too_large_to_say_so(stage, token):
    with pytest.raises(WrongChainError, match="does not answer balanceOf like an ERC-20 token"):
        stage.campaign(bounty=5, token=Account.create().address)
    with pytest.raises(TermsError, match=r"above 2\^128 - 1"):
        stage.campaign(bounty=2**128, token=token)
    assert stage.capsule.requests == []


@pytest.mark.parametrize("send", [0, 1], ids=["before the approval", "between approval and escrow"])
def test_a_crash_on_the_way_to_the_escrow_is_resumed_and_escrows_once(stage, token, monkeypatch, send):
    with monkeypatch.context() as patch:
        dying_at(send, patch)
        with pytest.raises(Died):
            stage.campaign(bounty=700, token=token)
    assert held(stage, token) == (1000, 700 * send)
    session = stage.session()
    assert session.campaigns() == []
    [campaign] = session.resume()
    assert campaign.status is Status.RUNNING
    assert session.campaigns() == [campaign]
    assert (session.resume(), list(stage.directory.iterdir())) == ([], [])
    assert held(stage, token) == (300, 0)


@pytest.mark.parametrize("wait", [0, 1], ids=["of the approval", "of the escrow"])
def test_a_crash_before_the_receipt_is_resumed_and_escrows_once(stage, token, monkeypatch, wait):
    real, waited = SonarClient.wait, []

    def count(client, transaction, timeout=60):
        waited.append(transaction)
        return dies() if len(waited) > wait else real(client, transaction, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(SonarClient, "wait", count)
        with pytest.raises(Died):
            stage.campaign(bounty=700, token=token)
    session = stage.session()
    assert session.resume() == session.campaigns() != []
    assert session.resume() == []
    assert held(stage, token) == (300, 0)


def test_a_draft_whose_tokens_went_elsewhere_stays_until_they_are_back(stage, token, new_token, monkeypatch):
    with monkeypatch.context() as patch:
        dying_at(0, patch)
        with pytest.raises(Died):
            stage.campaign(bounty=700, token=token)
    stage.campaign(bounty=600, token=token)
    with pytest.raises(UnfundedAccountError, match=f"holds 400 of token {token}, but 700 is needed"):
        stage.session().resume()
    [path] = stage.directory.iterdir()
    assert json.loads(path.read_text())["signed"] is None
    [first] = [campaign for campaign in stage.session().campaigns() if campaign.record.terms.bounty == 600]
    assert first.close() == first.withdraw() == 600
    [campaign] = stage.session().resume()
    assert campaign.record.terms.bounty == 700


def test_a_draft_whose_admission_ran_out_is_forgotten_and_nothing_is_taken(stage, token, monkeypatch, advance_time):
    with monkeypatch.context() as patch:
        dying_at(1, patch)
        with pytest.raises(Died):
            stage.campaign(bounty=700, token=token)
    advance_time(4000)
    assert stage.session().resume() == []
    assert list(stage.directory.iterdir()) == []
    assert held(stage, token)[0] == 1000


@pytest.mark.parametrize(
    ("name", "error"),
    [("FeeToken", ContractRevertError), ("FalseToken", ContractRevertError), ("LyingToken", WrongChainError)],
)
def test_a_token_that_does_not_work_leaves_no_draft(stage, new_token, name, error):
    token = Address(new_token(name, {stage.owner.address: 1000}).address)
    with pytest.raises(error, match=token):
        stage.campaign(bounty=700, token=token)
    assert list(stage.directory.iterdir()) == []
    assert stage.session().resume() == []
    assert held(stage, token)[0] == 1000


def test_topping_up_needs_the_tokens_and_adds_exactly_them(stage, token):
    campaign = stage.campaign(bounty=700, token=token)
    with pytest.raises(UnfundedAccountError, match=f"holds 300 of token {token}, but 301 is needed"):
        campaign.top_up(301)
    assert campaign.top_up(300) == campaign.record.terms.bounty == 1000
    assert held(stage, token) == (0, 0)


def test_watching_shows_tokens_in_their_smallest_unit(stage, token, capsys):
    campaign = stage.campaign(bounty=700, token=token)
    campaign.close()
    campaign.watch()
    assert f"closed: score 33.33%, paid 0 of token {token} of 700 of token {token}" in capsys.readouterr().err


def test_ether_is_for_native_bounties(stage, token):
    assert stage.campaign(bounty=ether("0.25")).record.terms.bounty == 25 * 10**16
