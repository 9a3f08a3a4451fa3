"""Campaigns side by side: bounded threads, no queue-jumping, patience with what does not answer."""

import threading
from typing import Any

import pytest
from nodes import until
from worker_checks import signatures, steps

from capsule.worker.background import Background
from capsule.worker.crew import Crew
from capsule.worker.patience import Patience
from sonar.chain.cursor import campaign_events
from sonar.chain.events import GradientSubmitted


def test_a_crew_runs_so_many_jobs_at_once_and_each_name_once() -> None:
    crew, gate, ran = Crew(2), threading.Event(), []

    def job(name: str) -> None:
        assert gate.wait(30)
        ran.append(name)

    assert crew.start("a", lambda: job("a"))
    assert not crew.start("a", lambda: job("a again"))
    assert crew.start("b", lambda: job("b"))
    assert not crew.start("c", lambda: job("c"))
    assert not crew.wait(timeout=0)
    gate.set()
    assert crew.wait(timeout=30)
    assert sorted(ran) == ["a", "b"]
    assert crew.start("a", lambda: job("a once more"))
    assert crew.wait(timeout=30)


def test_a_place_is_given_back_where_the_system_has_no_thread_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    crew, background = Crew(1), Background[int](threading.Semaphore(1), limit=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            crew.start("a", lambda: None)
        with pytest.raises(RuntimeError, match="new thread"):
            background.start(lambda _: 1)
    assert crew.start("a", lambda: None)
    assert crew.wait(timeout=30)
    assert (later := background.start(lambda _: 7)) is not None
    assert later.answer.result(30) == 7


def test_a_job_that_hangs_can_be_left_and_takes_no_place_from_others() -> None:
    background, gate, now = Background[int](threading.Semaphore(1), 1, lambda: now[0]), threading.Event(), [0.0]  # type: ignore[has-type]

    def hang(_: Any) -> int:
        assert gate.wait(30)
        return 7

    hanging = background.start(hang)
    assert hanging is not None
    now[0] += 60
    assert hanging.waiting_seconds == 60
    assert background.start(hang) is None
    hanging.leave()
    hanging.leave()
    assert (other := background.start(hang)) is not None
    assert background.start(hang) is None, "one place is given back once"
    gate.set()
    assert (hanging.answer.result(30), other.answer.result(30)) == (7, 7)
    until(lambda: (last := background.start(lambda go_on: go_on() or 1)) and last.answer.result(30), "it has a place")  # type: ignore[func-returns-value]


def test_a_job_that_waits_for_nobody_any_more_does_not_hang() -> None:
    now, going_on = [0.0], threading.Event()
    background = Background[int](threading.Semaphore(1), 1, lambda: now[0])

    def job(go_on: Any) -> int:
        go_on()
        assert going_on.wait(30)
        return 7

    running = background.start(job)
    assert running is not None
    until(lambda: running.waiting_seconds == 0, "it goes on")
    now[0] += 60
    assert running.waiting_seconds == 0
    going_on.set()
    assert running.answer.result(30) == 7


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_crew_gets_its_thread_back_from_a_job_that_raises() -> None:
    crew, hook, seen = Crew(1), threading.excepthook, []
    threading.excepthook = lambda arguments: seen.append(arguments.exc_type)
    try:
        assert crew.start("broken", lambda: 1 // 0)
        assert crew.wait(timeout=30)
        until(lambda: seen == [ZeroDivisionError], "the error is told")
    finally:
        threading.excepthook = hook
    assert crew.start("next", lambda: None)
    assert crew.wait(timeout=30)


def test_patience_grows_up_to_its_bound_is_never_the_same_and_ends_with_success() -> None:
    now = [0.0]
    patience = Patience(1.0, 8.0, lambda: now[0])
    waits = []
    for _ in range(200):
        patience.fail("away")
        low, high = 0.0, 100.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            now[0] = middle
            low, high = (low, middle) if patience.is_over else (middle, high)
        waits.append(high)
        now[0] = 0.0
    assert 0.5 <= waits[0] <= 1 + 1e-5
    assert 1 <= waits[1] <= 2 + 1e-5
    assert all(4 - 1e-5 <= wait <= 8 + 1e-5 for wait in waits[3:])
    assert len({round(wait, 4) for wait in waits[3:]}) > 100
    assert (patience.problem, patience.failures) == ("away", 200)
    patience.succeed()
    assert patience.is_over
    assert (patience.problem, patience.failures) == ("", 0)


def test_a_campaign_that_is_slow_delays_no_other(world: Any, scientist: Any, monkeypatch: Any) -> None:
    slow, quick = scientist.campaign(), scientist.campaign()
    gate, began = threading.Event(), threading.Event()
    get = world.store.get

    for campaign in (slow, quick):
        for _ in range(3):
            campaign.submit()
    boxes = {submission.artifact for submission in entries(world, slow)}

    def slow_get(artifact: Any, *, max_bytes: int) -> bytes:
        if artifact.digest in boxes:
            began.set()
            assert gate.wait(60)
        return bytes(get(artifact, max_bytes=max_bytes))

    monkeypatch.setattr(world.store, "get", slow_get)
    thread = threading.Thread(target=world.worker.run, args=(0.05,))
    thread.start()
    try:
        assert began.wait(30)
        until(lambda: world.chain.round(quick.id).number == 1, "the quick campaign is settled")
        assert world.chain.round(slow.id).number == 0
        assert world.worker.tally.queue_depth.value == 1
        gate.set()
        until(lambda: world.chain.round(slow.id).number == 1, "the slow campaign is settled")
        until(lambda: world.capsule.state.counts()["unsettled"] == 0, "both are final")
    finally:
        gate.set()
        world.worker.stop()
        thread.join(30)
    assert world.worker.tally.queue_depth.value == 0


def entries(world: Any, campaign: Any) -> list[Any]:
    found = campaign_events(world.chain, campaign.id, 0)
    return [event for event in found if isinstance(event, GradientSubmitted)]


def test_a_mistake_in_one_campaign_is_told_and_stops_no_other(world: Any, scientist: Any, monkeypatch: Any) -> None:
    broken, sound = scientist.campaign(), scientist.campaign()
    for campaign in (broken, sound):
        for _ in range(3):
            campaign.submit()
    admission = world.capsule.state.admission

    def failing(campaign: Any) -> Any:
        if campaign == broken.id:
            raise ZeroDivisionError("a mistake of ours")
        return admission(campaign)

    with monkeypatch.context() as mistaken:
        mistaken.setattr(world.capsule.state, "admission", failing)
        world.worker.step()
        assert world.worker.health()["problems"] == {broken.id.hex(): "ZeroDivisionError: see the log"}
    assert world.chain.round(sound.id).number == 1
    steps(world)
    assert len(signatures(world, broken)) == 1


def test_an_idle_worker_asks_the_chain_once_a_pass(world: Any, scientist: Any) -> None:
    for _ in range(3):
        scientist.campaign()
    steps(world, 2)
    asked = []
    make_request = world.chain.web3.provider.make_request

    def counting(method: str, parameters: Any) -> Any:
        asked.append(method)
        return make_request(method, parameters)

    world.chain.web3.provider.make_request = counting
    steps(world, 1)
    assert asked.count("eth_call") == 0
    assert len(asked) <= 2, asked
