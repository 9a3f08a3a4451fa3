"""`capsule campaigns`: what the operator sees of them, beside a running Capsule and without its passphrase."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from capsule.overview import campaign_rows
from sonar.protocol.sealing import SealingKeyPair
from sonar.storage import StoreUnavailableError


def listed(world: Any, *more: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
    command = [sys.executable, "-m", "capsule", "campaigns", "--home", str(world.home), *more]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout


def test_a_campaign_is_listed_with_its_rounds_from_its_start_to_its_delivery(world: Any, scientist: Any) -> None:
    assert campaign_rows(world.capsule.state) == []
    campaign = scientist.campaign(seconds=1000)
    world.worker.step()
    [row] = campaign_rows(world.capsule.state)
    assert (row["campaign"], row["state"], row["version"]) == ("0x" + campaign.id.hex(), "running", 0)
    assert (row["round"], row["unsettled"], row["problem"]) == (None, 0, None)
    start = row["score_ppm"]
    for _ in range(3):
        campaign.submit()
    for _ in range(3):
        world.worker.step()
    [row] = json.loads(listed(world, "--json"))
    assert (row["round"], row["version"], row["unsettled"]) == (0, 1, 0)
    assert row["score_ppm"] > start
    world.advance_time(1001)
    world.worker.step()
    scientist.client.deliver(campaign.id, SealingKeyPair.generate().public)
    assert f"0x{campaign.id.hex()}  delivered" in listed(world)


def test_what_keeps_a_campaign_from_going_on_is_listed_until_it_does(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    campaign.submit()

    def away(*_: Any, **__: Any) -> bytes:
        raise StoreUnavailableError("the store is away\x1b[2J")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.store), "get", away)
        world.worker.step()
    [row] = campaign_rows(world.capsule.state)
    assert "the store is away" in row["problem"]
    assert row["since"] > 0
    shown = listed(world)
    assert "problem: " in shown
    assert "\x1b" not in shown
    world.worker.step()
    assert campaign_rows(world.capsule.state)[0]["problem"] is None


def test_a_campaign_that_the_chain_took_back_is_listed_as_long_as_its_rounds_are_signed(
    world: Any, scientist: Any
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    world.worker.step()
    state = world.capsule.state
    assert campaign_rows(state)[0]["round"] == 0
    created = state.campaigns()[0].block
    assert state.rewind(created, state.position())
    [row] = campaign_rows(state)
    assert (row["campaign"], row["state"], row["unsettled"]) == ("0x" + campaign.id.hex(), "off chain", 1)
    assert "problem: the chain was rolled back" in listed(world)
    world.worker.step()
    [row] = campaign_rows(state)
    assert (row["state"], row["problem"]) == ("running", None)
