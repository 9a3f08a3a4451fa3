"""The API against its own document: schemathesis draws requests from it, many of them signed, and checks the answers.

Quick draws some hundred requests, `scripts/test --full` more than ten thousand. Chain, store, database and judge
processes are real and answer, so that no answer may be a 5xx, 503 neither.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from capsule.http.app import Limits, create_app
from capsule.wire import ACCOUNT_HEADER, EXPIRY_HEADER, NONCE_HEADER, SIGNATURE_HEADER, hexadecimal
from sonar.protocol.messages import request_for, sign_request
from sonar.protocol.sealing import SealingKeyPair
from sonar.units import Address

CONFORM = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class Attack:
    """Sends what is drawn to one Capsule, at times signed by somebody whom it knows or about what it knows."""

    def __init__(self, world: Any, scientist: Any) -> None:
        self.world = world
        over = scientist.campaign(seconds=500)
        for _ in range(3):
            over.submit()
        for _ in range(3):
            world.worker.step()
        world.advance_time(501)
        running = type(scientist)(world).campaign()
        world.worker.step()
        self.campaigns = [hexadecimal(over.id), hexadecimal(running.id)]
        self.accounts = [scientist.account, running.owner.account, world.new_account(), world.new_account(0)]
        draft = scientist.draft()
        self.artifacts = [{"cid": a.cid, "digest": hexadecimal(a.digest)}
                          for a in (draft.spec, draft.model, draft.validation)]  # fmt: skip
        self.app = create_app(world.service, limits=Limits(10**6, 10**6))
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.signed = 0

    def send(self, method: str, url: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> httpx.Response:
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app)) as client:
                return await client.request(method, url, content=body, headers=headers)

        return asyncio.run(go())

    def play(self, case: Any, draw: Any) -> httpx.Response:
        """Sends a drawn case, changed so that it gets further than a random one would."""
        if "campaign" in (case.path_parameters or {}) and draw(st.booleans()):
            case.path_parameters["campaign"] = draw(st.sampled_from(self.campaigns))
            if "number" in case.path_parameters:
                case.path_parameters["number"] = draw(st.sampled_from(["0", "00", "1"]))
        if isinstance(case.body, dict) and draw(st.booleans()):
            self._make_known(case.body, draw)
        prepared = requests.Request(**case.as_transport_kwargs(base_url="http://capsule")).prepare()
        body = prepared.body.encode() if isinstance(prepared.body, str) else bytes(prepared.body or b"")
        headers = {name: value if isinstance(value, str) else value.decode("latin-1")
                   for name, value in prepared.headers.items()}  # fmt: skip
        if case.method.upper() == "POST" and draw(st.sampled_from([True, True, True, False])):
            self._sign(case, body, headers, draw(st.sampled_from(self.accounts)))
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        response = self.send(case.method.upper(), str(prepared.url), body, raw)
        self.statuses[case.operation.label, response.status_code] += 1
        return response

    def _make_known(self, body: dict[str, Any], draw: Any) -> None:
        for name in ("spec", "model", "validation"):
            if name in body:
                body[name] = draw(st.sampled_from(self.artifacts))
        if "campaign" in body:
            body["campaign"] = draw(st.sampled_from(self.campaigns))
            body["sealing_key"] = hexadecimal(SealingKeyPair.generate().public)

    def _sign(self, case: Any, body: bytes, headers: dict[str, str], account: Any) -> None:
        action = case.operation.path.removeprefix("/v1/")
        request = request_for(Address(account.address), action, body, int(self.world.capsule.clock()))
        headers[ACCOUNT_HEADER] = request.account
        headers[NONCE_HEADER] = hexadecimal(request.nonce)
        headers[EXPIRY_HEADER] = str(request.expiry)
        headers[SIGNATURE_HEADER] = hexadecimal(sign_request(self.world.domain, request, account))
        self.signed += 1


@pytest.mark.timeout(1800)
def test_every_answer_is_one_of_the_document_and_none_is_a_server_error(
    world: Any, scientist: Any, effort: Callable[[int, int, int], int]
) -> None:
    attack = Attack(world, scientist)
    schema = schemathesis.openapi.from_dict(attack.app.openapi())
    examples = effort(15, 1050, 5000)
    chosen = settings(
        max_examples=examples, deadline=None, database=None, derandomize=effort(1, 0, 0) == 1,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()):
                continue

            @chosen
            @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            def attacked(case: Any, data: Any) -> None:
                response = attack.play(case, data.draw)
                assert response.status_code < 500, response.text
                case.validate_response(response, checks=CONFORM)

            attacked()

    known = {(f"{method.upper()} {path}") for path, item in attack.app.openapi()["paths"].items() for method in item}
    for path in ["/", "/v1", "/v1/none", "/openapi.json", *attack.app.openapi()["paths"]]:
        for method in METHODS:
            if f"{method} {path}" not in known and (method, path) != ("GET", "/openapi.json"):
                response = attack.send(method, f"http://capsule{path}", b"", [])
                attack.statuses["other", response.status_code] += 1
                assert response.status_code in {404, 405}
                assert method == "HEAD" or set(json.loads(response.content)) == {"code", "message"}

    print(f"{attack.statuses.total()} requests, {attack.signed} signed: {dict(sorted(attack.statuses.items()))}")
    reached = {status for _, status in attack.statuses}
    assert reached >= {200, 400, 401, 404, 405, 422}
    if effort(0, 1, 1):
        assert reached >= {403, 409, 429}
        for label in ("POST /v1/deliveries", "GET /v1/campaigns/{campaign}/rounds/{number}"):
            assert attack.statuses[label, 200], "no request got this far"
    assert attack.statuses.total() > effort(200, 10_000, 50_000)
