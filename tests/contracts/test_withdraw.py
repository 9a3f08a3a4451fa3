"""withdraw: everyone fetches what is theirs, and nobody can make another's fail."""

import pytest
from brownie import (
    Actor,
    CallbackToken,
    GasBurningActor,
    PausableToken,
    ReenteringActor,
    RejectingActor,
    SilentToken,
    web3,
)
from market import BOND, BOUNTY, NATIVE, judged, kept, refused

REENTRANT = "0x3ee5aeb5"  # ReentrancyGuardReentrantCall()
HALVES = [kept(1, 500_000), kept(1, 500_000), judged(0)]


@pytest.fixture
def owed(market, owner, mines):
    """A campaign that owes a twentieth of its bounty and a bond to each of the first two mines."""
    campaign = market.running(owner)
    market.fill(campaign, mines[:3])
    market.settle(campaign, 180_000, HALVES, sender=mines[0])
    return campaign


@pytest.fixture
def owed_tokens(market, owner, mines):
    """Answers a function that makes a campaign in a token, which owes a twentieth of its bounty to two mines."""

    def make(token):
        campaign = market.running(owner, token=token.address)
        market.fill(campaign, mines[:3])
        market.settle(campaign, 180_000, HALVES, sender=mines[0])
        return campaign

    return make


@pytest.fixture
def owed_actor(market, owner, mines):
    """Answers a function that makes a contract one of two mines that are owed the same."""

    def make(contract):
        actor = mines[0].deploy(contract)
        campaign = market.running(owner, roundSize=2)
        market.submit_through(actor, campaign, mines[0])
        market.submit(campaign, mines[1])
        market.settle(campaign, 180_000, HALVES[:2], sender=mines[1])
        return actor

    return make


def test_it_pays_all_that_is_owed(market, sonar, owed, mine):
    before, held = mine.balance(), sonar.balance()
    tx = sonar.withdraw(NATIVE, mine, {"from": mine})
    assert tx.return_value == BOUNTY // 20 + BOND
    assert mine.balance() == before + BOUNTY // 20 + BOND
    assert sonar.balance() == held - BOUNTY // 20 - BOND
    assert market.credits(mine) == [0]


def test_it_pays_to_whom_the_caller_says(sonar, owed, mine, stranger):
    before, own = stranger.balance(), mine.balance()
    sonar.withdraw(NATIVE, stranger, {"from": mine})
    assert stranger.balance() == before + BOUNTY // 20 + BOND
    assert mine.balance() == own


def test_it_pays_tokens(market, sonar, owed_tokens, token, mine):
    owed_tokens(token)
    sonar.withdraw(token, mine, {"from": mine})
    assert token.balanceOf(mine) == BOUNTY // 20
    assert market.credits(mine, token=token) == [0]
    assert market.credits(mine) == [BOND]


def test_it_pays_a_token_that_returns_nothing(sonar, owed_tokens, fund, owner, mine):
    token = fund(SilentToken, owner)
    owed_tokens(token)
    sonar.withdraw(token, mine, {"from": mine})
    assert token.balanceOf(mine) == BOUNTY // 20


def test_it_says_so(sonar, owed, mine, stranger):
    tx = sonar.withdraw(NATIVE, stranger, {"from": mine})
    (event,) = tx.events["Withdrawn"]
    assert (event["token"], event["account"], event["to"]) == (NATIVE, mine, stranger)
    assert event["amount"] == BOUNTY // 20 + BOND


def test_what_several_campaigns_owe_is_paid_at_once(market, sonar, owner, mines):
    for _ in range(2):
        campaign = market.running(owner)
        market.fill(campaign, mines[:3])
        market.settle(campaign, 180_000, HALVES, sender=mines[0])
    tx = sonar.withdraw(NATIVE, mines[0], {"from": mines[0]})
    assert tx.return_value == 2 * (BOUNTY // 20 + BOND)


def test_nothing_owed_is_nothing_paid(sonar, owed, attacker, token):
    for asked in (NATIVE, token):
        with refused("Sonar_NothingOwed", asked, attacker):
            sonar.withdraw(asked, attacker, {"from": attacker})


def test_it_pays_once(sonar, owed, mine):
    sonar.withdraw(NATIVE, mine, {"from": mine})
    with refused("Sonar_NothingOwed", NATIVE, mine):
        sonar.withdraw(NATIVE, mine, {"from": mine})


def test_it_pays_nobody_at_zero(sonar, owed, mine):
    with refused("Sonar_ToZero"):
        sonar.withdraw(NATIVE, NATIVE, {"from": mine})


def test_the_contract_itself_takes_no_coin(sonar, owed, mine, attacker):
    with refused("Sonar_TransferFailed", sonar, BOUNTY // 20 + BOND):
        sonar.withdraw(NATIVE, sonar, {"from": mine})
    transfer = {"from": str(attacker), "to": str(sonar), "value": "0x1"}
    assert "revert" in web3.provider.make_request("eth_call", [transfer, "latest"])["error"]["message"]


def test_a_receiver_that_refuses_keeps_its_claim(market, sonar, owed_actor, mine):
    actor = owed_actor(RejectingActor)
    with refused("Sonar_TransferFailed", actor, BOUNTY // 20 + BOND):
        actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, actor), {"from": mine})
    assert market.credits(actor) == [BOUNTY // 20 + BOND]
    before = mine.balance()
    actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, mine), {"from": mine})
    assert mine.balance() == before + BOUNTY // 20 + BOND


@pytest.mark.parametrize("contract", [RejectingActor, GasBurningActor, ReenteringActor], ids=lambda c: c._name)
def test_no_receiver_can_hold_up_the_others(sonar, owed_actor, mines, contract):
    owed_actor(contract)
    before = mines[1].balance()
    sonar.withdraw(NATIVE, mines[1], {"from": mines[1]})
    assert mines[1].balance() == before + BOUNTY // 20 + BOND


def test_a_receiver_that_burns_all_gas_keeps_its_claim(market, sonar, owed_actor, mine):
    actor = owed_actor(GasBurningActor)
    with pytest.raises(Exception, match=r"revert|out of gas"):
        actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, actor), {"from": mine, "gas_limit": 120_000})
    assert market.credits(actor) == [BOUNTY // 20 + BOND]


def test_a_receiver_that_calls_back_is_not_paid_twice(market, sonar, owed_actor, mine):
    actor = owed_actor(ReenteringActor)
    actor.arm(sonar.withdraw.encode_input(NATIVE, actor), {"from": mine})
    before = sonar.balance()
    actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, actor), {"from": mine})
    assert (actor.succeeded(), str(actor.answer())) == (False, REENTRANT)
    assert sonar.balance() == before - BOUNTY // 20 - BOND
    assert actor.balance() == BOUNTY // 20 + BOND


def test_a_receiver_that_calls_back_cannot_create_a_campaign(market, sonar, owed_actor, mine):
    actor = owed_actor(ReenteringActor)
    admission = market.admission(actor)
    signature = market.sign("Admission", admission)
    call = sonar.createCampaign.encode_input(
        tuple(market.terms(bounty=0).values()), tuple(admission.values()), signature, "cid", "cid"
    )
    actor.arm(call, {"from": mine})
    actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, actor), {"from": mine})
    assert (actor.succeeded(), str(actor.answer())) == (False, REENTRANT)


def test_a_token_that_calls_back_is_not_drained(market, sonar, owed_tokens, fund, owner, mine):
    token = fund(CallbackToken, owner)
    owed_tokens(token)
    token.arm(sonar, sonar.withdraw.encode_input(token, token), {"from": owner})
    sonar.withdraw(token, mine, {"from": mine})
    assert (token.succeeded(), str(token.answer())) == (False, REENTRANT)
    assert token.balanceOf(sonar) == BOUNTY - BOUNTY // 20


def test_a_token_that_stops_keeps_only_its_own_campaigns_waiting(market, sonar, owed, owed_tokens, fund, owner, mine):
    token = fund(PausableToken, owner)
    owed_tokens(token)
    token.pause(True, {"from": owner})
    with refused("Paused"):
        sonar.withdraw(token, mine, {"from": mine})
    assert market.credits(mine, token=token) == [BOUNTY // 20]
    sonar.withdraw(NATIVE, mine, {"from": mine})
    token.pause(False, {"from": owner})
    sonar.withdraw(token, mine, {"from": mine})
    assert token.balanceOf(mine) == BOUNTY // 20


def test_a_contract_withdraws_like_any_account(market, sonar, owed_actor, mine):
    actor = owed_actor(Actor)
    actor.execute(sonar, sonar.withdraw.encode_input(NATIVE, actor), {"from": mine})
    assert actor.balance() == BOUNTY // 20 + BOND
    assert market.credits(actor) == [0]
