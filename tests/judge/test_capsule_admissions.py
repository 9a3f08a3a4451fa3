"""Admissions that fail are limited, and no key admits twice, whoever edits the database."""

import dataclasses
import time
from typing import Any

import pytest
from sqlalchemy import delete, update
from worker_checks import refused

from capsule.errors import AuditLogError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.sandbox import Limits, Sandbox
from capsule.state import tables as t
from sonar.protocol.messages import hash_admission
from sonar.units import CampaignId, KeyId


def test_admissions_that_fail_are_counted_and_then_refused_also_after_a_restart(world: Any, scientist: Any) -> None:
    world.policy = dataclasses.replace(world.policy, failed_admissions_per_hour=2)
    world.restart()
    draft = scientist.draft()
    garbage = dataclasses.replace(draft, model=world.store.put(b"no model"))
    refused("bad_model", lambda: scientist.admit(garbage))
    nonsense = dataclasses.replace(draft, spec=world.store.put(b"no spec"))
    refused("bad_spec", lambda: scientist.admit(nonsense))
    for _ in range(2):
        assert "2 admissions" in refused("too_many_failures", lambda: scientist.admit(draft))
        world.restart()
    assert world.capsule.state.key(draft.key.key_id).use == "issued"
    now = time.time() + 3601
    object.__setattr__(world.capsule, "clock", lambda: now)
    world.service.admit(scientist.address, spec=draft.spec, model=draft.model, validation=draft.validation)


def test_the_failures_of_one_account_are_not_anothers(world: Any, scientist: Any) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, failed_admissions_per_hour=1))
    draft = scientist.draft()
    refused("bad_model", lambda: scientist.admit(dataclasses.replace(draft, model=world.store.put(b"no model"))))
    other = type(scientist)(world)
    assert other.admit(other.draft()).signature


def test_what_the_capsule_lacks_is_nobodys_failure(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    with Sandbox(Limits(processes=1), allow_insecure_small_key=True) as stopped:
        pass
    world.use(stopped)
    with pytest.raises(CapsuleUnavailableError, match="stopped"):
        world.service.admit(scientist.address, spec=draft.spec, model=draft.model, validation=draft.validation)
    assert world.capsule.state.failures(scientist.address, world.capsule.clock()) == 0


@pytest.mark.parametrize("how", ["used", "admitted", "round"])
def test_a_key_that_somebody_made_an_issued_one_again_in_the_database_admits_nothing(
    world: Any, scientist: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    draft = scientist.draft()
    if how == "round":
        public = world.capsule.keys.claim("round", campaign=CampaignId(b"c" * 32)).public
        draft = scientist.draft(key=public)
    elif how == "used":
        assert world.capsule.keys.use_up(draft.key.key_id, scientist.address)
    else:
        scientist.admit(draft)
    again = scientist.draft(key=draft.key)
    with world.capsule.state.transaction() as db:
        its = t.keys.c.id == draft.key.key_id
        db.execute(update(t.keys).where(its).values(use="issued", owner=scientist.address, campaign=None))
    refused("key_used", lambda: scientist.admit(again))
    assert "audit verify" in caplog.text
    assert not world.capsule.keys.use_up(draft.key.key_id, scientist.address)
    with pytest.raises(AuditLogError, match=draft.key.key_id.hex()):
        world.capsule.state.verify_audit()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("sealed", ["as it is", "as it was"])
def test_a_key_admits_once_also_for_who_edits_key_log_and_admissions_together(
    world: Any, scientist: Any, sealed: str, restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All that tells of the first admission is gone or changed, and the row is perhaps the very one of before."""
    draft = scientist.draft()
    key = draft.key.key_id
    before = world.capsule.state.key(key)
    given = scientist.admit(draft).admission
    again = scientist.draft(key=draft.key)
    with world.capsule.state.transaction() as db:
        secret = before.secret if sealed == "as it was" else world.capsule.state.key(key).secret
        row = {"use": "issued", "owner": scientist.address, "used": None, "secret": secret}
        db.execute(update(t.keys).where(t.keys.c.id == key).values(row))
        for table in (t.admissions, t.versions):
            db.execute(delete(table))
        used = t.audit.c.body.contains(key.hex()) & t.audit.c.body.not_like('%"issued"%')
        db.execute(update(t.audit).where(used).values(kind="denied", body="{}"))
    if restarted:
        world.restart()
    service = world.service
    with pytest.raises((CapsuleUnavailableError, CapsuleRefusedError), match=r"operator|used already"):
        service.admit(scientist.address, spec=again.spec, model=again.model, validation=again.validation)
    assert "audit verify" in caplog.text
    assert world.capsule.state.admission(hash_admission(world.domain, given)) is None
    with pytest.raises(AuditLogError):
        world.capsule.state.verify_audit()


def test_a_secret_that_is_deleted_during_an_admission_leaves_nothing_half_admitted(
    world: Any, scientist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, state = scientist.draft(), world.capsule.state
    secret_of = world.capsule.keys.secret

    def deleted_after(key: KeyId) -> Any:
        secret = secret_of(key)
        with state.transaction() as db:
            db.execute(update(t.keys).where(t.keys.c.id == key).values(secret=None))
        return secret

    monkeypatch.setattr(world.capsule.keys, "secret", deleted_after)
    with pytest.raises(CapsuleUnavailableError, match="was deleted while"):
        world.service.admit(scientist.address, spec=draft.spec, model=draft.model, validation=draft.validation)
    assert state.counts()["admissions"] == 0
    state.verify_audit()
