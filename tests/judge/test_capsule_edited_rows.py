"""Who writes to the database, and has no passphrase, can stop a campaign; he cannot have anybody fined or overpaid."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, select, update
from worker_checks import signatures, steps

from capsule.errors import AuditLogError, CapsuleUnavailableError
from capsule.state import tables as t
from sonar import canonical
from sonar.protocol.sealing import SealingKeyPair
from sonar.units import digest_of


@pytest.fixture
def writer(world: Any) -> Iterator[Callable[..., None]]:
    """Runs statements in the database of a Capsule."""
    engine = create_engine(f"sqlite:///{world.home / 'capsule.db'}")

    def run(*statements: Any) -> None:
        with engine.begin() as db:
            for statement in statements:
                db.execute(statement)

    yield run
    engine.dispose()


def advanced(world: Any, scientist: Any) -> Any:
    """A campaign at version 1."""
    campaign = scientist.campaign(seconds=1000)
    for _ in range(3):
        campaign.submit()
    steps(world, 3)
    assert world.chain.campaign(campaign.id).version == 1
    return campaign


def problem(world: Any, campaign: Any) -> str:
    """What health says of the campaign after a few passes."""
    for _ in range(3):
        world.worker.step()
    told: str = world.worker.health()["problems"][campaign.id.hex()]
    return told


_ZERO = t.versions.alias("zero").c
OF_VERSION_0 = {
    column.name: select(column).where(_ZERO.version == 0).scalar_subquery()
    for column in (_ZERO.key, _ZERO.weights, _ZERO.score, _ZERO.model, _ZERO.model_cid)
}


@pytest.mark.parametrize(
    "columns",
    [("key", "weights"), ("key",), ("weights",), ("model", "model_cid")],
    ids=lambda columns: " ".join(columns),
)
def test_no_gradient_is_opened_under_another_versions_key(
    world: Any, scientist: Any, writer: Callable[..., None], columns: tuple[str, ...]
) -> None:
    """None would open, so all honest mines would be fined."""
    campaign = advanced(world, scientist)
    for _ in range(3):
        campaign.submit()
    before = signatures(world, campaign)
    values = {name: OF_VERSION_0[name] for name in columns}
    writer(update(t.versions).where(t.versions.c.version == 1).values(values))
    world.restart()
    assert "were not sealed with" in problem(world, campaign)
    assert signatures(world, campaign) == before
    if columns != ("weights",):
        with pytest.raises(AuditLogError):
            world.capsule.state.verify_audit()


def test_a_version_that_became_another_is_read_from_the_chain_again(
    world: Any, scientist: Any, writer: Callable[..., None]
) -> None:
    campaign = advanced(world, scientist)
    before = world.capsule.state.version(campaign.id, 1)
    for _ in range(3):
        campaign.submit()
    writer(update(t.versions).where(t.versions.c.version == 1).values(OF_VERSION_0))
    world.restart()
    steps(world, 4)
    assert world.capsule.state.version(campaign.id, 1) == before
    reply = json.loads(world.capsule.state.round(campaign.id, 1).settlement)
    assert {outcome["verdict"] for outcome in reply["outcomes"]} <= {"kept", "left_out"}


def test_the_model_of_another_version_is_not_delivered(world: Any, scientist: Any, writer: Callable[..., None]) -> None:
    campaign = advanced(world, scientist)
    world.advance_time(1001)
    steps(world)
    for columns in (("key", "weights"), tuple(OF_VERSION_0)):
        values = {name: OF_VERSION_0[name] for name in columns}
        writer(update(t.versions).where(t.versions.c.version == 1).values(values))
        with pytest.raises(CapsuleUnavailableError, match="not in order"):
            scientist.client.deliver(campaign.id, SealingKeyPair.generate().public)


@pytest.mark.parametrize("consistent", [False, True], ids=["spec alone", "spec and digest"])
def test_no_round_is_judged_by_another_spec_than_was_admitted(
    world: Any, scientist: Any, writer: Callable[..., None], consistent: bool
) -> None:
    campaign = scientist.campaign()
    steps(world)
    spec = json.loads(world.capsule.state.admission(campaign.id).spec)
    spec["rounds"]["noise"] = 0
    edited = canonical.dumps(spec)
    digest = {"spec_digest": digest_of(edited)} if consistent else {}
    writer(update(t.admissions).values(spec=edited, **digest))
    world.restart()
    for _ in range(3):
        campaign.submit()
    assert "is not in the database as it was signed" in problem(world, campaign)
    assert signatures(world, campaign) == []
    assert world.capsule.state.campaigns()[0].state == "running", "put right, it goes on"
    with pytest.raises(AuditLogError):
        world.capsule.state.verify_audit()


def test_no_mine_becomes_a_copier_by_what_is_put_into_an_earlier_round(
    world: Any, scientist: Any, writer: Callable[..., None]
) -> None:
    campaign = advanced(world, scientist)
    before = signatures(world, campaign)
    for _ in range(2):
        campaign.submit()
    world.worker.step()
    victim = world.capsule.state.submissions(campaign.id, 1)[1].entry.gradient
    writer(update(t.submissions).where(t.submissions.c.round == 0, t.submissions.c.place == 0).values(gradient=victim))
    world.restart()
    campaign.submit()
    assert "is not in the database as it was settled" in problem(world, campaign)
    assert signatures(world, campaign) == before
    with pytest.raises(AuditLogError, match="settled with other gradients"):
        world.capsule.state.verify_audit()


@pytest.mark.parametrize("cid", ["bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "nothing"])
def test_no_gradient_is_missed_where_nobody_put_it(
    world: Any, scientist: Any, writer: Callable[..., None], cid: str
) -> None:
    """It would be Unavailable, or Invalid because its CID is not that of its digest."""
    campaign = scientist.campaign()
    campaign.submit()
    world.worker.step()
    (before,) = world.capsule.state.submissions(campaign.id, 0)
    writer(update(t.submissions).values(cid=cid))
    world.restart()
    for _ in range(2):
        campaign.submit()
    assert "is not on chain as it is in the database" in problem(world, campaign)
    assert signatures(world, campaign) == []
    writer(update(t.submissions).where(t.submissions.c.place == 0).values(cid=before.cid))
    steps(world)
    (stored,) = world.capsule.state.rounds(campaign.id)
    assert {outcome["verdict"] for outcome in json.loads(stored.settlement)["outcomes"]} <= {"kept", "left_out"}


def test_nobody_chooses_the_block_that_a_rounds_seed_comes_from(
    world: Any, scientist: Any, writer: Callable[..., None]
) -> None:
    campaign = scientist.campaign()
    for _ in range(2):
        campaign.submit()
    world.worker.step()
    writer(update(t.submissions).where(t.submissions.c.place == 1).values(block=1))
    world.restart()
    world.advance_time(61)
    scientist.campaign()  # a block, after which the round is closed
    assert "is not on chain as it is in the database" in problem(world, campaign)
    assert signatures(world, campaign) == []
