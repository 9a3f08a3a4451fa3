"""What the service says of itself: document, health, audit head, metrics; and what it never says."""

import asyncio
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from capsule.errors import CapsuleDatabaseError, CapsuleRefusedError
from capsule.http.app import Limits, create_app
from capsule.http.errors import CODES
from capsule.http.metrics import CapsuleNumbers, Requests, serving_metrics
from capsule.lookout import Lookout
from capsule.readiness import Readiness
from capsule.sandbox import PARTS, Sandbox, SandboxError
from capsule.sandbox import Limits as JudgeLimits
from capsule.service import CapsuleService
from capsule.wire import REQUEST_HEADER, SIGNATURE_HEADER
from sonar.chain.errors import RpcUnavailableError
from sonar.protocol.messages import public_answer, verify_answer
from sonar.protocol.sealing import SealingKeyPair
from sonar.storage import StoreUnavailableError
from sonar.units import Address

ROOT = Path(__file__).parents[2]


def get(app: Any, path: str, method: str = "GET", *, client: tuple[str, int] = ("127.0.0.1", 1), **more: Any) -> Any:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://capsule") as http:
            return await http.request(method, path, **more)

    return asyncio.run(go())


# ---- the document


def test_the_document_has_every_route_and_only_those(world: Any) -> None:
    document = get(world.app, "/openapi.json").json()
    told = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    routes = {(route.path, method) for route in world.app.routes for method in route.methods}
    assert told == routes - {("/openapi.json", "GET")}
    assert document["openapi"].startswith("3.1")


def test_every_refusal_in_the_source_is_in_the_table_of_codes() -> None:
    found = set()
    for path in (ROOT / "capsule").rglob("*.py"):
        if path.name in {"client.py", "sandbox"}:
            continue
        text = path.read_text()
        found |= set(re.findall(r"CapsuleRefusedError\(\s*\"(\w+)\"", text))
        found |= set(re.findall(r"(?:refusing|refusal|Refusal|Refused)\(\s*\"(\w+)\"", text))
    assert found > {"key_used", "bad_signature"}
    assert found <= CODES.keys()


def test_the_document_says_how_requests_are_signed(world: Any) -> None:
    document = world.app.openapi()
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names) == 13
    for path in [path for path, item in document["paths"].items() if "post" in item]:
        operation = document["paths"][path]["post"]
        names = {each["name"]: each for each in operation["parameters"]}
        assert set(names) == {"Sonar-Account", "Sonar-Nonce", "Sonar-Expiry", "Sonar-Signature"}
        assert all(each["required"] and each["schema"]["pattern"] for each in names.values())
        assert operation["security"] == [{"signature": []}]
        assert {"400", "401", "409", "413", "429", "503"} <= operation["responses"].keys()
        assert SIGNATURE_HEADER in operation["responses"]["200"]["headers"]
    request = document["components"]["securitySchemes"]["signature"]["x-eip712"]["types"]["Request"]
    assert [field["name"] for field in request] == ["account", "action", "body", "nonce", "expiry"]


def test_every_reference_in_the_document_leads_somewhere(world: Any) -> None:
    document = world.app.openapi()
    for name in set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))):
        assert name in document["components"]["schemas"]


def test_the_operators_manual_has_every_route(world: Any) -> None:
    rows = re.findall(r"^\| `(GET|POST) (/v1/[^`]+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    paths = world.app.openapi()["paths"]
    assert set(rows) == {(method.upper(), path) for path, item in paths.items() for method in item}


# ---- health


class Broken:
    """A part that answers nothing but an error with a secret place in it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise self.error

        return fail


def with_part(world: Any, **parts: Any) -> Any:
    return create_app(CapsuleService(dataclasses.replace(world.capsule, **parts), world.worker.health))


def test_live_and_ready_are_told(world: Any) -> None:
    assert get(world.app, "/v1/live").json() == {"live": True}
    assert get(world.app, "/v1/ready").json() == {"ready": True}
    health = get(world.app, "/v1/health").json()
    assert health["status"] == "ok"
    assert health["chain"]["block"] == world.chain.block_number()


@pytest.mark.parametrize(
    ("part", "told", "error"),
    [
        ("chain", "chain", RpcUnavailableError("http://node.internal:8545/secret does not answer")),
        ("store", "store", StoreUnavailableError("http://node.internal:5001/secret does not answer")),
        ("state", "database", CapsuleDatabaseError("postgresql://capsule@node.internal/secret does not answer")),
    ],
)
def test_a_part_that_does_not_answer_makes_it_unready_and_strangers_learn_no_more(
    world: Any, caplog: pytest.LogCaptureFixture, part: str, told: str, error: Exception
) -> None:
    app = with_part(world, **{part: Broken(error)})
    ready, health = get(app, "/v1/ready"), get(app, "/v1/health")
    assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
    assert health.status_code == 200
    assert (health.json()["status"], health.json()[told]["ok"]) == ("degraded", False)
    assert get(app, "/v1/live").status_code == 200
    assert "internal" not in ready.text + health.text
    assert caplog.text.count("secret does not answer") <= 2, "told in the log, once a part"
    assert "secret does not answer" in caplog.text


def test_a_capsule_whose_judge_processes_do_not_start_is_not_ready(world: Any) -> None:
    sandbox = Sandbox(JudgeLimits(processes=1), jobs="capsule.nowhere:Jobs")
    with pytest.raises(SandboxError):
        sandbox.start()
    app = with_part(world, sandbox=sandbox)
    assert get(app, "/v1/ready").status_code == 503
    health = get(app, "/v1/health").json()
    assert (health["status"], health["judges"]["ok"], health["store"]["ok"]) == ("degraded", False, True)


def test_errors_of_parts_are_not_told_to_who_asks(world: Any) -> None:
    app = with_part(world, state=Broken(CapsuleDatabaseError("postgresql://capsule@node.internal/secret")))
    answer = get(app, "/v1/admissions/0x" + "0" * 64)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "internal" not in answer.text


def test_an_error_that_nobody_foresaw_is_a_500_without_its_words(world: Any) -> None:
    app = with_part(world, state=Broken(ZeroDivisionError("the secret is 42")))
    answer = get(app, "/v1/admissions/0x" + "0" * 64)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "42" not in answer.text


def test_a_new_capsule_is_ready_once_it_has_a_key(world: Any) -> None:
    ready = Readiness(world.capsule, world.worker.health, wait_for_key=True, keep_seconds=0)
    assert not ready.ready()
    world.capsule.keys.claim("round")
    assert ready.ready()


def test_the_parts_are_asked_once_however_many_ask(world: Any) -> None:
    asked = []

    class Counting:
        def block_number(self) -> int:
            asked.append(1)
            return 7

    readiness = Readiness(dataclasses.replace(world.capsule, chain=Counting()), dict, clock=lambda: 0.0)
    for _ in range(50):
        assert readiness.health().chain.block == 7
    assert len(asked) == 1


# ---- the audit log


def test_the_audit_logs_head_is_signed_by_the_capsule(world: Any, scientist: Any) -> None:
    before = world.client().audit_head()
    scientist.client.new_key()
    answer = get(world.app, "/v1/audit/head")
    signature = bytes.fromhex(answer.headers[SIGNATURE_HEADER][2:])
    action = public_answer("audit/head", answer.content)
    verify_answer(world.domain, action, signature, Address(world.attester.address))
    after = world.client().audit_head()
    assert after.length > before.length
    assert answer.json()["hash"] == "0x" + world.capsule.state.audit_head().hash.hex() == after.hash


def test_a_denied_request_is_in_the_audit_log_and_one_of_a_stranger_is_not(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign()
    before = [entry.kind for entry in world.capsule.state.audit.entries()]
    get(world.app, "/v1/keys", "POST", content=b"{}")
    assert [entry.kind for entry in world.capsule.state.audit.entries()] == before
    thief = world.client(world.new_account())
    with pytest.raises(CapsuleRefusedError):
        thief.deliver(campaign.id, SealingKeyPair.generate().public)
    *_, last = world.capsule.state.audit.entries()
    assert json.loads(last.body).items() >= {"action": "deliveries", "code": "not_owner"}.items()


def test_a_delivery_is_in_the_audit_log_and_begins_the_retention(world: Any, scientist: Any) -> None:
    campaign = scientist.campaign(seconds=100)
    world.advance_time(101)
    world.worker.step()
    scientist.client.deliver(campaign.id, SealingKeyPair.generate().public)
    [known] = world.capsule.state.campaigns()
    assert known.delivered is not None
    kinds = [entry.kind for entry in world.capsule.state.audit.entries()]
    assert kinds.count("delivery") == 1


# ---- limits and headers


def test_an_address_that_asks_too_often_is_told_when_to_come_back(world: Any) -> None:
    app = create_app(world.service, limits=Limits(address_per_minute=3))
    flood = ("2001:db8::1", 1)
    answers = [get(app, "/v1/info", client=flood) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert get(app, "/v1/info", client=("2001:db8::2", 1)).status_code == 429
    assert get(app, "/v1/info", client=("2001:db8:0:1::1", 1)).status_code == 200
    assert get(app, "/v1/live", client=flood).status_code == 200


def test_an_account_that_asks_too_often_is_turned_away_before_anything_is_stored(world: Any, scientist: Any) -> None:
    world.app = create_app(world.service, limits=Limits(account_per_minute=2))
    scientist.client.new_key()
    scientist.client.new_key()
    before = world.capsule.state.audit_head()
    with pytest.raises(CapsuleRefusedError) as caught:
        scientist.client.new_key()
    assert caught.value.code == "too_many_requests"
    assert world.capsule.state.audit_head() == before
    type(scientist)(world).client.new_key()


def test_every_answer_has_an_id_of_ours_and_is_kept_by_no_cache(world: Any) -> None:
    ids = set()
    for path, method in [("/v1/live", "GET"), ("/nothing", "GET"), ("/v1/keys", "PUT"), ("/v1/keys", "POST")]:
        answer = get(world.app, path, method, headers={REQUEST_HEADER: "mine"})
        ids.add(answer.headers[REQUEST_HEADER])
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(ids) == 4
    assert "mine" not in ids


def test_a_method_that_a_path_does_not_take_is_told_with_those_that_it_does(world: Any) -> None:
    answer = get(world.app, "/v1/info", "POST")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_the_log_tells_routes_and_neither_bodies_nor_headers_nor_addresses(
    world: Any, scientist: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="capsule")
    secret = "5ec7e7" * 8
    get(world.app, "/v1/keys", "POST", content=secret.encode(), headers={"Authorization": secret},
        client=("192.0.2.77", 1))  # fmt: skip
    get(world.app, f"/v1/admissions/{secret}?{secret}", client=("192.0.2.77", 1))
    told = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert [(each["route"], each["status"]) for each in told] == [("/v1/keys", 401), ("/v1/admissions/{campaign}", 400)]
    everything = " ".join(str(value) for each in told for value in each.values())
    assert secret not in everything
    assert "192.0.2.77" not in everything


def test_who_is_over_his_limit_does_not_fill_the_log(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="capsule")
    app = create_app(world.service, limits=Limits(address_per_minute=3))
    for _ in range(20):
        get(app, "/v1/info")
    assert len([record for record in caplog.records if record.getMessage() == "request"]) == 3


# ---- metrics


def numbers(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_what_happened_with_labels_that_are_few(world: Any, scientist: Any) -> None:
    registry = CollectorRegistry()
    lookout = Lookout(world.capsule, Readiness(world.capsule, world.worker.health))
    lookout.look()
    registry.register(CapsuleNumbers(world.capsule.state, world.worker.tally, world.sandbox, lookout))
    world.app = create_app(world.service, limits=Limits(address_per_minute=30), counts=Requests(registry))
    campaign = scientist.campaign()
    for _ in range(3):
        campaign.submit()
    world.worker.step()
    world.worker.step()
    for number in range(40):
        get(world.app, f"/random/{number}")
        get(world.app, f"/v1/admissions/0x{number:064x}")
    with serving_metrics("127.0.0.1", 0, registry) as url:
        text = httpx.get(url, timeout=10).text
    found = numbers(text)
    assert found["sonar_capsule_requests_total", (("route", "/v1/keys"), ("status", "200"))] == 1
    assert found["sonar_capsule_rate_limited_requests_total", (("kind", "address"),)] > 0
    assert found["sonar_capsule_campaigns", (("state", "running"),)] == 1
    assert found["sonar_capsule_rounds_judged_total", ()] == 1
    assert found["sonar_capsule_gas_spent_total", ()] > 0
    assert found["sonar_capsule_judge_seconds_count", ()] == 1
    assert found["sonar_capsule_judge_processes", ()] == 2
    assert found["sonar_capsule_jobs_total", ()] >= 6  # a model inspected and admitted, three gradients, the round
    parts = {part: found["sonar_capsule_job_seconds_total", (("part", part),)] for part in PARTS}
    assert 0 < parts["decrypting"] < parts["total"]
    assert found["sonar_capsule_jobs_lost_total", (("loss", "time"),)] == 0
    assert found["sonar_capsule_audit_entries", ()] == world.capsule.state.audit_head().length
    assert found["sonar_capsule_database_up", ()] == 1
    for part in ("database", "chain", "store", "keys", "judges", "worker"):
        assert found["sonar_capsule_part_up", (("part", part),)] == 1
    assert found["sonar_capsule_account_wei", ()] > 0
    assert len(found) < 400
    manual = (ROOT / "docs" / "operations.md").read_text()
    for name in re.findall(r"`(sonar_capsule_\w+)", manual):
        assert any(told.startswith(name) for told, _ in found), f"the manual watches {name}, which is not told"
    assert scientist.address not in text
    assert campaign.id.hex() not in text
    routes = {value for _, labels in found for name, value in labels if name == "route"}
    assert routes <= {route.path for route in world.app.routes} | {"other"}


def test_a_database_that_is_away_does_not_silence_the_other_numbers(world: Any) -> None:
    registry = CollectorRegistry()
    registry.register(CapsuleNumbers(Broken(CapsuleDatabaseError("away")), world.worker.tally, world.sandbox))  # type: ignore[arg-type]
    with serving_metrics("127.0.0.1", 0, registry) as url:
        found = numbers(httpx.get(url, timeout=10).text)
    assert found["sonar_capsule_database_up", ()] == 0
    assert ("sonar_capsule_queue_depth", ()) in found


# ---- several processes


def test_a_signed_request_is_taken_by_one_of_two_processes_on_one_postgresql(world: Any, postgres_url: str) -> None:
    from capsule.state import State
    from sonar.protocol.messages import request_for, sign_request

    first, second = State(postgres_url), State(postgres_url)
    first.audit.begin(bytes(32))
    second.audit.unlock(bytes(32))
    try:
        account = world.new_account()
        services = [CapsuleService(dataclasses.replace(world.capsule, state=state)) for state in (first, second)]
        request = request_for(Address(account.address), "keys", b"{}", int(world.capsule.clock()))
        signature = sign_request(world.domain, request, account)
        for service in services:
            service.verify(request, signature, b"{}")
        services[0].take(request)
        with pytest.raises(CapsuleRefusedError) as caught:
            services[1].take(request)
        assert caught.value.code == "replayed"
    finally:
        first.close()
        second.close()
