"""What the worker of a whole Capsule deletes, and what one of a restored database does not sign."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from sqlalchemy import delete, update

from capsule.custody.backup import back_up
from capsule.custody.quarantine import Quarantine, RoundHeldError, hold
from capsule.custody.restoring import restore
from capsule.errors import AuditLogError, CapsuleRefusedError
from capsule.overview import campaign_rows
from capsule.secret import Record
from capsule.state import Told
from capsule.state import tables as t
from capsule.state.holding import moment
from capsule.wire import RoundReply
from capsule.worker import Worker
from sonar.chain.calls import expire_round, settle_round
from sonar.chain.cursor import EventCursor
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Entry
from sonar.protocol.sealing import SealingKeyPair

DAY = 86_400
PASSPHRASE = "correct horse"


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
    assert scientist.client.deliver(campaign.id, pair.public), "a clock that jumped ahead deletes nothing early"
    world.advance_time(31 * DAY)
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


def restored(world: Any, campaign: Any, *, since: float = 0.0) -> None:
    """Marks the campaign as a restore does, by default one of long ago, and starts the worker anew."""
    with world.capsule.state.transaction() as db:
        hold(db, [campaign.id], since)
        world.capsule.state.audit.append(db, "restore", {"moved": False, "since": moment(since)})
    world.restart()


def test_a_chain_seen_as_it_was_before_the_restore_frees_no_round(world: Any, scientist: Any) -> None:
    """A node that lags shows an empty round, after which the former Capsule may have signed."""
    campaign = settled_campaign(world, scientist)
    restored(world, campaign, since=world.now() + 100)
    steps(world)
    assert Quarantine(world.capsule.state).held() == {campaign.id: None}, "an empty round, seen too early"
    for _ in range(3):
        campaign.submit()
    steps(world, 2)
    assert world.capsule.state.round(campaign.id, 1) is None
    (problem,) = world.worker.health()["problems"].values()
    assert "not yet seen" in problem
    world.advance_time(101)
    scientist.campaign()  # a block
    steps(world, 2)
    assert Quarantine(world.capsule.state).held() == {campaign.id: 1}, "it was closed already"
    assert world.capsule.state.round(campaign.id, 1) is None


def test_what_a_restore_holds_back_stays_known_after_the_chain_was_seen(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    restored(world, campaign)
    steps(world)
    assert Quarantine(world.capsule.state).held() == {}
    quarantine, later = Quarantine(world.capsule.state), world.now() + 1
    with pytest.raises(RoundHeldError, match="round 0"):  # a node that forgot the settlement of round 0
        quarantine.check(campaign.id, 0, closed=True, signed=False, seen=later)
    assert quarantine.held() == {campaign.id: 0}
    quarantine.check(campaign.id, 1, closed=True, signed=False, seen=later)
    assert quarantine.held() == {}


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


def _sign_without_relaying(world: Any, campaign: Any, number: int = 1) -> str:
    """One pass in which the transaction cannot be sent, because the account's coin is elsewhere."""
    chain = dataclasses.replace(world.capsule, chain=_Mute(world.capsule.chain))
    Worker(chain).step()
    stored = world.capsule.state.round(campaign.id, number)
    assert stored is not None
    assert world.chain.round(campaign.id).number == number
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


def lost_and_restored(world: Any, campaign: Any, file: Path, number: int) -> str:
    """Backs up, signs one more round, loses the machine, restores; returns the settlement that was lost.

    The chain goes on: before its next block has a later time than the restore, nothing of a held campaign is freed.
    """
    passphrase = _as_in_a_home(world)
    back_up(world.capsule.state, file, passphrase, cost=(1, 8192))
    for _ in range(3):
        campaign.submit()
    lost = _sign_without_relaying(world, campaign, number)
    world.capsule.state.close()
    for database in world.home.glob("capsule.db*"):
        database.unlink()
    restore(file, passphrase, passphrase, world.home / "capsule.db")
    world.start()
    world.advance_time(2)
    campaign.owner.campaign()  # a block
    return lost


def relay(world: Any, scientist: Any, text: str, number: int) -> None:
    settlement, signature = RoundReply.model_validate_json(text).settlement()
    found = [event for event in EventCursor(world.chain, 0).read() if isinstance(event, GradientSubmitted)]
    entries = [Entry(e.mine, e.artifact, e.gradient) for e in found if e.round == number]
    world.chain_for(scientist.account).transact(settle_round(settlement, entries, signature))


def test_a_settlement_that_was_signed_after_the_backup_is_never_signed_differently(
    world: Any, scientist: Any, tmp_path: Path
) -> None:
    """The whole way; then the lost settlement turns up, and with it a version whose key is lost."""
    campaign = scientist.campaign()
    steps(world)
    lost = lost_and_restored(world, campaign, tmp_path / "backup", 0)
    steps(world, 4)
    assert world.capsule.state.round(campaign.id, 0) is None
    assert world.chain.round(campaign.id).number == 0

    relay(world, scientist, lost, 0)
    assert world.chain.campaign(campaign.id).version == 1
    for _ in range(3):
        campaign.submit()
    steps(world, 4)
    assert world.chain.round(campaign.id).number == 1, "no round of the lost version is judged"
    assert world.capsule.state.rounds(campaign.id) == []
    assert not world.worker.health()["ok"]
    world.capsule.state.verify_audit()


@pytest.mark.parametrize(
    "edit",
    [delete(t.held), update(t.held).values(since=0.0), update(t.held).values(round=-1, holding=0)],
    ids=["gone", "held since long ago", "seen to be free"],
)
def test_who_edits_what_a_restore_holds_back_has_no_round_signed_again(
    world: Any, scientist: Any, tmp_path: Path, edit: Any
) -> None:
    campaign = scientist.campaign()
    steps(world)
    lost_and_restored(world, campaign, tmp_path / "backup", 0)
    with world.capsule.state.transaction() as db:
        db.execute(edit)
    world.restart()
    steps(world, 3)
    assert world.capsule.state.rounds(campaign.id) == []
    assert "a restore" in (told := world.worker.health()["problems"][campaign.id.hex()]) or "restored" in told
    with pytest.raises(AuditLogError, match="what a restore holds back"):
        world.capsule.state.verify_audit()


def test_a_campaign_that_another_database_settled_stays_a_problem_also_once_it_is_over(
    world: Any, scientist: Any, tmp_path: Path
) -> None:
    campaign = scientist.campaign(seconds=1000)
    steps(world)
    lost = lost_and_restored(world, campaign, tmp_path / "backup", 0)
    steps(world)
    relay(world, scientist, lost, 0)
    told = "round 0 was settled on chain by what is not in this database"
    steps(world)
    for _ in range(2):  # it is no problem of one pass, nor of one process
        assert told in world.worker.health()["problems"][campaign.id.hex()], "no gradient waits, yet nothing is well"
        assert world.worker.tally.undeliverable.value == 1
        world.restart()
        assert told in campaign_rows(world.capsule.state)[0]["problem"]
        steps(world)
    world.advance_time(1001)
    scientist.campaign()  # a block
    steps(world, 3)
    row = next(row for row in campaign_rows(world.capsule.state) if row["campaign"] == "0x" + campaign.id.hex())
    assert row["state"] == "over"
    assert told in row["problem"]
    assert told in world.worker.health()["problems"][campaign.id.hex()]
    with pytest.raises(CapsuleRefusedError, match="another database") as caught:
        scientist.client.deliver(campaign.id, SealingKeyPair.generate().public)
    assert caught.value.code == "undeliverable", "nobody is told to ask again for what never comes"


def test_a_settlement_that_was_missed_is_forgotten_with_the_chain_that_told_of_it(world: Any, scientist: Any) -> None:
    campaign = settled_campaign(world, scientist)
    state, position = world.capsule.state, world.capsule.state.position()
    missed = ((campaign.id, 1, position.block), (campaign.id, 2, position.block + 1))
    assert state.follow(Told(position.block + 2, missed=missed), position)
    assert state.missed() == {campaign.id: 1}
    assert state.rewind(position.block + 1, state.position())
    assert state.missed() == {campaign.id: 1}
    assert state.rewind(position.block, state.position())
    assert state.missed() == {}


def test_a_campaign_goes_on_after_a_lost_settlement_that_left_its_model(
    world: Any, scientist: Any, tmp_path: Path
) -> None:
    campaign = settled_campaign(world, scientist)
    lost = lost_and_restored(world, campaign, tmp_path / "backup", 1)
    steps(world)
    relay(world, scientist, lost, 1)
    assert world.chain.campaign(campaign.id).version == 1, "this round did not advance"
    for _ in range(3):
        campaign.submit()
    steps(world, 4)
    assert world.chain.round(campaign.id).number == 3
    assert [stored.round for stored in world.capsule.state.rounds(campaign.id)] == [0, 2]


def _as_in_a_home(world: Any) -> str:
    """Stores what `capsule init` stores, which a whole Capsule for tests does without; returns the passphrase."""
    attester = Account.encrypt(world.attester.key, PASSPHRASE, kdf="pbkdf2", iterations=2)
    world.capsule.state.set(
        vault=world.vault.header,
        sealing=world.vault.seal(world.sealing.secret_bytes(), Record.SEALING_KEY),
        attester=json.dumps(attester).encode(),
        audit=world.vault.seal(bytes(32), Record.AUDIT_KEY),
        key_bits=b"512",
    )
    return PASSPHRASE


def test_what_another_database_settled_is_read_again_once_and_no_more(
    world: Any, scientist: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule.worker.serving._FIRST_WAIT", 0.0)
    campaign = scientist.campaign(seconds=1000)
    steps(world)
    lost = lost_and_restored(world, campaign, tmp_path / "backup", 0)
    steps(world)
    relay(world, scientist, lost, 0)
    for _ in range(3):
        campaign.submit()
    for _ in range(8):
        world.worker.step()
    told = "round 0 was settled on chain by what is not in this database"
    assert told in world.worker.health()["problems"][campaign.id.hex()]
    assert sum(entry.kind == "rewind" for entry in world.capsule.state.audit.entries()) == 1
