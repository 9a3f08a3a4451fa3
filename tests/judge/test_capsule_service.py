"""The Capsule's answers over HTTP: keys, admissions, deliveries; each thing that must be refused is refused."""

import asyncio
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from capsule.client import CapsuleClient
from capsule.custody.retention import delete_secrets
from capsule.errors import CapsuleRefusedError, CapsuleReplyError, CapsuleUnavailableError
from capsule.wire import ACCOUNT_HEADER, EXPIRY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, hexadecimal
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import (
    CapsuleRequest,
    Domain,
    hash_admission,
    info_answer,
    request_for,
    sign_request,
    verify_admission,
    verify_answer,
)
from sonar.protocol.payloads import encode_validation
from sonar.protocol.sealing import Purpose, SealingKeyPair
from sonar.protocol.spec import Payout
from sonar.storage import Artifact
from sonar.syft import Obfuscator, dump_model, encrypt, load_model
from sonar.units import Address, CampaignId, Cid, Digest, digest_of


def refused(code: str, action: Callable[[], Any]) -> str:
    with pytest.raises(CapsuleRefusedError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return str(caught.value)


# ---- who it is


def test_info_names_account_sealing_key_and_contract(world: Any) -> None:
    info = world.client().info()
    assert info.address == world.attester.address
    assert info.sealing_key == world.sealing.public
    assert (info.chain_id, info.contract) == (world.domain.chain_id, world.domain.contract)


def test_info_is_signed_by_the_account_that_it_names(world: Any) -> None:
    answer = send(world, "/v1/info", b"", method="GET")
    signature = bytes.fromhex(answer.headers[SIGNATURE_HEADER][2:])
    verify_answer(world.domain, info_answer(answer.content), signature, Address(world.attester.address))


def test_an_answer_is_signed_for_its_request_alone(world: Any, scientist: Any) -> None:
    request = fresh(world, scientist.account)
    answer = send(world, "/v1/keys", b"{}", headers_for(world, scientist.account, request))
    signature = bytes.fromhex(answer.headers[SIGNATURE_HEADER][2:])
    attester = Address(world.attester.address)
    verify_answer(world.domain, request.answer(answer.content), signature, attester)
    for other in (fresh(world, scientist.account), dataclasses.replace(request, action="deliveries")):
        with pytest.raises(SignatureError):
            verify_answer(world.domain, other.answer(answer.content), signature, attester)
    with pytest.raises(SignatureError):
        verify_answer(world.domain, request.answer(answer.content + b" "), signature, attester)


@pytest.mark.parametrize("signature", ["", "0x", "0xzz", "0x" + "11" * 65])
def test_an_answer_without_the_capsules_signature_is_not_believed(world: Any, scientist: Any, signature: str) -> None:
    content = send(world, "/v1/info", b"", method="GET").content
    answer = httpx.Response(200, content=content, headers={SIGNATURE_HEADER: signature})
    transport = httpx.MockTransport(lambda _: answer)
    attester = Address(world.attester.address)
    with CapsuleClient("http://x", world.domain, scientist.account, attester=attester, transport=transport) as client:
        for ask in (client.info, client.new_key):
            with pytest.raises(CapsuleReplyError, match="is not signed by"):
                ask()


def test_a_capsule_of_another_contract_is_told_as_such(world: Any) -> None:
    answer = send(world, "/v1/info", b"", method="GET")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=answer.content, headers=answer.headers))
    other = dataclasses.replace(world.domain, contract=Address("0x" + "11" * 20))
    told = pytest.raises(CapsuleReplyError, match=f"serves contract {world.domain.contract} .*which network file")
    with CapsuleClient("http://x", other, transport=transport) as client, told:
        client.info()
    lower = dataclasses.replace(world.domain, contract=Address(world.domain.contract.lower()))
    with CapsuleClient("http://x", lower, transport=transport) as client:
        assert client.info().contract == world.domain.contract


def test_health_counts_what_waits(world: Any, scientist: Any) -> None:
    scientist.campaign()
    world.worker.step()
    health = world.client().health()
    assert health.status == "ok"
    assert health.campaigns is not None
    assert health.campaigns.model_dump() == {"admissions": 1, "running": 1, "unsettled": 0}


# ---- keys


def test_every_key_is_fresh_and_has_the_asked_size(scientist: Any) -> None:
    first, second = scientist.client.new_key(), scientist.client.new_key()
    assert first.n != second.n
    assert first.n.bit_length() == 512


def test_an_account_without_coin_gets_no_key(world: Any) -> None:
    poor = world.new_account(0)
    assert "fund it" in refused("no_funds", world.client(poor).new_key)


def test_an_account_gets_only_so_many_keys_an_hour(world: Any, scientist: Any) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, keys_per_hour=2))
    scientist.client.new_key()
    scientist.client.new_key()
    refused("too_many_keys", scientist.client.new_key)


def test_requests_at_the_same_time_get_no_more_keys_than_one_after_another(world: Any) -> None:
    object.__setattr__(world.capsule, "policy", dataclasses.replace(world.policy, keys_per_hour=2))
    account, given = Address(world.new_account().address), []

    def ask() -> None:
        try:
            given.append(world.service.new_key(account))
        except CapsuleRefusedError as error:
            assert error.code == "too_many_keys"  # noqa: PT017

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 2


def test_asking_without_an_account_is_refused_before_anything_is_sent(world: Any) -> None:
    refused("no_account", world.client().new_key)


# ---- admissions


def test_an_admission_is_signed_for_what_was_sent_and_can_be_asked_for_again(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    before = world.chain.now()
    given = scientist.admit(draft)
    admission = given.admission
    assert admission.oracle == world.attester.address
    verify_admission(world.domain, admission, given.signature)
    assert (admission.spec, admission.model, admission.key) == (
        draft.spec.digest, draft.model.digest, draft.key.key_id,
    )  # fmt: skip
    assert (admission.owner, admission.sealing_key) == (scientist.address, world.sealing.public)
    assert before + 3600 <= admission.valid_until <= world.chain.now() + 3600
    campaign = hash_admission(world.domain, admission)
    assert world.client().admission(campaign) == given
    assert world.chain_for(None).address == world.domain.contract


def test_the_start_score_is_the_judges_own(world: Any, scientist: Any) -> None:
    features, labels = world.data.draw(100)
    draft = scientist.draft(validation=encode_validation(features, labels))
    assert scientist.admit(draft).admission.start_score == int((labels == 0).sum()) * 10_000


def test_a_key_admits_once(scientist: Any) -> None:
    draft = scientist.draft()
    scientist.admit(draft)
    refused("key_used", lambda: scientist.admit(draft))
    again = scientist.draft(key=draft.key)
    refused("key_used", lambda: scientist.admit(again))


def test_without_a_key_nothing_is_fetched_for_an_admission(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    stranger = world.client(world.new_account())
    nowhere = Artifact(Cid("bafk"), Digest(bytes(32)))
    refused("bad_artifact", lambda: scientist.client.admit(spec=nowhere, model=nowhere, validation=nowhere))
    refused("unknown_key", lambda: stranger.admit(spec=nowhere, model=nowhere, validation=nowhere))
    scientist.admit(draft)
    refused("key_used", lambda: scientist.client.admit(spec=nowhere, model=nowhere, validation=nowhere))


def test_a_failed_admission_uses_the_key_up(scientist: Any) -> None:
    draft = scientist.draft(slot_width=80)
    assert "slot_width" in refused("model_mismatch", lambda: scientist.admit(draft))
    good = scientist.draft(key=draft.key)
    refused("key_used", lambda: scientist.admit(good))


def test_a_model_whose_rows_would_not_stack_as_the_spec_says_is_refused(scientist: Any) -> None:
    draft = scientist.draft(stride=1)
    assert "stride 1, but the spec needs 2" in refused("model_mismatch", lambda: scientist.admit(draft))


def test_a_key_admits_only_for_the_account_that_asked(world: Any, scientist: Any) -> None:
    from_other = type(scientist)(world)
    draft = scientist.draft(key=from_other.key())
    refused("unknown_key", lambda: scientist.admit(draft))


def test_a_key_that_the_capsule_did_not_make_admits_nothing(world: Any, scientist: Any) -> None:
    from capsule.secret import generate_key

    draft = scientist.draft(key=generate_key(512, allow_insecure_small_key=True).public)
    refused("unknown_key", lambda: scientist.admit(draft))


def test_a_copied_validation_box_is_refused(world: Any, scientist: Any) -> None:
    victim = scientist.draft()
    scientist.admit(victim)
    thief = type(scientist)(world)
    draft = dataclasses.replace(thief.draft(), validation=victim.validation)
    assert "copied box" in refused("bad_validation", lambda: thief.admit(draft))
    own = dataclasses.replace(scientist.draft(), validation=victim.validation)
    refused("bad_validation", lambda: scientist.admit(own))


@pytest.mark.parametrize("change", [{"purpose": Purpose.GRADIENT}, {"chain_id": 1}, {"round": 1}])
def test_a_validation_box_made_for_something_else_is_refused(scientist: Any, change: dict[str, Any]) -> None:
    key = scientist.key()
    draft = scientist.draft(key=key, context=dataclasses.replace(scientist.context(key), **change))
    refused("bad_validation", lambda: scientist.admit(draft))


def test_a_target_that_the_start_model_reaches_is_refused(scientist: Any) -> None:
    spec = scientist.spec().model_copy(update={"payout": Payout(target=1000)})
    assert "aim higher" in refused("target_reached", lambda: scientist.admit(scientist.draft(spec)))


@pytest.mark.parametrize("change", [{"scale": 20}, {"bound": 2**20}, {"weights": np.zeros((4, 3), dtype=np.int64)}])
def test_a_model_that_is_not_encrypted_as_the_spec_says_is_refused(scientist: Any, change: dict[str, Any]) -> None:
    draft = scientist.draft(**change)
    refused("model_mismatch", lambda: scientist.admit(draft))


def test_a_weight_above_the_bound_is_refused_without_telling_it(world: Any, scientist: Any) -> None:
    key, spec = scientist.key(), scientist.spec()
    bound = spec.encoding.weight_bound
    weights = np.full(spec.shape, bound + 1, dtype=np.int64)
    stride = spec.encoding.stride(key, spec.shape[1])
    crafted = encrypt(weights, key, Obfuscator(key), slot_width=72, scale=24, bound=bound + 1, stride=stride)
    data = dump_model(dataclasses.replace(crafted, bound=bound))
    draft = dataclasses.replace(scientist.draft(key=key), model=world.store.put(data))
    message = refused("bad_model", lambda: scientist.admit(draft))
    assert str(bound + 1) not in message


@pytest.mark.parametrize("bit", [400, 72])
def test_bits_outside_the_slots_or_between_them_are_refused(world: Any, scientist: Any, bit: int) -> None:
    """They are how a start model would read a row of a mine's data."""
    draft = scientist.draft()
    model = load_model(world.store.get(draft.model, max_bytes=10**6), allow_insecure_small_key=True)
    n = model.key.n
    assert model.stride == 2
    stray = model.ciphertexts[0] * pow(1 + n, 1 << bit, n * n) % (n * n)
    crafted = dataclasses.replace(model, ciphertexts=(stray, *model.ciphertexts[1:]))
    draft = dataclasses.replace(draft, model=world.store.put(dump_model(crafted)))
    refused("bad_model", lambda: scientist.admit(draft))


def bad_labels(world: Any) -> bytes:
    features, labels = world.data.draw(20)
    return encode_validation(features, labels + 1)


def not_a_number(world: Any) -> bytes:
    features, labels = world.data.draw(20)
    features[3, 2] = np.nan
    return encode_validation(features, labels)


def other_width(world: Any) -> bytes:
    features, labels = world.data.draw(20)
    return encode_validation(features[:, :3], labels)


@pytest.mark.parametrize("make", [bad_labels, not_a_number, other_width, lambda _: b"no tensors"])
def test_a_validation_set_that_does_not_fit_is_refused(
    world: Any, scientist: Any, make: Callable[[Any], bytes]
) -> None:
    draft = scientist.draft(validation=make(world))
    refused("bad_validation", lambda: scientist.admit(draft))


def test_artifacts_that_are_not_there_or_have_another_digest_do_not_use_the_key_up(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    gone = Artifact(draft.spec.cid, Digest(bytes(32)))
    refused("bad_artifact", lambda: scientist.admit(dataclasses.replace(draft, spec=gone)))
    refused("bad_artifact", lambda: scientist.admit(dataclasses.replace(draft, validation=gone)))
    nowhere = Artifact(Cid("bafkqaaa"), Digest(bytes(32)))
    refused("bad_artifact", lambda: scientist.admit(dataclasses.replace(draft, model=nowhere)))
    assert scientist.admit(draft)


def test_specs_and_models_that_are_not_canonical_are_refused(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    spaced = world.store.put(json.dumps(json.loads(draft.parsed.to_bytes())).encode())
    refused("bad_spec", lambda: scientist.admit(dataclasses.replace(draft, spec=spaced)))
    garbage = world.store.put(b"garbage")
    refused("bad_model", lambda: scientist.admit(dataclasses.replace(draft, model=garbage)))


# ---- deliveries


def test_nothing_is_delivered_while_the_campaign_runs_or_to_anyone_but_its_owner(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    public = SealingKeyPair.generate().public
    refused("not_over", lambda: scientist.client.deliver(campaign.id, public))
    stranger = world.client(world.new_account())
    refused("not_owner", lambda: stranger.deliver(campaign.id, public))
    refused("unknown_campaign", lambda: scientist.client.deliver(CampaignId(os.urandom(32)), public))


def test_nothing_is_delivered_before_the_campaign_is_on_chain(world: Any, scientist: Any) -> None:
    given = scientist.admit(scientist.draft())
    campaign = hash_admission(world.domain, given.admission)
    refused("unknown_campaign", lambda: scientist.client.deliver(campaign, SealingKeyPair.generate().public))


def test_nothing_is_delivered_while_a_round_waits_after_the_deadline(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(seconds=100)
    campaign.submit()
    world.advance_time(101)
    public = SealingKeyPair.generate().public
    refused("not_over", lambda: scientist.client.deliver(campaign.id, public))
    world.worker.step()
    world.worker.step()
    assert scientist.client.deliver(campaign.id, public)


def test_weights_whose_retention_is_over_are_told_to_be_deleted(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(seconds=100)
    world.advance_time(101)
    world.worker.step()
    public = SealingKeyPair.generate().public
    assert scientist.client.deliver(campaign.id, public)
    assert scientist.client.deliver(campaign.id, public), "she may lose the answer"
    with world.capsule.state.transaction() as db:
        delete_secrets(world.capsule.state, db, campaign.id, time.time())
    assert "retention" in refused("deleted", lambda: scientist.client.deliver(campaign.id, public))


def test_a_sealing_key_that_is_none_is_refused(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(seconds=100)
    world.advance_time(101)
    refused("bad_key", lambda: scientist.client.deliver(campaign.id, bytes(32)))


# ---- signed requests


def send(world: Any, path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> Any:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="http://capsule") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(go())


def headers_for(world: Any, account: Any, request: CapsuleRequest, domain: Domain | None = None) -> dict[str, str]:
    return {
        ACCOUNT_HEADER: request.account,
        NONCE_HEADER: hexadecimal(request.nonce),
        EXPIRY_HEADER: str(request.expiry),
        SIGNATURE_HEADER: hexadecimal(sign_request(domain or world.domain, request, account)),
    }


def fresh(world: Any, account: Any, action: str = "keys", body: bytes = b"{}", **changes: Any) -> CapsuleRequest:
    request = request_for(Address(account.address), action, body, int(world.capsule.clock()))
    return dataclasses.replace(request, **changes)


def test_a_signed_request_works_once_also_after_a_restart(world: Any, scientist: Any) -> None:
    headers = headers_for(world, scientist.account, fresh(world, scientist.account))
    assert send(world, "/v1/keys", b"{}", headers).status_code == 200
    again = send(world, "/v1/keys", b"{}", headers)
    assert (again.status_code, again.json()["code"]) == (409, "replayed")
    world.restart()
    assert send(world, "/v1/keys", b"{}", headers).json()["code"] == "replayed"


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("another action", {"action": "deliveries"}),
        ("another body", {"body": digest_of(b"{ }")}),
        ("an expiry in the past", {"expiry": 1}),
        ("an expiry far ahead", {"expiry": 2**33}),
    ],
)
def test_a_request_signed_over_something_else_is_refused(
    world: Any, scientist: Any, case: str, change: dict[str, Any]
) -> None:
    request = fresh(world, scientist.account, **change)
    answer = send(world, "/v1/keys", b"{}", headers_for(world, scientist.account, request))
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature"), case


def test_a_request_for_another_contract_or_by_another_account_is_refused(world: Any, scientist: Any) -> None:
    request = fresh(world, scientist.account)
    elsewhere = Domain(world.domain.chain_id, Address(scientist.address))
    assert send(world, "/v1/keys", b"{}", headers_for(world, scientist.account, request, elsewhere)).status_code == 401
    forged = headers_for(world, world.new_account(), request)
    assert send(world, "/v1/keys", b"{}", forged).status_code == 401


@pytest.mark.parametrize("header", [ACCOUNT_HEADER, NONCE_HEADER, EXPIRY_HEADER, SIGNATURE_HEADER])
@pytest.mark.parametrize("value", ["", "0x", "zz", "0x" + "f" * 200, "-1"])
def test_a_missing_or_malformed_header_is_refused(world: Any, scientist: Any, header: str, value: str) -> None:
    headers = headers_for(world, scientist.account, fresh(world, scientist.account))
    answer = send(world, "/v1/keys", b"{}", {**headers, header: value})
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"x":1}', b"\xff", b"null", b"[" * 5000])
def test_a_signed_body_that_is_not_the_requests_is_refused(world: Any, scientist: Any, body: bytes) -> None:
    headers = headers_for(world, scientist.account, fresh(world, scientist.account, body=body))
    answer = send(world, "/v1/keys", body, headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_body_above_the_limit_is_refused_before_it_is_read(world: Any) -> None:
    assert send(world, "/v1/keys", b" " * 70_000).status_code == 413
    assert send(world, "/v1/info", b" " * 70_000, method="GET").json()["code"] == "too_large"


def test_unknown_paths_methods_and_names_get_json(world: Any) -> None:
    for method, path, status, code in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/keys", 405, "not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/admissions/zz", 400, "bad_request"),
        ("GET", "/v1/admissions/0x" + "0" * 64, 404, "unknown_campaign"),
        ("GET", "/v1/campaigns/0x" + "0" * 64 + "/rounds/x", 400, "bad_request"),
        ("GET", "/v1/campaigns/0x" + "0" * 64 + "/rounds/0", 404, "unknown_round"),
    ]:
        answer = send(world, path, b"", method=method)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path


# ---- the client


def test_a_capsule_that_is_not_there_is_unavailable(world: Any) -> None:
    with (
        CapsuleClient("http://127.0.0.1:9", world.domain) as client,
        pytest.raises(CapsuleUnavailableError, match="capsule serve"),
    ):
        client.info()


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (200, b"<html>", CapsuleReplyError),
        (200, b"{}", CapsuleReplyError),
        (404, b"<html>", CapsuleReplyError),
        (502, b"<html>", CapsuleUnavailableError),
        (503, b'{"code":"unavailable","message":"later"}', CapsuleUnavailableError),
        (200, b" " * (17 << 20), CapsuleReplyError),
    ],
)
def test_an_answer_that_is_not_a_capsules_is_a_clear_error(
    world: Any, status: int, content: bytes, error: type[Exception]
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    with CapsuleClient("http://x", world.domain, transport=transport) as client, pytest.raises(error):
        client.info()


@pytest.mark.parametrize("content", [b"[]", b"null", b"<html>", b"[" * 1_000_000])
def test_a_health_that_is_not_a_capsules_is_a_clear_error(world: Any, content: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    with CapsuleClient("http://x", world.domain, transport=transport) as client, pytest.raises(CapsuleReplyError):
        client.health()


def test_an_answer_that_trickles_is_given_up(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Trickle(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal now
            while True:
                now += 5
                yield b" "

    monkeypatch.setattr("capsule.client.time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Trickle()))
    with (
        CapsuleClient("http://x", world.domain, timeout=60, transport=transport) as client,
        pytest.raises(CapsuleUnavailableError, match="within 60 s"),
    ):
        client.health()
    assert now == 65


def test_a_compressed_answer_is_not_read(world: Any) -> None:
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b"))
    transport = httpx.MockTransport(lambda _: answer)
    with CapsuleClient("http://x", world.domain, transport=transport) as client, pytest.raises(CapsuleReplyError):
        client.health()


def test_an_address_whose_checksum_does_not_hold_is_no_answer(world: Any) -> None:
    content = send(world, "/v1/info", b"", method="GET").content
    address = world.attester.address
    for wrong in (address.lower(), address.upper().replace("0X", "0x")):
        changed = content.replace(address.encode(), wrong.encode())
        assert changed != content
        transport = httpx.MockTransport(lambda _, changed=changed: httpx.Response(200, content=changed))
        with (
            CapsuleClient("http://x", world.domain, transport=transport) as client,
            pytest.raises(CapsuleReplyError, match="not a Capsule's"),
        ):
            client.info()


@pytest.mark.parametrize("url", ["http://[::1", "http://x:port", "http://x y"])
def test_an_address_that_is_none_is_a_clear_error(world: Any, url: str) -> None:
    with pytest.raises(CapsuleUnavailableError, match="address"), CapsuleClient(url, world.domain) as client:
        client.info()


def test_secrets_are_sealed_in_the_database(world: Any, scientist: Any) -> None:
    draft = scientist.draft()
    scientist.admit(draft)
    secret = world.capsule.keys.secret(draft.key.key_id).to_bytes()
    world.capsule.state.close()
    files = b"".join(path.read_bytes() for path in world.home.iterdir() if path.is_file())
    assert secret[: len(secret) // 2] not in files
    assert b"labels" not in files
    assert oct((world.home / "capsule.db").stat().st_mode)[-3:] == "600"
