"""What the tests of the Capsule and its worker begin with, and check after each story."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from capsule.errors import CapsuleRefusedError

__all__ = ["audited", "check_settled_once", "full", "refused", "relays", "signatures", "steps"]


def steps(world: Any, count: int = 2) -> None:
    """So many passes of the worker; one that a busy machine kept from judging a closed round does not count."""
    deadline = time.monotonic() + 240
    while count > 0:
        world.worker.step()
        assert world.worker.health()["ok"], world.worker.health()
        assert time.monotonic() < deadline, "a closed round is not judged"
        count -= world.worker.tally.queue_depth.value == 0


def signatures(world: Any, campaign: Any) -> list[tuple[int, bytes, str]]:
    return [(one.round, one.head, one.settlement) for one in world.capsule.state.rounds(campaign.id)]


def audited(world: Any, kind: str, campaign: Any) -> int:
    """How many entries of the audit log are of this kind and about this campaign."""
    entries = world.capsule.state.audit.entries()
    return sum(entry.kind == kind and json.loads(entry.body)["campaign"] == campaign.id.hex() for entry in entries)


def check_settled_once(world: Any, campaign: Any, rounds: int) -> None:
    """The chain and the database agree, and no round and head was signed twice."""
    deadline = time.monotonic() + 240
    while world.capsule.state.counts()["unsettled"]:
        assert time.monotonic() < deadline, world.worker.health()
        steps(world, 1)
    record = world.chain.campaign(campaign.id)
    assert world.chain.round(campaign.id).number == rounds
    version = world.capsule.state.version(campaign.id, record.version)
    assert (version.number, version.score) == (record.version, record.score)
    assert world.capsule.keys.secret(version.key).public.key_id == version.key
    assert audited(world, "settlement", campaign) == len(signatures(world, campaign))


def full(scientist: Any) -> Any:
    """A campaign whose first round waits to be judged."""
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    return campaign


def relays(world: Any, campaign: Any) -> list[Any]:
    """The transactions of its first settlement."""
    return list(world.capsule.state.relays(campaign.id, 0))


def refused(code: str, ask: Callable[[], object]) -> str:
    """With what words the Capsule refuses, by the code."""
    with pytest.raises(CapsuleRefusedError) as caught:
        ask()
    assert caught.value.code == code, caught.value
    return str(caught.value)
