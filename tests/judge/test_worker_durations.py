"""What takes too long is told by others than whoever waits: by the worker's health, for API and metrics."""

import threading
from typing import Any

import pytest
from nodes import until

from capsule.worker import guarding
from capsule.worker.durations import Durations


def test_what_is_under_way_for_longer_than_it_may_be_is_overdue_until_it_ends() -> None:
    now = [0.0]
    durations = Durations(lambda: now[0])
    with durations.timing("long", 100), durations.timing("short", 10):
        now[0] = 10.0
        assert durations.overdue() == {}
        now[0] = 11.0
        assert durations.overdue() == {"short": 11.0}
        assert durations.seconds("long") == 11.0
        now[0] = 101.0
        assert durations.overdue() == {"short": 101.0, "long": 101.0}
    assert durations.overdue() == {}
    assert durations.seconds("long") == 0.0


def test_a_pass_that_hangs_is_a_problem_until_it_goes_on(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "_PASS_SECONDS", 0.0)
    reached, gate, look = threading.Event(), threading.Event(), world.chain.web3.eth.get_block

    def hang(*arguments: Any) -> Any:
        reached.set()
        assert gate.wait(30)
        return look(*arguments)

    monkeypatch.setattr(world.chain.web3.eth, "get_block", hang)
    thread = threading.Thread(target=world.worker.run, args=(0.05,))
    thread.start()
    try:
        assert reached.wait(30)
        health = until(lambda: (found := world.worker.health())["problems"].get("pass") and found, "it is told")
        assert not health["ok"]
        assert "does not come to an end" in health["problems"]["pass"]
        assert health["since"]["pass"] <= world.capsule.clock()
        assert world.worker.tally.pass_seconds.value > 0
        monkeypatch.setattr(guarding, "_PASS_SECONDS", 120.0)
        gate.set()
        until(lambda: world.worker.health()["ok"], "it goes on")
    finally:
        gate.set()
        world.worker.stop()
        thread.join(30)
    assert not thread.is_alive()
