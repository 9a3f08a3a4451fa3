"""What keeps the worker from its passes, or from the store, and that one campaign's trouble is none of the others'."""

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nodes import until
from worker_checks import check_settled_once, full, signatures, steps

from capsule.readiness import Readiness
from capsule.sandbox import Desk, JobLostError
from capsule.worker import Worker, gathering, postponed, serving
from capsule.worker.background import Background
from capsule.worker.outages import StoreOutage
from capsule.worker.patience import Patience
from capsule.worker.postponed import Postponed
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Verdict
from sonar.sandbox.errors import Loss
from sonar.storage import ArtifactNotFoundError, StorageError, StoreTimeoutError, StoreUnavailableError


@contextmanager
def running(worker: Worker) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=worker.run, args=(0.02,), name="worker", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule.worker.steps._PAUSE_SECONDS", 0.01)


def test_a_thread_that_the_system_refuses_once_ends_neither_the_worker_nor_the_round(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("worker ") and thread.name not in refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    campaign = full(scientist)
    with running(world.worker) as thread:
        until(lambda: world.chain.round(campaign.id).number == 1, "the round is settled")
        assert thread.is_alive()
        until(lambda: world.worker.health()["ok"], "it is well again")
    assert "worker publishing" in refused
    assert len(refused) > 1


def test_a_pass_that_fails_as_a_whole_is_told_and_followed_by_the_next(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, real, told = full(scientist), Worker._pass, []

    def fail(worker: Worker, *, wait: bool) -> None:
        if len(told) < 3:
            told.append(worker.health()["ok"])
            raise MemoryError
        told.append(worker.health()["problems"].get("pass"))
        real(worker, wait=wait)

    monkeypatch.setattr(Worker, "_pass", fail)
    with running(world.worker):
        until(lambda: world.chain.round(campaign.id).number == 1, "the round is settled")
        until(lambda: world.worker.health()["ok"], "it is well again")
    assert told[:4] == [True, False, False, "MemoryError: see the log"]


@pytest.mark.filterwarnings("ignore:Exception in thread worker:pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_makes_no_more_passes_is_not_well(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(worker: Worker, *, wait: bool) -> None:
        raise SystemExit  # what no guard may catch

    readiness = Readiness(world.capsule, world.worker.health, keep_seconds=0)
    assert readiness.health().status == "ok"
    monkeypatch.setattr(Worker, "_pass", end)
    with running(world.worker) as thread:
        thread.join(60)
        health = readiness.health()
        assert (health.status, health.worker.ok, health.worker.problems) == ("degraded", False, ("worker",))
        assert "it makes no more passes" in world.worker.health()["problems"]["worker"]
    assert world.worker.health()["ok"], "whoever stops it knows"


def test_a_worker_whose_last_pass_is_long_ago_is_not_well(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule.worker.guarding._SILENT_SECONDS", 0.05)
    end = threading.Event()
    monkeypatch.setattr(Worker, "_pass", lambda *_, **__: end.wait(60))
    with running(world.worker):
        until(lambda: "worker" in world.worker.health()["problems"], "it is found out")
        end.set()
        until(lambda: world.worker.health()["ok"], "it goes on")


# ---- the store


@pytest.fixture
def clock(world: Any) -> list[float]:
    """A clock of its own for how long the store is left alone."""
    now = [0.0]
    world.worker._guard.store = StoreOutage(world.capsule, world.worker.tally, Patience(1, 60, lambda: now[0]))
    return now


def lose(world: Any, monkeypatch: pytest.MonkeyPatch, error: StorageError, *campaigns: Any) -> Callable[[], None]:
    """The campaigns' models cannot be had, until what is returned is called."""
    lost = {world.capsule.state.version(campaign.id, 0).model.digest for campaign in campaigns}
    real = type(world.store).get

    def get(store: Any, artifact: Any, *, max_bytes: int) -> bytes:
        if artifact.digest in lost:
            raise error
        return bytes(real(store, artifact, max_bytes=max_bytes))

    monkeypatch.setattr(type(world.store), "get", get)
    return lost.clear


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of its own for how long a lost model is not sought."""
    now = [0.0]
    monkeypatch.setattr(postponed, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    return now


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("error", [StoreTimeoutError("30 s"), StoreUnavailableError("answers, but refuses")], ids=repr)
def test_lost_models_of_some_campaigns_keep_no_other_waiting(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch, clock: list[float], sought: list[float],
    error: StorageError, count: int,
) -> None:  # fmt: skip
    stuck = [scientist.campaign() for _ in range(count)]
    good = scientist.campaign()
    world.worker.step()
    for campaign in [*stuck, good]:
        for _ in range(3):
            campaign.submit()
    found = lose(world, monkeypatch, error, *stuck)
    served: list[float] = []
    begin = Worker._begin_campaigns
    monkeypatch.setattr(
        Worker, "_begin_campaigns", lambda worker, *a, **k: (served.append(clock[0]), begin(worker, *a, **k))
    )
    for _ in range(6):  # a pass a second
        world.worker._pass(wait=False)
        world.worker._crew.wait()
        clock[0] += 1
    assert served == [0, 1, 2, 3, 4, 5]
    assert world.worker.tally.outages.value == 0
    assert set(world.worker.health()["problems"]) == {campaign.id.hex() for campaign in stuck}
    until(lambda: world.worker.step() or world.chain.round(good.id).number == 1, "the other one is settled")
    found()
    sought[0] += 60
    steps(world)
    for campaign in [*stuck, good]:
        check_settled_once(world, campaign, 1)


def test_a_store_that_is_away_is_left_alone_longer_and_longer_until_it_answers(
    world: Any, scientist: Any, clock: list[float]
) -> None:
    campaign = full(scientist)
    store, away = world.home / "store", world.home / "away"
    shutil.move(store, away)
    outage = world.worker._guard.store
    for failures in (1, 2, 3):
        world.worker.step()
        assert (outage.failures, outage.is_over) == (failures, False)
        clock[0] += 60
    assert world.worker.tally.outages.value == 1
    assert not Path(store).exists(), "a store that is not mounted is not made anew"
    shutil.move(away, store)
    steps(world)
    assert (outage.failures, outage.is_over) == (0, True)
    check_settled_once(world, campaign, 1)


def test_a_gradient_that_only_the_store_refuses_to_give_stops_neither_its_round_nor_the_store(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, real = full(scientist), type(world.store).get
    events = EventCursor(world.chain, 0).read()
    refused = next(e.cid for e in events if isinstance(e, GradientSubmitted) and e.id == campaign.id)

    def get(store: Any, artifact: Any, *, max_bytes: int) -> bytes:
        if artifact.cid == refused:
            raise StoreUnavailableError("the IPFS node answers, but refuses it: this dag node is a directory")
        return bytes(real(store, artifact, max_bytes=max_bytes))

    monkeypatch.setattr(type(world.store), "get", get)
    steps(world)
    report = world.client().round(campaign.id, 0)
    verdicts = [outcome.verdict for outcome in report.settlement.outcomes]
    assert verdicts == [Verdict.UNAVAILABLE, Verdict.KEPT, Verdict.KEPT]
    assert "is a directory" in report.reasons[0]
    assert world.worker.tally.outages.value == 0


@pytest.mark.parametrize("error", [ArtifactNotFoundError("gone"), StoreTimeoutError("deadline")], ids=repr)
def test_a_round_is_judged_once_however_often_its_next_model_cannot_be_made(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch, sought: list[float], error: StorageError
) -> None:
    campaign, judged = full(scientist), []
    found = lose(world, monkeypatch, error, campaign)
    judge = Desk.judge

    def count(desk: Any, *given: Any) -> Any:
        judged.append(1)
        return judge(desk, *given)

    monkeypatch.setattr(Desk, "judge", count)
    until(lambda: world.worker.step() or judged, "it is judged")
    for _ in range(5):
        sought[0] += 60
        world.worker.step()
    assert judged == [1]
    assert str(error) in world.worker.health()["problems"][campaign.id.hex()]
    found()
    sought[0] += 60
    steps(world)
    check_settled_once(world, campaign, 1)
    assert judged == [1]


def test_a_model_that_the_store_lost_is_sought_less_and_less_often(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch, sought: list[float]
) -> None:
    campaign, asked = full(scientist), []
    lose(world, monkeypatch, ArtifactNotFoundError("gone"), campaign)
    get, model = type(world.store).get, world.capsule.state.version(campaign.id, 0).model.digest

    def counting(store: Any, artifact: Any, *, max_bytes: int) -> bytes:
        asked.extend([sought[0]] * (artifact.digest == model))
        return bytes(get(store, artifact, max_bytes=max_bytes))

    monkeypatch.setattr(type(world.store), "get", counting)
    until(lambda: world.worker.step() or asked, "it is judged")
    for _ in range(240):
        sought[0] += 1
        world.worker._pass(wait=False)
        world.worker._crew.wait()
        assert campaign.id.hex() in world.worker.health()["problems"]
    assert len(asked) < 16


def test_a_round_that_could_not_be_judged_keeps_the_next_one_waiting_for_nothing() -> None:
    held, lost = Postponed(), JobLostError(Loss.MEMORY, "killed")
    for _ in range(6):
        held.put_off(b"first", lost)
    with pytest.raises(JobLostError):
        held.check(b"first")
    held.check(b"second")
    held.check(b"first")


@pytest.fixture
def hung(world: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[set[str], list[float]]]:
    """CIDs at which the store hangs until the test is over, or they are taken out; and the worker's clock for that."""
    now, hanging, over, real = [0.0], set(), threading.Event(), type(world.store).get
    monkeypatch.setattr(gathering, "Background", lambda openings: Background(openings, monotonic=lambda: now[0]))
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 0.05)

    def get(store: Any, artifact: Any, *, max_bytes: int) -> bytes:
        while artifact.cid in hanging:
            if over.wait(0.02):
                raise StoreUnavailableError("the test is over")
        return bytes(real(store, artifact, max_bytes=max_bytes))

    monkeypatch.setattr(type(world.store), "get", get)
    yield hanging, now
    over.set()


def posted_cids(world: Any, campaign: Any) -> list[str]:
    events = EventCursor(world.chain, 0).read()
    return [e.cid for e in events if isinstance(e, GradientSubmitted) and e.id == campaign.id]


def test_a_store_that_hangs_at_a_gradient_is_told_and_the_gradient_taken_when_it_comes(
    world: Any, scientist: Any, hung: tuple[set[str], list[float]]
) -> None:
    hanging, now = hung
    campaign = scientist.campaign()
    mine = campaign.submit()
    hanging.add(*posted_cids(world, campaign))
    world.worker.step()
    assert world.worker.health()["ok"], "it may only be slow"
    now[0] += 181
    world.worker.step()
    problem = world.worker.health()["problems"][campaign.id.hex()]
    assert "the store hangs" in problem
    assert mine.address in problem
    world.worker.step()
    assert world.worker.tally.hanging_fetches.value == 1
    for _ in range(2):
        campaign.submit()
    hanging.clear()
    until(lambda: world.worker.step() or world.chain.round(campaign.id).number == 1, "the round is settled")
    outcomes = world.client().round(campaign.id, 0).settlement.outcomes
    assert [outcome.verdict for outcome in outcomes] == [Verdict.KEPT] * 3
    assert world.worker.health()["ok"]


def test_a_gradient_at_which_the_store_hangs_is_unavailable_in_the_end(
    world: Any, scientist: Any, hung: tuple[set[str], list[float]]
) -> None:
    hanging, now = hung
    campaign = full(scientist)
    hanging.add(posted_cids(world, campaign)[0])
    for _ in range(3):
        world.worker.step()
    assert signatures(world, campaign) == []
    until(lambda: _came(world, campaign) == 2, "the others came")
    now[0] += 181
    steps(world)
    report = world.client().round(campaign.id, 0)
    verdicts = [outcome.verdict for outcome in report.settlement.outcomes]
    assert verdicts == [Verdict.UNAVAILABLE, Verdict.KEPT, Verdict.KEPT]
    assert report.reasons[0] == "unavailable: the store neither gave nor refused it"
    check_settled_once(world, campaign, 1)


def _came(world: Any, campaign: Any) -> int:
    world.worker.step()
    return len(world.worker._server._settlers[campaign.id].gatherer._opened)


@pytest.mark.parametrize("some", [False, True])
def test_gradients_of_which_not_one_comes_are_waited_for_longer_because_it_may_be_the_stores_fault(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(gathering, "Patience", lambda *waits: Patience(*waits, lambda: now[0]))
    monkeypatch.setattr(gathering, "time", SimpleNamespace(monotonic=lambda: now[0]))
    world.policy = dataclasses.replace(world.policy, fetch_seconds=60)
    world.restart()
    campaign, away = scientist.campaign(), world.home / "away"
    mines = [campaign.submit() for _ in range(3)]
    away.mkdir()
    events = EventCursor(world.chain, 0).read()
    posted = [e for e in events if isinstance(e, GradientSubmitted) and e.id == campaign.id]
    for event in posted[some:]:
        shutil.move(world.home / "store" / event.cid, away)
    while not world.capsule.state.rounds(campaign.id) and now[0] < 290:
        now[0] += 20
        world.worker.step()
    assert bool(world.capsule.state.rounds(campaign.id)) is some
    if some:
        assert 60 <= now[0] < 120
        return
    for file in away.iterdir():
        shutil.move(file, world.home / "store")
    now[0] += 20
    steps(world)
    report = world.client().round(campaign.id, 0)
    assert [outcome.verdict for outcome in report.settlement.outcomes] == [Verdict.KEPT] * len(mines)
