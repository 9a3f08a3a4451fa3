"""Settlements whose transactions are dropped, refused or signed again with the same bytes, and others beside them."""

from collections.abc import Callable
from typing import Any

import pytest
from nodes import Remote, until
from sqlalchemy import create_engine, text
from worker_checks import check_settled_once, full, relays, signatures, steps

from capsule.worker.apart import Apart
from sonar.chain.errors import RpcUnavailableError, TransactionFailedError, UnfundedAccountError
from sonar.chain.fees import FeeMarket
from sonar.units import Wei


@pytest.fixture(scope="module")
def chain_url(remote: Remote) -> str:
    return remote.url


@pytest.fixture
def at(world: Any) -> Callable[[float], None]:
    """Sets the Capsule's clock to so many seconds after the test's start."""
    now = world.capsule.clock()

    def set_clock(seconds: float) -> None:
        object.__setattr__(world.capsule, "clock", lambda: now + seconds)

    set_clock(0)
    return set_clock


def lagging(world: Any, monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """So many passes on a node that does not have the campaigns' last blocks yet: no call fits its present rounds."""
    with monkeypatch.context() as behind:
        behind.setattr(type(world.worker._relayer._caller), "call", lambda *_: None)
        for _ in range(passes):
            world.worker.step()


def test_a_dropped_transaction_is_not_given_up_at_one_look_at_a_node_that_lags(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = full(scientist)
    with remote.holding_back():
        steps(world)
        (sent,) = relays(world, campaign)
        remote.ask("anvil_dropAllTransactions")
        lagging(world, monkeypatch, 2)
        assert [relay.state for relay in relays(world, campaign)] == ["sent"]
        steps(world, 1)
        assert remote.waiting() == 1
    remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)
    assert [(relay.hash, relay.state) for relay in relays(world, campaign)] == [(sent.hash, "mined")]


def test_a_transaction_that_was_given_up_is_sent_again_where_signing_gives_the_same_bytes(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, second = full(scientist), full(scientist)
    remote.ask("anvil_mine", hex(300))  # a quiet chain, where fees stand still
    with remote.holding_back():
        steps(world)
        before = [relay.hash for one in (campaign, second) for relay in relays(world, one)]
        remote.ask("anvil_dropAllTransactions")
        lagging(world, monkeypatch, 3)
        assert world.capsule.state.open_relays() == []
        steps(world, 1)
        assert {relay.hash for relay in world.capsule.state.open_relays()} <= set(before)
        assert remote.waiting() == 2
    remote.mine()
    steps(world)
    for one in (campaign, second):
        check_settled_once(world, one, 1)


def test_where_gas_is_free_a_settlement_waits_for_its_block_and_is_never_replaced(
    world: Any, scientist: Any, remote: Remote, at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = full(scientist)
    monkeypatch.setattr(FeeMarket, "read", classmethod(lambda cls, web3, block: cls(Wei(0), Wei(0))))
    with remote.holding_back():
        remote.ask("anvil_setNextBlockBaseFeePerGas", "0x0")
        remote.mine()
        steps(world)
        for seconds in (901, 1802):
            at(seconds)
            steps(world, 1)
        assert [(relay.fee, relay.tip) for relay in relays(world, campaign)] == [(0, 0)]
        remote.ask("anvil_setNextBlockBaseFeePerGas", "0x0")
        remote.mine()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_settlement_in_trouble_keeps_no_other_from_the_chain(world: Any, scientist: Any, remote: Remote) -> None:
    campaigns = [full(scientist), full(scientist)]
    with remote.holding_back():
        steps(world)
        broken, well = sorted(campaigns, key=lambda one: relays(world, one)[0].nonce)
        assert remote.waiting() == 2
        remote.ask("anvil_dropAllTransactions")
        engine = create_engine(f"sqlite:///{world.home / 'capsule.db'}")
        with engine.begin() as db:
            db.execute(text("UPDATE rounds SET settlement = '{}' WHERE campaign = :id"), {"id": broken.id})
        engine.dispose()
        world.worker.step()
        assert [world.chain.knows(relays(world, one)[0].hash) for one in (broken, well)] == [False, True]
        assert "ValidationError" in world.worker.health()["problems"]["relaying"]
    assert [relay.state for relay in relays(world, well)] == ["sent"]
    assert len(relays(world, broken)) == len(signatures(world, well)) == 1


def test_a_settlement_that_the_account_cannot_pay_keeps_no_cheaper_one_from_the_chain(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear, sign, tried = full(scientist), type(world.chain).sign, []

    def lacking(chain: Any, call: Any, **terms: Any) -> Any:
        if dear.id in chain.encode(call).data:
            tried.append(chain.balance(world.capsule.address))
            raise UnfundedAccountError("needs more ether than there is")
        return sign(chain, call, **terms)

    with monkeypatch.context() as poor:
        poor.setattr(type(world.chain), "sign", lacking)
        until(lambda: world.worker.step() or tried, "the dear one is signed")
        cheap = full(scientist)
        until(lambda: world.worker.step() or world.chain.round(cheap.id).number == 1, "the cheap one is settled")
        assert world.chain.round(dear.id).number == 0
        assert "more ether" in world.worker.health()["problems"]["relaying funds"]
    steps(world)
    for one in (dear, cheap):
        check_settled_once(world, one, 1)


def test_an_account_without_coin_is_asked_to_pay_one_settlement_a_pass(
    world: Any, scientist: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaigns, sign, tried = [full(scientist), full(scientist)], type(world.chain).sign, []

    def count(*given: Any, **terms: Any) -> Any:
        tried.append(1)
        return sign(*given, **terms)

    before = world.chain.balance(world.capsule.address)
    remote.ask("anvil_setBalance", world.capsule.address, "0x0")
    until(lambda: world.worker.step() or len(world.capsule.state.unsettled()) == 2, "both are signed")
    monkeypatch.setattr(type(world.chain), "sign", count)
    world.worker.step()
    assert tried == [1]
    assert "fund it" in world.worker.health()["problems"]["relaying funds"]
    remote.ask("anvil_setBalance", world.capsule.address, hex(before))
    steps(world)
    for one in campaigns:
        check_settled_once(world, one, 1)


@pytest.mark.parametrize(
    ("refusal", "raised"), [("the method eth_sendRawTransaction does not exist", 1), ("transaction underpriced", 9)]
)
def test_only_a_node_that_says_that_fees_are_too_low_is_offered_more(
    world: Any, scientist: Any, remote: Remote, at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch,
    refusal: str, raised: int,
) -> None:  # fmt: skip
    campaign = full(scientist)

    def refuse(*_: Any, **__: Any) -> None:
        raise TransactionFailedError(f"the node refused: {refusal}")

    with monkeypatch.context() as refusing:
        refusing.setattr(world.chain, "send", refuse)
        for times in range(9):
            at(91 * times)
            world.worker.step()
            assert refusal in world.worker.health()["problems"]["relaying"]
    sent = relays(world, campaign)
    assert len(sent) == raised
    assert sent[-1].tip <= 10 * world.chain.fee_market().tip
    steps(world)
    check_settled_once(world, campaign, 1)


def test_what_goes_wrong_is_told_when_everything_had_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    apart, done = Apart(), []
    for number in range(4):
        with apart.each(f"number {number}"):
            if number < 2:
                raise ValueError(number)
            done.append(number)
    assert done == [2, 3]
    assert [record.message for record in caplog.records] == ["number 1 failed as well"]
    with pytest.raises(ValueError, match="0"):
        apart.tell()
    apart.tell()
    with pytest.raises(RpcUnavailableError), apart.each("an outage"):
        raise RpcUnavailableError("away")
