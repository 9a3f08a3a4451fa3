"""What the log and the numbers tell of parts and of the account's coin while nobody asks."""

import dataclasses
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from nodes import until

from capsule.errors import CapsuleError
from capsule.keypool import KeyPool
from capsule.lookout import Lookout
from capsule.readiness import Readiness
from capsule.secret import generate_key
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


def test_what_a_part_said_a_minute_ago_is_not_believed_while_another_hangs(
    world: Any, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    now = [0.0]
    readiness = Readiness(world.capsule, world.worker.health, clock=lambda: now[0])
    lookout = Lookout(world.capsule, readiness)
    lookout.look()
    assert lookout.account_wei
    inside, end, get = threading.Event(), threading.Event(), type(world.store).get

    def hang(*given: Any, **named: Any) -> bytes:
        inside.set()
        assert end.wait(60)
        return get(*given, **named)

    with monkeypatch.context() as changed:
        changed.setattr(type(world.store), "get", hang)
        looking = threading.Thread(target=lookout.look, daemon=True)
        looking.start()
        assert inside.wait(60)
        now[0] += 59
        assert readiness.ready()
        now[0] += 2
        assert not readiness.ready()
        health = lookout.health
        assert health is not None
        assert (health.status, health.store.ok, health.judges.ok) == ("degraded", False, False)
        (line,) = told()
        assert line.startswith("one of these has not answered for a minute: ")
        assert "store" in line
        end.set()
        looking.join()
    assert readiness.ready()
    assert "the store answers again" in told()


def test_who_asks_while_the_first_look_hangs_is_told_that_nothing_is_known_to_be_well(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule.readiness._FIRST_SECONDS", 0.05)
    readiness = Readiness(world.capsule, world.worker.health)
    inside, end = threading.Event(), threading.Event()

    def hang() -> int:
        inside.set()
        assert end.wait(60)
        return 1

    monkeypatch.setattr(world.capsule.chain, "block_number", hang)
    looking = threading.Thread(target=readiness.health, daemon=True)
    looking.start()
    assert inside.wait(60)
    health = readiness.health()
    assert (health.database.ok, health.chain.ok, health.store.ok) == (True, False, False)
    assert not readiness.ready()
    end.set()
    looking.join()
    assert readiness.ready()


def test_a_mistake_of_ours_in_one_part_hides_no_other_and_ends_no_lookout(
    world: Any, lookout: Lookout, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("capsule.lookout._LOOK_SECONDS", 0.01)
    looks, stopping = [], threading.Event()
    real = type(world.chain).balance

    def balance(*given: Any) -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise MemoryError
        return real(*given)

    with monkeypatch.context() as changed:
        changed.setattr(type(world.chain), "balance", balance)
        changed.setattr(type(world.store), "get", lambda *_, **__: 1 / 0)
        running = threading.Thread(target=lookout.run, args=(stopping,), daemon=True)
        running.start()
        until(lambda: len(looks) > 2, "it looks again")
        assert lookout.health is not None
        assert (lookout.health.store.ok, lookout.health.judges.ok) == (False, True)
        stopping.set()
        running.join(60)
    lines = told()
    assert lines.count("the store cannot be asked") == 1
    assert lines.count("the Capsule's parts could not be looked at") == 1


def test_keys_are_not_well_while_there_is_no_spare_one_and_none_can_be_made(world: Any) -> None:
    works = threading.Event()

    def make() -> Any:
        if works.is_set():
            return generate_key(512, allow_insecure_small_key=True)
        raise CapsuleError("the key process ended with -9")

    world.capsule.keys.claim("round")
    keys = KeyPool(world.capsule.state, world.vault, make, size=1, allow_insecure_small_key=True)
    readiness = Readiness(dataclasses.replace(world.capsule, keys=keys), dict, wait_for_key=True, keep_seconds=0)
    assert readiness.ready(), "it is being made, as far as anybody knows"
    keys.start()
    try:
        until(lambda: not readiness.ready(), "no key can be made")
        assert not readiness.health().keys.ok
        works.set()
        with keys._changed:
            keys._changed.notify_all()
        until(readiness.ready, "there is a key again")
    finally:
        keys.stop()
