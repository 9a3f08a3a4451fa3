"""Hostile gradients in a whole Capsule: what they cost, whom they delay, and that a killed judge harms nobody."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nodes import until

from capsule.sandbox import Limits, Sandbox
from capsule.worker import serving
from sonar.chain.cursor import campaign_events
from sonar.chain.events import RoundSettled
from sonar.chain.records import Verdict
from sonar.units import Address

HERE = Path(__file__).parent
HOSTILE = "burning_jobs:Hostile"
MEMORY = 512 << 20


@pytest.fixture
def holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets judge processes find the test's own jobs; they wait at a JOB while a file `hold-JOB` is in the directory."""
    given = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(HERE) if given is None else f"{HERE}{os.pathsep}{given}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 2.0)
    return tmp_path


@contextmanager
def judged_by(world: Any, **limits: Any) -> Iterator[Sandbox]:
    limits = {"processes": 2, "memory": MEMORY, **limits}
    with Sandbox(Limits(**limits), jobs=HOSTILE, allow_insecure_small_key=True) as sandbox:
        world.use(sandbox)
        yield sandbox
        world.use(world.sandbox)


def step_until(world: Any, condition: Callable[[], object], seconds: float = 240) -> None:
    def stepped() -> object:
        world.worker.step()
        return condition()

    until(stepped, f"nothing came of it: {world.worker.health()}", seconds)


def number(world: Any, campaign: Any) -> int:
    found: int = world.chain.round(campaign.id).number
    return found


def verdicts(world: Any, campaign: Any) -> list[Verdict]:
    return [outcome.verdict for outcome in world.client().round(campaign.id, 0).settlement.outcomes]


@pytest.mark.parametrize("payload", [b"burn memory", b"crash"])
def test_a_gradient_that_ends_its_process_is_unavailable_and_the_others_are_judged(
    world: Any, scientist: Any, holding: Path, payload: bytes
) -> None:
    campaign = scientist.campaign()
    attacker = campaign.submit(data=payload)
    for _ in range(2):
        campaign.submit()
    with judged_by(world) as sandbox:
        step_until(world, lambda: number(world, campaign) == 1)
        assert sum(sandbox.losses.values()) == 2
    found = verdicts(world, campaign)
    assert found[0] is Verdict.UNAVAILABLE
    assert set(found[1:]) <= {Verdict.KEPT, Verdict.LEFT_OUT}
    reason = world.client().round(campaign.id, 0).reasons[0]
    assert reason.startswith("unavailable: the Capsule could not open it")
    terms = world.chain.campaign(campaign.id).terms
    assert world.chain.credit(Address(attacker.address)) == terms.bond - terms.bond * terms.slash // 10**6


def test_other_campaigns_are_judged_while_a_gradient_burns_time(world: Any, scientist: Any, holding: Path) -> None:
    bad, good = scientist.campaign(), scientist.campaign()
    bad.submit(data=b"burn time")
    for _ in range(2):
        bad.submit()
    for _ in range(3):
        good.submit()
    with judged_by(world, seconds=20) as sandbox:
        step_until(world, lambda: number(world, good) == 1)
        assert number(world, bad) == 0
        assert sandbox.losses["time"] < 2
        step_until(world, lambda: number(world, bad) == 1)
        assert sandbox.losses == {"time": 2}
    assert Verdict.UNAVAILABLE not in verdicts(world, good)
    assert verdicts(world, bad)[0] is Verdict.UNAVAILABLE
    assert Verdict.UNAVAILABLE not in verdicts(world, bad)[1:]


def test_one_process_serves_other_campaigns_between_the_jobs_of_a_hostile_one(
    world: Any, scientist: Any, holding: Path
) -> None:
    bad, good = scientist.campaign(scientist.spec(round_size=8)), scientist.campaign()
    for _ in range(8):
        bad.submit(data=b"burn time")
    for _ in range(3):
        good.submit()
    with judged_by(world, processes=1, seconds=10) as sandbox:
        serving = threading.Thread(target=world.worker.run, args=(0.05,))
        serving.start()
        until(lambda: number(world, good) == 1, "the good campaign is not judged")
        assert sum(sandbox.losses.values()) < 16
        assert number(world, bad) == 0
        world.worker.stop()
        sandbox.stop()
        serving.join(60)


@pytest.mark.parametrize("job", ["open", "judge", "advance"])
def test_a_round_whose_judge_is_killed_in_the_middle_is_judged_exactly_once(
    world: Any, scientist: Any, holding: Path, job: str
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    hold = holding / f"hold-{job}"
    hold.touch()
    with judged_by(world, processes=1) as sandbox:
        thread = threading.Thread(target=lambda: step_until(world, lambda: number(world, campaign) == 1))
        thread.start()
        until(lambda: list(holding.glob("held-*")), "no job is being done")
        (held,) = holding.glob("held-*")
        os.kill(int(held.name.removeprefix("held-")), signal.SIGKILL)
        hold.unlink()
        thread.join(60)
        assert not thread.is_alive()
        assert sandbox.losses == {"crash": 1}
    assert set(verdicts(world, campaign)) <= {Verdict.KEPT, Verdict.LEFT_OUT}
    settled = [event for event in campaign_events(world.chain, campaign.id, 0) if isinstance(event, RoundSettled)]
    assert len(settled) == 1
    assert len(world.capsule.state.rounds(campaign.id)) == 1
