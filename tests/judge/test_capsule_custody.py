"""What the worker of a whole Capsule deletes, and what one of a restored database does not sign."""

import dataclasses
import time
from typing import Any

import pytest

from capsule.custody.quarantine import Quarantine, hold
from capsule.errors import CapsuleRefusedError
from capsule.worker import Worker
from sonar.chain.calls import expire_round
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry
from sonar.protocol.sealing import SealingKeyPair

DAY = 86_400


def steps(world: Any, count: int = 2) -> None:
    for _ in range(count):
        world.worker.step()


def serve_later(world: Any, seconds: float) -> None:
    """The same Capsule, with a worker whose clock is that much ahead; requests are signed in the present."""
    world.restart()
    world.worker = Worker(dataclasses.replace(world.capsule, clock=lambda: time.time() + seconds))


def settled_campaign(world: Any, scientist: Any) -> Any:
    campaign = scientist.campaign(seconds=1000)
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.campaign(campaign.id).version == 1
    return campaign


def test_the_worker_deletes_a_delivered_campaign_after_its_retention_time_and_says_so(
    world: Any, scientist: Any
) -> None:
    campaign = settled_campaign(world, scientist)
    world.advance_time(1001)
    steps(world)
    pair = SealingKeyPair.generate()
    assert scientist.client.deliver(campaign.id, pair.public)
    serve_later(world, 29 * DAY)
    steps(world)
    assert scientist.client.deliver(campaign.id, pair.public)
    serve_later(world, 31 * DAY)
    steps(world)
    with pytest.raises(CapsuleRefusedError) as caught:
        scientist.client.deliver(campaign.id, pair.public)
    assert caught.value.code == "deleted"
    version = world.capsule.state.version(campaign.id)
    assert world.capsule.state.key(version.key).secret == b""
    assert world.worker.health()["ok"]


def test_a_running_campaign_goes_on_however_late_it_is(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    serve_later(world, 100_000 * DAY)
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 2
    for key in world.capsule.state.keys():  # noqa: SIM118  (a method)
        assert world.capsule.state.key(key.id).secret, "nothing of a running campaign is deleted"


def restored(world: Any, campaign: Any) -> None:
    """Marks the campaign as a restore does, and starts the worker anew."""
    with world.capsule.state.transaction() as db:
        hold(db, [campaign.id])
    world.restart()


def test_a_round_that_was_closed_when_the_database_was_restored_is_not_signed(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    for _ in range(3):
        campaign.submit()
    restored(world, campaign)
    steps(world, 4)
    assert world.capsule.state.round(campaign.id, 1) is None
    assert world.chain.round(campaign.id).number == 1
    (problem,) = world.worker.health()["problems"].values()
    assert "may have been signed before" in problem
    assert Quarantine(world.capsule.state).held() == {campaign.id: 1}


def test_a_round_that_was_open_when_the_database_was_restored_is_judged(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    campaign.submit()
    restored(world, campaign)
    steps(world)
    campaign.submit()
    campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 2
    assert Quarantine(world.capsule.state).held() == {}


def test_an_empty_round_frees_a_campaign(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    restored(world, campaign)
    steps(world)
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 2


def test_a_round_that_was_signed_before_the_backup_is_relayed_after_the_restore(
    world: Any, scientist: Any, funder: Any
) -> None:
    campaign = settled_campaign(world, scientist)
    for _ in range(3):
        campaign.submit()
    signed = _sign_without_relaying(world, campaign)
    restored(world, campaign)
    steps(world, 3)
    assert world.chain.round(campaign.id).number == 2
    assert world.capsule.state.round(campaign.id, 1).settlement == signed
    assert Quarantine(world.capsule.state).held() == {}


def test_a_held_round_that_expires_on_chain_lets_the_campaign_go_on(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(scientist.spec(settlement_seconds=600))
    steps(world)
    for _ in range(3):
        campaign.submit()
    restored(world, campaign)
    steps(world)
    assert world.capsule.state.round(campaign.id, 0) is None
    world.advance_time(1000)
    found = EventCursor(world.chain, 0).read()
    entries = [Entry(e.mine, e.artifact, e.gradient) for e in found if isinstance(e, GradientSubmitted)]
    world.chain_for(scientist.account).transact(expire_round(campaign.id, 0, entries))
    for _ in range(3):
        campaign.submit()
    steps(world)
    assert world.chain.round(campaign.id).number == 2
    assert Quarantine(world.capsule.state).held() == {}


def test_the_operator_can_release_a_held_round(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    for _ in range(3):
        campaign.submit()
    restored(world, campaign)
    steps(world)
    assert world.capsule.state.round(campaign.id, 1) is None
    assert Quarantine(world.capsule.state).release(campaign.id)
    assert not Quarantine(world.capsule.state).release(campaign.id)
    steps(world)
    assert world.chain.round(campaign.id).number == 2
    kinds = [entry.kind for entry in world.capsule.state.audit.entries()]
    assert kinds.index("held") < kinds.index("released")


def _sign_without_relaying(world: Any, campaign: Any) -> str:
    """One pass in which the transaction cannot be sent, because the account's coin is elsewhere."""
    chain = dataclasses.replace(world.capsule, chain=_Mute(world.capsule.chain))
    Worker(chain).step()
    stored = world.capsule.state.round(campaign.id, 1)
    assert stored is not None
    assert world.chain.round(campaign.id).number == 1
    settlement: str = stored.settlement
    return settlement


class _Mute:
    """The chain as it is, but nothing can be sent."""

    def __init__(self, chain: Any) -> None:
        self._chain = chain

    def __getattr__(self, name: str) -> Any:
        if name in {"next_nonce", "send"}:
            from sonar.chain.errors import RpcUnavailableError

            raise RpcUnavailableError("the node does not answer")
        return getattr(self._chain, name)
