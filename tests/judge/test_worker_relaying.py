"""Settlements on their way to real chains: fees, nonces, crashes, and others who were faster."""

import dataclasses
from typing import Any

import pytest
from nodes import Remote, until
from worker_checks import audited, check_settled_once, full, relays, signatures, steps

from capsule.worker.relaying import Relayer
from capsule.worker.tally import Tally
from sonar.chain.calls import EncodedCall, settle_round
from sonar.chain.client import SignedTransaction
from sonar.chain.cursor import campaign_events
from sonar.chain.events import GradientSubmitted, RoundSettled
from sonar.chain.fees import Fees
from sonar.chain.lookups import find_block
from sonar.chain.records import Entry
from sonar.units import Address, Wei

GWEI = 10**9


pytestmark = pytest.mark.parametrize("remote", ["anvil", "ganache"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def chain_url(remote: Remote) -> str:
    return remote.url


@pytest.fixture
def anvil(remote: Remote) -> Remote:
    """For what only Anvil can be told, and for its pool: Ganache does not count waiting transactions."""
    if remote.kind != "anvil":
        pytest.skip("Ganache cannot be told this")
    return remote


def allow(world: Any, **changes: Any) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.capsule.policy, **changes))


def settlements_on_chain(world: Any, campaign: Any) -> int:
    return sum(isinstance(event, RoundSettled) for event in campaign_events(world.chain, campaign.id, 0))


def entries_of(world: Any, campaign: Any) -> list[Entry]:
    found = campaign_events(world.chain, campaign.id, 0)
    return [Entry(e.mine, e.artifact, e.gradient) for e in found if isinstance(e, GradientSubmitted)]


def test_settlements_of_several_campaigns_are_under_way_at_once(world: Any, scientist: Any, anvil: Remote) -> None:
    campaigns = [full(scientist) for _ in range(3)]
    with anvil.holding_back():
        steps(world, 3)
        sent = sorted(relay.nonce for campaign in campaigns for relay in relays(world, campaign))
        assert sent == list(range(sent[0], sent[0] + 3))
        assert anvil.waiting() == 3
    anvil.mine()
    steps(world)
    for campaign in campaigns:
        check_settled_once(world, campaign, 1)
        assert [relay.state for relay in relays(world, campaign)] == ["mined"]
    assert world.worker.tally.rounds_settled.value == 3
    assert world.worker.tally.wei_spent.value > world.worker.tally.gas_spent.value > 0


def test_a_settlement_that_is_not_mined_is_replaced_at_a_higher_fee(world: Any, scientist: Any, remote: Remote) -> None:
    campaign = full(scientist)
    with remote.holding_back():
        steps(world)
        allow(world, replace_seconds=0)
        steps(world, 1)
        allow(world, replace_seconds=90)
        first, second = relays(world, campaign)
        assert first.nonce == second.nonce
        assert 8 * second.fee >= 9 * first.fee
        assert 8 * second.tip >= 9 * first.tip
        assert (Fees.of(second.raw).highest, Fees.of(second.raw).tip) == (second.fee, second.tip)
        assert remote.waiting() == 1
    remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)
    # Ganache takes the replacement, and may mine the first one all the same.
    assert sorted(relay.state for relay in relays(world, campaign)) == ["mined", "replaced"]
    assert world.worker.tally.replacements.value == 1
    assert settlements_on_chain(world, campaign) == 1


def test_a_settlement_that_offers_enough_waits_for_a_block_without_bidding_against_itself(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign, now = full(scientist), world.capsule.clock()
    object.__setattr__(world.capsule, "clock", lambda: now)  # however long a busy machine takes
    with remote.holding_back():
        steps(world)
        for seconds in (100, 200, 400, 800):
            object.__setattr__(world.capsule, "clock", lambda late=seconds: now + late)
            steps(world, 1)
        assert len(relays(world, campaign)) == 1
        object.__setattr__(world.capsule, "clock", lambda: now + 901)
        steps(world, 1)
        assert len(relays(world, campaign)) == 2  # whoever asks so little does not mine it
    remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_settlement_whose_tip_is_below_the_usual_one_now_is_replaced(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, now, market = full(scientist), world.capsule.clock(), world.chain.fee_market
    object.__setattr__(world.capsule, "clock", lambda: now)
    with remote.holding_back():
        steps(world)
        risen = dataclasses.replace(market(), tip=Wei(5 * market().tip))
        monkeypatch.setattr(world.chain, "fee_market", lambda: risen)
        steps(world, 1)
        assert len(relays(world, campaign)) == 1  # it is not old yet
        object.__setattr__(world.capsule, "clock", lambda: now + 91)
        steps(world, 3)
        first, second = relays(world, campaign)
        assert first.nonce == second.nonce
        assert second.tip == risen.tip > first.tip
    remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_spike_above_the_highest_fee_is_waited_out(world: Any, scientist: Any, anvil: Remote) -> None:
    campaign = full(scientist)
    allow(world, highest_fee=Wei(100 * GWEI))
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(200 * GWEI))
    anvil.mine()
    world.worker.step()
    assert "the limit is 100" in world.worker.health()["problems"]["relaying fees"]
    assert relays(world, campaign) == []
    assert len(signatures(world, campaign)) == 1
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    anvil.mine()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_spike_after_sending_is_outbid_and_above_the_highest_fee_waited_out(
    world: Any, scientist: Any, anvil: Remote
) -> None:
    campaign = full(scientist)
    allow(world, highest_fee=Wei(300 * GWEI), replace_seconds=0)
    with anvil.holding_back():
        world.worker.step()
        (first,) = relays(world, campaign)
        anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
        anvil.mine()
        assert settlements_on_chain(world, campaign) == 0
        world.worker.step()
        second = relays(world, campaign)[-1]
        assert first.fee < 100 * GWEI < second.fee <= 300 * GWEI
        anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(400 * GWEI))
        anvil.mine()
        world.worker.step()
        assert "the limit is 300" in world.worker.health()["problems"]["relaying fees"]
        assert len(relays(world, campaign)) == 2
        anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        anvil.mine()
    allow(world, replace_seconds=90)
    steps(world)
    check_settled_once(world, campaign, 1)
    assert settlements_on_chain(world, campaign) == 1


def test_an_operator_who_takes_the_nonce_does_not_stop_the_settlement(
    world: Any, scientist: Any, anvil: Remote
) -> None:
    campaign = full(scientist)
    with anvil.holding_back():
        steps(world)
        (taken,) = relays(world, campaign)
        chain, fees = world.chain, Fees.of(taken.raw)
        outbid = Fees(Wei(3 * fees.highest), Wei(3 * (fees.tip or 0)))
        nothing = EncodedCall(Address(world.new_account(0).address), b"", Wei(1))
        chain.send(chain.sign(nothing, nonce=taken.nonce, fees=outbid))
    anvil.mine()
    for _ in range(5):
        world.worker.step()
    steps(world)
    check_settled_once(world, campaign, 1)
    lost, mined = relays(world, campaign)
    assert (lost.state, mined.state, mined.nonce) == ("replaced", "mined", taken.nonce + 1)
    assert world.worker.tally.relay_failures.value == 1


def test_a_settlement_waits_behind_the_operators_own_transactions(world: Any, scientist: Any, anvil: Remote) -> None:
    campaign = full(scientist)
    with anvil.holding_back():
        nothing = EncodedCall(Address(world.attester.address), b"", Wei(1))
        own = world.chain.sign(nothing)
        world.chain.send(own)
        steps(world)
        (relay,) = relays(world, campaign)
        assert relay.nonce == own.nonce + 1
    anvil.mine()
    steps(world)
    check_settled_once(world, campaign, 1)
    assert world.chain.receipt(own.hash).succeeded


def test_a_settlement_that_somebody_else_relayed_first_is_final_and_not_sent_again(
    world: Any, scientist: Any, anvil: Remote
) -> None:
    campaign = full(scientist)
    stranger = world.chain_for(world.new_account())
    with anvil.holding_back():
        steps(world)
        report = world.client().round(campaign.id, 0)
        call = settle_round(report.settlement, entries_of(world, campaign), report.signature)
        stranger.send(stranger.sign(call, fees=Fees(Wei(500 * GWEI), Wei(100 * GWEI))))
    anvil.mine()
    steps(world, 4)
    assert [relay.state for relay in relays(world, campaign)] == ["failed"]
    assert settlements_on_chain(world, campaign) == 1
    check_settled_once(world, campaign, 1)
    assert world.worker.tally.relay_failures.value == 1


def test_a_stuck_settlement_that_came_too_late_gives_its_nonce_back(world: Any, scientist: Any, anvil: Remote) -> None:
    campaign, other = full(scientist), full(scientist)
    stranger = world.chain_for(world.new_account())
    with anvil.holding_back():
        steps(world)
        stuck = relays(world, campaign)[0]
        anvil.ask("anvil_dropTransaction", "0x" + stuck.hash.hex())
        report = world.client().round(campaign.id, 0)
        call = settle_round(report.settlement, entries_of(world, campaign), report.signature)
        stranger.send(stranger.sign(call))
        anvil.mine()
        assert settlements_on_chain(world, campaign) == 1
        steps(world)
        allow(world, replace_seconds=0)
        steps(world, 1)
        allow(world, replace_seconds=90)
    anvil.mine()
    steps(world, 2)
    for one in (campaign, other):
        check_settled_once(world, one, 1)
    assert {relay.state for relay in relays(world, campaign)} <= {"failed", "replaced"}
    assert world.capsule.state.open_relays() == []


class Killed(Exception):
    """The process ended here."""


@pytest.mark.parametrize("instant", ["before it is sent", "after it was sent"])
def test_a_transaction_stored_before_a_crash_is_the_only_one(
    world: Any, scientist: Any, remote: Remote, instant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = full(scientist)
    send = world.chain.send

    def crash(signed: Any, **how: Any) -> None:
        if instant == "after it was sent":
            send(signed, **how)
        raise Killed

    with monkeypatch.context() as crashing:
        crashing.setattr(world.chain, "send", crash)
        world.worker.step()
        assert "Killed" in world.worker.health()["problems"]["relaying"]
    (stored,) = relays(world, campaign)
    assert stored.state == "intent"
    world.restart()
    steps(world)
    (after,) = relays(world, campaign)
    assert (after.hash, after.state) == (stored.hash, "mined")
    assert settlements_on_chain(world, campaign) == 1
    assert world.chain.used_nonce() == stored.nonce + 1
    check_settled_once(world, campaign, 1)


def test_an_account_without_coin_is_a_problem_of_its_own_and_judging_goes_on(
    world: Any, scientist: Any, remote: Remote
) -> None:
    first = full(scientist)
    balance = world.chain.balance(Address(world.attester.address))
    remote.ask(*_set_balance(remote, world.attester.address, 0))
    world.worker.step()
    assert "fund it by a transfer of 0." in world.worker.health()["problems"]["relaying funds"]
    assert world.worker.tally.relay_failures.value > 0, "what the manual watches"
    second = full(scientist)
    world.worker.step()
    assert len(signatures(world, first)) == len(signatures(world, second)) == 1
    remote.ask(*_set_balance(remote, world.attester.address, balance))
    steps(world)
    for campaign in (first, second):
        check_settled_once(world, campaign, 1)


def _set_balance(remote: Remote, account: str, wei: int) -> tuple[Any, ...]:
    return "anvil_setBalance" if remote.kind == "anvil" else "evm_setAccountBalance", account, hex(wei)


def test_a_settlement_that_keeps_reverting_is_left_alone_longer_each_time(
    world: Any, scientist: Any, anvil: Remote
) -> None:
    campaign, now = full(scientist), world.capsule.clock()
    object.__setattr__(world.capsule, "clock", lambda: now)  # however long a busy machine takes
    with anvil.holding_back():
        steps(world)
        (sent,) = relays(world, campaign)
        # Its gas runs out: the estimate was right for another state of the chain.
        anvil.ask("anvil_dropTransaction", "0x" + sent.hash.hex())
        report = world.client().round(campaign.id, 0)
        call = settle_round(report.settlement, entries_of(world, campaign), report.signature)
        world.chain.send(_with_little_gas(world, call, sent.nonce))
    anvil.mine()
    world.capsule.state.set_relay(sent.hash, "failed")
    steps(world, 3)
    assert len(relays(world, campaign)) == 1
    object.__setattr__(world.capsule, "clock", lambda: now + 31)

    def relayed() -> bool:
        steps(world)
        return [relay.state for relay in relays(world, campaign)] == ["failed", "mined"]

    until(relayed, "it is not relayed again")
    check_settled_once(world, campaign, 1)


def _with_little_gas(world: Any, call: Any, nonce: int) -> Any:
    encoded = world.chain.encode(call)
    signed = world.attester.sign_transaction({
        "to": encoded.to, "data": encoded.data, "value": 0, "gas": 60_000, "nonce": nonce,
        "chainId": world.chain.chain_id, **world.chain.fee_market().usual.to_transaction(),
    })  # fmt: skip
    return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash), nonce)


def test_every_transaction_is_in_the_audit_log_before_it_can_be_on_chain(
    world: Any, scientist: Any, remote: Remote
) -> None:
    campaign = full(scientist)
    steps(world)
    assert audited(world, "relay", campaign) == len(relays(world, campaign)) == 1


def test_a_relayer_that_has_nothing_to_do_asks_the_chain_nothing(world: Any) -> None:
    tip = find_block(world.chain)
    object.__setattr__(world.capsule, "chain", None)
    Relayer(world.capsule, Tally()).step(tip)
