"""withdraw: everyone fetches what is theirs, and nobody can make another's fail."""

import pytest
from chains.base import Reverted
from market import BOND, BOUNTY, NATIVE, REENTRANT, judged, kept, refused

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
def owed_actor(chain, market, owner, mines):
    """Answers a function that makes a contract one of two mines that are owed the same."""

    def make(contract):
        actor = chain.deploy(contract, sender=mines[0])
        campaign = market.running(owner, roundSize=2)
        market.submit_through(actor, campaign, mines[0])
        market.submit(campaign, mines[1])
        market.settle(campaign, 180_000, HALVES[:2], sender=mines[1])
        return actor

    return make


# R802
def test_it_pays_all_that_is_owed(chain, market, sonar, owed, mine):
    before, held = chain.balance(mine), chain.balance(sonar)
    tx = sonar.withdraw(NATIVE, mine, sender=mine)
    assert tx.return_value == BOUNTY // 20 + BOND
    assert chain.balance(mine) == before + BOUNTY // 20 + BOND
    assert chain.balance(sonar) == held - BOUNTY // 20 - BOND
    assert market.credits(mine) == [0]


# R802
def test_it_pays_to_whom_the_caller_says(chain, sonar, owed, mine, stranger):
    before, own = chain.balance(stranger), chain.balance(mine)
    sonar.withdraw(NATIVE, stranger, sender=mine)
    assert chain.balance(stranger) == before + BOUNTY // 20 + BOND
    assert chain.balance(mine) == own


# R802
def test_it_pays_tokens(market, sonar, owed_tokens, token, mine):
    owed_tokens(token)
    sonar.withdraw(token, mine, sender=mine)
    assert token.balanceOf(mine) == BOUNTY // 20
    assert market.credits(mine, token=token) == [0]
    assert market.credits(mine) == [BOND]


# R802
def test_it_pays_a_token_that_returns_nothing(sonar, owed_tokens, fund, owner, mine):
    token = fund("SilentToken", owner)
    owed_tokens(token)
    sonar.withdraw(token, mine, sender=mine)
    assert token.balanceOf(mine) == BOUNTY // 20


# R806
def test_it_says_so(sonar, owed, mine, stranger):
    tx = sonar.withdraw(NATIVE, stranger, sender=mine)
    (event,) = tx.events["Withdrawn"]
    assert (event["token"], event["account"], event["to"]) == (NATIVE, mine, stranger)
    assert event["amount"] == BOUNTY // 20 + BOND


# R801, R802
def test_what_several_campaigns_owe_is_paid_at_once(market, sonar, owner, mines):
    for _ in range(2):
        campaign = market.running(owner)
        market.fill(campaign, mines[:3])
        market.settle(campaign, 180_000, HALVES, sender=mines[0])
    tx = sonar.withdraw(NATIVE, mines[0], sender=mines[0])
    assert tx.return_value == 2 * (BOUNTY // 20 + BOND)


# R803
def test_nothing_owed_is_nothing_paid(sonar, owed, attacker, token):
    for asked in (NATIVE, token):
        with refused("Sonar_NothingOwed", asked, attacker):
            sonar.withdraw(asked, attacker, sender=attacker)


# R803
def test_it_pays_once(sonar, owed, mine):
    sonar.withdraw(NATIVE, mine, sender=mine)
    with refused("Sonar_NothingOwed", NATIVE, mine):
        sonar.withdraw(NATIVE, mine, sender=mine)


# R802
def test_it_pays_nobody_at_zero(sonar, owed, mine):
    with refused("Sonar_InvalidReceiver", NATIVE):
        sonar.withdraw(NATIVE, NATIVE, sender=mine)


# R802
@pytest.mark.parametrize("what", ["coin", "token"])
def test_nothing_is_withdrawn_to_the_contract_itself(market, sonar, token, owner, owed, mine, what):
    currency = NATIVE
    if what == "token":
        currency = token.address
        market.close(market.running(owner, token=currency))
    creditor = mine if what == "coin" else owner
    before = market.credits(creditor, token=currency)
    with refused("Sonar_InvalidReceiver", sonar):
        sonar.withdraw(currency, sonar, sender=creditor)
    assert market.credits(creditor, token=currency) == before != [0]


# R903
def test_the_contract_itself_takes_no_coin(chain, sonar, attacker):
    with pytest.raises(Reverted):
        chain.transact(attacker, sonar.address, value=1)


# R804, R805
def test_a_receiver_that_refuses_keeps_its_claim(chain, market, sonar, owed_actor, mine):
    actor = owed_actor("RejectingActor")
    with refused("Sonar_TransferFailed", actor, BOUNTY // 20 + BOND):
        actor.execute(sonar, sonar.withdraw.encode(NATIVE, actor), sender=mine)
    assert market.credits(actor) == [BOUNTY // 20 + BOND]
    before = chain.balance(mine)
    actor.execute(sonar, sonar.withdraw.encode(NATIVE, mine), sender=mine)
    assert chain.balance(mine) == before + BOUNTY // 20 + BOND


# R801, R805
@pytest.mark.parametrize("contract", ["RejectingActor", "GasBurningActor", "ReenteringActor"])
def test_no_receiver_can_hold_up_the_others(chain, sonar, owed_actor, mines, contract):
    owed_actor(contract)
    before = chain.balance(mines[1])
    sonar.withdraw(NATIVE, mines[1], sender=mines[1])
    assert chain.balance(mines[1]) == before + BOUNTY // 20 + BOND


# R804, R805
def test_a_receiver_that_burns_all_gas_keeps_its_claim(market, sonar, owed_actor, mine):
    actor = owed_actor("GasBurningActor")
    with pytest.raises(Reverted):
        actor.execute(sonar, sonar.withdraw.encode(NATIVE, actor), sender=mine, gas=120_000)
    assert market.credits(actor) == [BOUNTY // 20 + BOND]


# R805, R906
def test_a_receiver_that_calls_back_is_not_paid_twice(chain, market, sonar, owed_actor, mine):
    actor = owed_actor("ReenteringActor")
    actor.arm(sonar.withdraw.encode(NATIVE, actor), sender=mine)
    before = chain.balance(sonar)
    actor.execute(sonar, sonar.withdraw.encode(NATIVE, actor), sender=mine)
    assert (actor.succeeded(), actor.answer()) == (False, REENTRANT)
    assert chain.balance(sonar) == before - BOUNTY // 20 - BOND
    assert chain.balance(actor) == BOUNTY // 20 + BOND


# R906
def test_a_receiver_that_calls_back_cannot_create_a_campaign(market, sonar, owed_actor, mine):
    actor = owed_actor("ReenteringActor")
    admission = market.admission(actor)
    signature = market.sign("Admission", admission)
    call = sonar.createCampaign.encode(market.terms(bounty=0), admission, signature, "cid", "cid")
    actor.arm(call, sender=mine)
    actor.execute(sonar, sonar.withdraw.encode(NATIVE, actor), sender=mine)
    assert (actor.succeeded(), actor.answer()) == (False, REENTRANT)


# R906
def test_a_token_that_calls_back_is_not_drained(market, sonar, owed_tokens, fund, owner, mine):
    token = fund("CallbackToken", owner)
    owed_tokens(token)
    token.arm(sonar, sonar.withdraw.encode(token, token), sender=owner)
    sonar.withdraw(token, mine, sender=mine)
    assert (token.succeeded(), token.answer()) == (False, REENTRANT)
    assert token.balanceOf(sonar) == BOUNTY - BOUNTY // 20


# R804, R902
def test_a_token_that_stops_keeps_only_its_own_campaigns_waiting(market, sonar, owed, owed_tokens, fund, owner, mine):
    token = fund("PausableToken", owner)
    owed_tokens(token)
    token.pause(True, sender=owner)
    with refused("Paused"):
        sonar.withdraw(token, mine, sender=mine)
    assert market.credits(mine, token=token) == [BOUNTY // 20]
    sonar.withdraw(NATIVE, mine, sender=mine)
    token.pause(False, sender=owner)
    sonar.withdraw(token, mine, sender=mine)
    assert token.balanceOf(mine) == BOUNTY // 20


# R802
def test_a_contract_withdraws_like_any_account(chain, market, sonar, owed_actor, mine):
    actor = owed_actor("Actor")
    actor.execute(sonar, sonar.withdraw.encode(NATIVE, actor), sender=mine)
    assert chain.balance(actor) == BOUNTY // 20 + BOND
    assert market.credits(actor) == [0]
