"""Workers that get nowhere leave what they claimed to others of the same Capsule, whose node and store answer."""

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Line, Remote, until
from worker_checks import check_settled_once, signatures, steps

from capsule.worker import Worker
from sonar.chain.client import SonarClient
from sonar.chain.cursor import campaign_events
from sonar.chain.errors import RpcUnavailableError, TransactionFailedError
from sonar.chain.events import GradientSubmitted
from sonar.storage.directory import DirectoryStore
from sonar.units import Address


@pytest.fixture(scope="module")
def chain_url(remote: Remote) -> str:
    return remote.url


@pytest.fixture
def gateway(world: Any, tmp_path: Path) -> Path:
    """The way to the store that the other worker takes."""
    place = tmp_path / "gateway"
    place.symlink_to(world.home / "store", target_is_directory=True)
    return place


@pytest.fixture
def other(world: Any, line: Line, gateway: Path) -> Iterator[Worker]:
    """A worker on the same database, with a node at the end of the line and a store at the end of the gateway."""
    chain = SonarClient.connect(line.url, world.chain.address, world.attester, timeout=5)
    worker = Worker(dataclasses.replace(world.capsule, chain=chain, store=DirectoryStore(gateway)))
    yield worker
    worker.close()


def test_a_worker_whose_node_is_away_leaves_the_relaying_to_others(
    world: Any, scientist: Any, line: Line, other: Worker
) -> None:
    campaign = scientist.campaign()
    other.step()
    assert world.capsule.state.claims.try_claim("relay") is None
    line.cut = True
    for _ in range(3):
        campaign.submit()
    for _ in range(3):
        assert world.chain.round(campaign.id).number == 0
        other.step()
    assert "chain" in other.health()["problems"]
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_worker_whose_node_is_away_leaves_its_campaigns_to_others_and_takes_them_again(
    world: Any, scientist: Any, line: Line, other: Worker
) -> None:
    campaign = scientist.campaign()
    for _ in range(2):
        campaign.submit()
    other.step()
    assert world.capsule.state.claims.try_claim(f"campaign {campaign.id.hex()}") is None
    line.cut = True
    campaign.submit()
    for _ in range(3):
        world.worker.step()
        assert signatures(world, campaign) == []
        other.step()
    steps(world)
    check_settled_once(world, campaign, 1)
    world.worker.close()
    line.cut = False
    for _ in range(3):
        campaign.submit()
    for _ in range(2):
        other.step()
    assert other.health()["ok"]
    check_settled_once(world, campaign, 2)


def refuse_all(worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever the worker sends is refused like this."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(worker._capsule.chain, "send", refuse)


def test_a_worker_that_cannot_relay_leaves_that_to_others(
    world: Any, scientist: Any, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    other.step()
    for _ in range(3):
        campaign.submit()
    refuse_all(other, monkeypatch, RpcUnavailableError("the node shows blocks, and takes no transactions"))
    for _ in range(3):
        assert world.chain.round(campaign.id).number == 0
        other.step()
    steps(world)
    check_settled_once(world, campaign, 1)


def test_a_worker_whose_node_refuses_transactions_leaves_the_relaying_to_others(
    world: Any, scientist: Any, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    other.step()
    for _ in range(3):
        campaign.submit()
    error = TransactionFailedError("the node refused: the method eth_sendRawTransaction does not exist")
    refuse_all(other, monkeypatch, error)
    for _ in range(3):
        assert world.capsule.state.claims.try_claim("relay") is None
        other.step()
    assert "does not exist" in other.health()["problems"]["relaying"]
    steps(world)
    check_settled_once(world, campaign, 1)
    assert len(world.capsule.state.relays(campaign.id, 0)) == 1


def test_a_worker_whose_store_is_away_keeps_no_campaign_while_it_waits_for_it(
    world: Any, scientist: Any, other: Worker, gateway: Path
) -> None:
    """Its store fails at one campaign; of another, it has everything that came so far."""
    held, failing = scientist.campaign(), scientist.campaign()
    for _ in range(2):
        held.submit()
    other.step()
    name = f"campaign {held.id.hex()}"
    assert world.capsule.state.claims.try_claim(name) is None
    gateway.unlink()
    gateway.symlink_to(gateway.parent / "nowhere")
    failing.submit()
    thread = threading.Thread(target=other.run, args=(0.05,))
    thread.start()
    try:
        claim = until(lambda: world.capsule.state.claims.try_claim(name), "the claim is given back")
        assert failing.id.hex() in other.health()["problems"]
        claim.release()
    finally:
        other.stop()
        thread.join(30)


def test_a_worker_forgets_the_rounds_that_others_settled(
    world: Any, scientist: Any, other: Worker, gateway: Path
) -> None:
    """It opens what its store gives; one gradient of each round it never gets, and the other worker does."""
    object.__setattr__(world.capsule.policy, "fetch_seconds", 3600)
    campaign = scientist.campaign()
    gateway.unlink()
    gateway.mkdir()
    for number in range(3):
        for _ in range(3):
            campaign.submit()
        found = campaign_events(world.chain, campaign.id, 0)
        events = [event for event in found if isinstance(event, GradientSubmitted) and event.round == number]
        for event in events[1:]:
            shutil.copy(world.home / "store" / event.cid, gateway)
        other.step()
        gatherer = other._server._settlers[campaign.id].gatherer
        kept = (gatherer._opened, gatherer._again, gatherer._missing_since)
        assert [{place[0] for place in places} for places in kept] == [{number}] * 3
        assert [len(places) for places in kept] == [2, 1, 1]
        steps(world)
        for _ in range(2):
            other.step()  # it relays, and nobody else does
        check_settled_once(world, campaign, number + 1)


def test_a_gradient_that_one_workers_store_does_not_give_is_judged_by_another(
    world: Any, scientist: Any, other: Worker, gateway: Path
) -> None:
    object.__setattr__(world.capsule.policy, "fetch_seconds", 3600)
    campaign = scientist.campaign()
    mines = [campaign.submit() for _ in range(3)]
    found = campaign_events(world.chain, campaign.id, 0)
    cids = [event.cid for event in found if isinstance(event, GradientSubmitted)]
    gateway.unlink()
    shutil.copytree(world.home / "store", gateway)
    (gateway / cids[0]).unlink()
    (gateway / cids[1]).write_bytes(b"other bytes")
    other.step()
    assert signatures(world, campaign) == []
    steps(world)
    assert len(signatures(world, campaign)) == 1
    other.step()  # it relays, as it did before
    check_settled_once(world, campaign, 1)
    bond = world.chain.campaign(campaign.id).terms.bond
    assert all(world.chain.credit(Address(mine.address)) >= bond for mine in mines)
