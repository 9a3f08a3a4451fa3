"""The chains themselves: every one of them keeps the promises that the other tests stand on."""

import pytest
from chains import EVERY_CHAIN
from chains.base import Reverted
from market import BOND, NATIVE


@pytest.fixture(scope="module", params=EVERY_CHAIN)
def chain(request, open_chain):
    return open_chain(request.param)


@pytest.fixture
def token(chain, owner):
    return chain.deploy("HonestToken", sender=owner)


@pytest.fixture
def actor(chain, owner):
    return chain.deploy("ReenteringActor", sender=owner)


def test_there_are_ten_accounts_with_plenty_of_coin(chain):
    assert len(set(chain.accounts)) == 10
    assert all(chain.balance(account) >= 10**20 for account in chain.accounts)


def test_a_transaction_answers_announces_and_costs(chain, token, owner, mine):
    receipt = token.mint(mine, 5, sender=owner)
    assert receipt.events == {"Transfer": [{"from": NATIVE, "to": mine, "value": 5}]}
    assert [log.address for log in receipt.logs] == [token.address]
    assert receipt.gas_used > 21_000
    assert token.balanceOf(mine) == 5
    assert token.transfer(owner, 2, sender=mine).return_value is True


def test_a_deployment_announces_and_costs(chain, owner):
    capsules = sorted(chain.accounts[1:4], key=lambda account: int(account, 16))
    committee = chain.deploy("CapsuleCommittee", capsules, 2, sender=owner)
    assert committee.deployment.events == {"CommitteeFormed": [{"members": capsules, "threshold": 2}]}
    assert committee.deployment.gas_used > 53_000


def test_a_transaction_carries_coin_and_gas_is_free(chain, actor, owner):
    before = chain.balance(owner)
    chain.transact(owner, actor.address, value=BOND)
    assert (chain.balance(actor), chain.balance(owner)) == (BOND, before - BOND)


def test_a_revert_tells_its_error_and_changes_nothing(chain, token, owner, mine):
    before = chain.balance(mine)
    with pytest.raises(Reverted) as raised:
        token.transfer(owner, 1, sender=mine)
    assert raised.value.error == ("ERC20InsufficientBalance", (mine, 0, 1))
    assert raised.value.data[:4].hex() == "e450d38c"
    assert chain.balance(mine) == before


def test_a_reverting_deployment_tells_its_error(chain, owner):
    with pytest.raises(Reverted) as raised:
        chain.deploy("CapsuleCommittee", [owner], 2, sender=owner)
    assert raised.value.error == ("CapsuleCommittee_ThresholdOutOfRange", (2, 1))


def test_a_reverting_call_tells_its_error(chain, sonar):
    with pytest.raises(Reverted) as raised:
        sonar.getCampaign(bytes(32))
    assert raised.value.error == ("Sonar_CampaignUnknown", (bytes(32),))


def test_an_error_is_named_through_other_contracts(chain, actor, token, owner):
    with pytest.raises(Reverted) as raised:
        actor.execute(token, token.transfer.encode(owner, 1), sender=owner)
    assert raised.value.error == ("ERC20InsufficientBalance", (actor.address, 0, 1))


def test_a_revert_without_a_reason_has_no_data(chain, sonar, owner):
    with pytest.raises(Reverted) as raised:
        chain.transact(owner, sonar.address, value=1)
    assert (raised.value.data, raised.value.error) == (b"", ("", (b"",)))


def test_running_out_of_gas_is_a_revert_without_data(chain, token, owner):
    with pytest.raises(Reverted) as raised:
        token.mint(owner, 5, sender=owner, gas=30_000)
    assert raised.value.data == b""
    assert token.balanceOf(owner) == 0


def test_blocks_are_a_second_apart_whether_their_transactions_succeed_or_not(chain, token, owner, mine):
    time = chain.now()
    token.mint(owner, 5, sender=owner)
    assert chain.now() == time + 1
    with pytest.raises(Reverted):
        token.transfer(owner, 1, sender=mine)
    assert chain.now() == time + 2
    token.balanceOf(owner)
    chain.balance(owner)
    assert chain.now() == time + 2


@pytest.mark.parametrize("seconds", [1, 2, 3600])
def test_the_next_block_has_the_time_that_was_set(chain, token, owner, seconds):
    time = chain.now() + seconds
    chain.at(time)
    token.mint(owner, 5, sender=owner)
    assert chain.now() == time
    token.mint(owner, 5, sender=owner)
    assert chain.now() == time + 1


def test_restoring_goes_back_in_state_and_time_again_and_again(chain, token, owner):
    token.mint(owner, 1, sender=owner)
    outer, time, coin = chain.snapshot(), chain.now(), chain.balance(owner)
    token.mint(owner, 2, sender=owner)
    inner = chain.snapshot()
    chain.transact(owner, chain.accounts[9], value=BOND)
    chain.restore(inner)
    assert (token.balanceOf(owner), chain.now(), chain.balance(owner)) == (3, time + 1, coin)
    for _ in range(2):
        token.mint(owner, 4, sender=owner)
        chain.at(chain.now() + 3600)
        chain.restore(outer)
        assert (token.balanceOf(owner), chain.now(), chain.balance(owner)) == (1, time, coin)
    token.mint(owner, 8, sender=owner)
    assert (token.balanceOf(owner), chain.now()) == (9, time + 1)


def test_a_new_account_has_nothing_and_can_send(chain, token):
    account, other = chain.new_account(), chain.new_account()
    assert account != other
    assert (chain.balance(account), chain.balance(other)) == (0, 0)
    token.mint(account, 5, sender=account)
    assert token.balanceOf(account) == 5


def test_contracts_see_the_chains_id(chain, market, sonar, owner):
    admission = market.admission(owner)
    assert sonar.hashAdmission(admission) == market.digest("Admission", admission, chain_id=chain.chain_id)


def test_a_call_changes_nothing(chain, token, owner):
    chain.call(token.address, token.mint.encode(owner, 5), sender=owner)
    assert token.balanceOf(owner) == 0
