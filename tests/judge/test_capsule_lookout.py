"""What the log and the numbers tell of parts and of the account's coin while nobody asks."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from capsule.lookout import Lookout
from capsule.readiness import Readiness
from sonar.chain._rpc import connect_web3
from sonar.chain.client import SonarClient


@pytest.fixture
def lookout(world: Any) -> Lookout:
    return Lookout(world.capsule, Readiness(world.capsule, world.worker.health))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    def take() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    with caplog.at_level(logging.INFO, "capsule"):
        yield take


def test_a_store_that_goes_and_comes_back_is_in_the_log_though_nobody_asks(
    world: Any, lookout: Lookout, told: Callable[[], list[str]]
) -> None:
    lookout.look()
    assert lookout.health is not None
    assert lookout.health.store.ok
    assert told() == []
    store, away = world.home / "store", world.home / "away"
    shutil.move(store, away)
    Path(store).write_text("no directory")
    for _ in range(2):
        lookout.look()
    (line,) = told()
    assert line.startswith("the store does not answer:")
    assert not lookout.health.store.ok
    store.unlink()
    shutil.move(away, store)
    lookout.look()
    assert told() == ["the store answers again"]


def test_an_account_that_cannot_pay_some_rounds_is_told_with_what_it_lacks_before_there_is_a_round(
    world: Any, lookout: Lookout, told: Callable[[], list[str]], new_account: Callable[..., LocalAccount]
) -> None:
    lookout.look()
    assert lookout.account_wei == world.chain.balance(world.capsule.address) > 0
    assert told() == []
    poor = new_account(0)
    object.__setattr__(world.capsule, "attester", poor)
    for _ in range(2):
        lookout.look()
    (line,) = told()
    assert f"the account {poor.address} has 0 ether" in line
    assert "transfer 0." in line
    assert lookout.account_wei == 0


def test_coin_that_is_not_known_is_not_told(world: Any, lookout: Lookout) -> None:
    lookout.look()
    chain = world.capsule.chain
    gone = SonarClient(connect_web3("http://127.0.0.1:9", 1), chain.address, chain.chain_id)
    object.__setattr__(world.capsule, "chain", gone)
    lookout.look()
    assert lookout.account_wei is None
    assert lookout.health is not None
    assert not lookout.health.chain.ok
