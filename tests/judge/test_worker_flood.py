"""Somebody posts gradients that nobody can fetch in many campaigns: they cost threads and time that others need."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from worker_checks import check_settled_once, full, steps

from capsule.worker import Worker, serving
from sonar.storage import StoreTimeoutError

CAMPAIGNS, GRADIENTS = 5, 3


@pytest.fixture
def flood(world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Campaigns of a worker that serves one at a time; their gradients are looked for until the event."""
    over, get, put, hidden = threading.Event(), world.store.get, world.store.put, set()

    def slow(artifact: Any, *, max_bytes: int) -> bytes:
        if artifact.cid in hidden:
            over.wait(60)
            raise StoreTimeoutError("nobody has it")
        return bytes(get(artifact, max_bytes=max_bytes))

    def hide(data: bytes) -> Any:
        artifact = put(data)
        hidden.add(artifact.cid)
        return artifact

    campaigns = [scientist.campaign(scientist.spec(round_size=8, round_seconds=3000)) for _ in range(CAMPAIGNS)]
    with monkeypatch.context() as nobody:
        nobody.setattr(world.store, "put", hide)
        for campaign in campaigns:
            for _ in range(GRADIENTS):
                campaign.submit(data=b"nothing")
    monkeypatch.setattr(world.store, "get", slow)
    world.worker.close()
    policy = dataclasses.replace(world.capsule.policy, campaigns_at_once=1)
    world.worker = Worker(dataclasses.replace(world.capsule, policy=policy))
    yield over
    over.set()


def fetching() -> int:
    return sum(thread.name == "fetch" for thread in threading.enumerate())


def test_gradients_that_nobody_has_keep_other_campaigns_waiting_for_some_seconds_in_all(
    world: Any, scientist: Any, flood: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of them would be waited for so long, if there were no bound for all of them.
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 12.0)
    monkeypatch.setattr(serving, "_ROUND_SECONDS", 1.0)
    world.worker.step()
    assert fetching() == CAMPAIGNS * GRADIENTS
    begun = time.monotonic()
    world.worker.step()
    assert time.monotonic() - begun < CAMPAIGNS * serving._PATIENCE_SECONDS / 2
    campaign = full(scientist)
    steps(world)
    check_settled_once(world, campaign, 1)


def test_gradients_that_nobody_has_take_so_many_threads_in_all_and_others_get_theirs(
    world: Any, scientist: Any, flood: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_OPENINGS", 4)
    monkeypatch.setattr(serving, "_ROUND_SECONDS", 0.5)
    world.worker.close()
    world.worker = Worker(world.worker._capsule)
    world.worker.step()
    assert fetching() == 4  # of 15
    flood.set()
    campaign = full(scientist)
    deadline = time.monotonic() + 60
    while world.chain.round(campaign.id).number == 0:
        world.worker.step()
        assert fetching() <= 4
        assert time.monotonic() < deadline
    steps(world)
    check_settled_once(world, campaign, 1)
