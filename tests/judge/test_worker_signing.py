"""A round is judged only where its settlement can be stored: what is refused is not worked on again and again."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, delete
from worker_checks import signatures, steps

from capsule.errors import CapsuleDatabaseError, CapsuleError
from capsule.state import tables as t
from sonar.chain.errors import RpcUnavailableError


def raising(error: Exception) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    return refuse


def spent(world: Any) -> tuple[int, int]:
    """How many keys were taken for rounds, and how many files are in the store."""
    return world.capsule.state.keys_by_use().get("round", 0), len(list((world.home / "store").iterdir()))


def test_a_round_whose_settlement_was_deleted_is_neither_judged_nor_signed_again(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    with monkeypatch.context() as away:
        away.setattr(world.chain, "send", raising(RpcUnavailableError("away")))
        world.worker.step()
    assert len(signatures(world, campaign)) == 1
    engine = create_engine(f"sqlite:///{world.home / 'capsule.db'}")
    with engine.begin() as db:
        for table in (t.kept, t.relays, t.rounds):
            db.execute(delete(table))
    engine.dispose()
    world.restart()
    before = spent(world)
    for _ in range(3):
        world.worker.step()
        assert "was signed, and the settlement is not in the database any more" in str(world.worker.health())
    assert spent(world) == before
    assert signatures(world, campaign) == []


@pytest.mark.parametrize("error", [CapsuleError("the passphrase was changed"), CapsuleDatabaseError("away")])
def test_a_round_whose_settlement_cannot_be_stored_is_not_judged_again_at_once(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch, error: CapsuleError
) -> None:
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    before = spent(world)
    with monkeypatch.context() as refused:
        refused.setattr(world.capsule.state, "add_round", raising(error))
        for _ in range(3):
            world.worker.step()
            assert world.worker.health()["problems"][campaign.id.hex()] == str(error)
    assert spent(world) == (before[0] + 1, before[1] + 2)
    world.restart()
    steps(world)
    assert world.chain.campaign(campaign.id).version == 1
