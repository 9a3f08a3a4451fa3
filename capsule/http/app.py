"""The Capsule's service over HTTP: routes, signed headers, size caps and one table from refusals to status codes."""

import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from capsule.errors import CapsuleRefusedError, CapsuleUnavailableError
from capsule.service import CapsuleService
from capsule.wire import (
    ACCOUNT_HEADER,
    EXPIRY_HEADER,
    MAX_REQUEST_BYTES,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    AdmissionReply,
    AdmissionRequest,
    DeliveryReply,
    DeliveryRequest,
    ErrorReply,
    InfoReply,
    KeyReply,
    KeyRequest,
    RoundReply,
    hexadecimal,
)
from sonar.chain.errors import ChainError
from sonar.errors import SonarError
from sonar.protocol.messages import CapsuleRequest, hash_admission, info_answer
from sonar.storage import StorageError
from sonar.units import Address, CampaignId, digest_of

__all__ = ["create_app"]

_log = logging.getLogger("capsule.http")

STATUS = {
    "bad_request": 400,
    "bad_signature": 401,
    "no_funds": 403,
    "not_owner": 403,
    "not_found": 404,
    "unknown_campaign": 404,
    "unknown_key": 404,
    "unknown_round": 404,
    "box_used": 409,
    "key_used": 409,
    "not_over": 409,
    "replayed": 409,
    "too_large": 413,
    "too_many_keys": 429,
}
"""Refusals by code; those that are not here are 422."""

_HEX32 = re.compile(r"0x[0-9a-f]{64}")
_SIGNATURE = re.compile(r"0x[0-9a-f]{130}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_EXPIRY = re.compile(r"[0-9]{1,12}")

Body = TypeVar("Body", bound=BaseModel)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(service: CapsuleService, *, lifespan: Lifespan | None = None) -> FastAPI:
    """The ASGI application of a service; `lifespan` starts and stops what runs beside it."""
    app = FastAPI(title="Sonar Capsule", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(_BodyLimit)
    app.add_exception_handler(SonarError, _answer_error)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(405, _not_found)
    _add_public_routes(app, service)
    _add_signed_routes(app, service)
    return app


def _add_public_routes(app: FastAPI, service: CapsuleService) -> None:
    @app.get("/v1/info")
    def info() -> Response:
        found = service.info()
        reply = InfoReply(
            address=found.address,
            sealing_key=hexadecimal(found.sealing_key),
            chain_id=found.chain_id,
            contract=found.contract,
            key_bits=found.key_bits,
            version=found.version,
        )
        content = reply.model_dump_json().encode()
        return _signed_answer(content, service.sign(info_answer(content)))

    @app.get("/v1/health")
    def health() -> Response:
        return JSONResponse(service.health())

    @app.get("/v1/admissions/{campaign}")
    def admission(campaign: str) -> Response:
        found = service.admission(_campaign(campaign))
        return _answer(AdmissionReply.of(_campaign(campaign), found.admission, found.signature))

    @app.get("/v1/campaigns/{campaign}/rounds/{number}")
    def judged_round(campaign: str, number: str) -> Response:
        if not re.fullmatch(r"[0-9]{1,9}", number):
            raise CapsuleRefusedError("bad_request", f"{number!r:.40} is not a round's number")
        report = service.round(_campaign(campaign), int(number))
        return _answer(RoundReply.of(report.settlement, report.signature, report.reasons, report.published))


def _add_signed_routes(app: FastAPI, service: CapsuleService) -> None:
    async def signed(request: Request, action: str, kind: type[Body]) -> tuple[CapsuleRequest, Body]:
        body = await request.body()
        asked, signature = _signed_request(request, action, body)
        await run_in_threadpool(service.authenticate, asked, signature, body)
        try:
            return asked, kind.model_validate_json(body)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"]) or "body"
            raise CapsuleRefusedError("bad_request", f"the request is not valid: {place}: {problem['msg']}") from error

    async def answer(asked: CapsuleRequest, reply: BaseModel) -> Response:
        content = reply.model_dump_json().encode()
        return _signed_answer(content, await run_in_threadpool(service.sign, asked.answer(content)))

    @app.post("/v1/keys")
    async def keys(request: Request) -> Response:
        asked, _ = await signed(request, "keys", KeyRequest)
        grant = await run_in_threadpool(service.new_key, asked.account)
        modulus = grant.n.to_bytes((grant.n.bit_length() + 7) // 8, "big")
        return await answer(asked, KeyReply(n=hexadecimal(modulus), key_id=hexadecimal(grant.key_id)))

    @app.post("/v1/admissions")
    async def admissions(request: Request) -> Response:
        asked, body = await signed(request, "admissions", AdmissionRequest)
        given = await run_in_threadpool(
            service.admit,
            asked.account,
            spec=body.spec.artifact(),
            model=body.model.artifact(),
            validation=body.validation.artifact(),
        )
        campaign = hash_admission(service.domain, given.admission)
        return await answer(asked, AdmissionReply.of(campaign, given.admission, given.signature))

    @app.post("/v1/deliveries")
    async def deliveries(request: Request) -> Response:
        asked, body = await signed(request, "deliveries", DeliveryRequest)
        box = await run_in_threadpool(service.deliver, asked.account, body.campaign_id(), body.sealing_key_bytes())
        return await answer(asked, DeliveryReply(box=hexadecimal(box)))


def _signed_request(request: Request, action: str, body: bytes) -> tuple[CapsuleRequest, bytes]:
    """The request that the headers claim, with its signature; nothing is verified yet."""
    found = {}
    patterns = {
        ACCOUNT_HEADER: _ADDRESS,
        NONCE_HEADER: _HEX32,
        EXPIRY_HEADER: _EXPIRY,
        SIGNATURE_HEADER: _SIGNATURE,
    }
    for header, pattern in patterns.items():
        found[header] = request.headers.get(header, "")
        if not pattern.fullmatch(found[header]):
            raise CapsuleRefusedError("bad_signature", f"the header {header} is missing or malformed: sign the request")
    asked = CapsuleRequest(
        account=Address(to_checksum_address(found[ACCOUNT_HEADER])),
        action=action,
        body=digest_of(body),
        nonce=bytes.fromhex(found[NONCE_HEADER][2:]),
        expiry=int(found[EXPIRY_HEADER]),
    )
    return asked, bytes.fromhex(found[SIGNATURE_HEADER][2:])


def _campaign(text: str) -> CampaignId:
    if not _HEX32.fullmatch(text):
        raise CapsuleRefusedError("bad_request", f"{text!r:.80} is not a campaign's id: give 0x and 64 hex digits")
    return CampaignId(bytes.fromhex(text[2:]))


def _answer(reply: BaseModel) -> Response:
    return Response(reply.model_dump_json(), media_type="application/json")


def _signed_answer(content: bytes, signature: bytes) -> Response:
    return Response(content, media_type="application/json", headers={SIGNATURE_HEADER: hexadecimal(signature)})


def _answer_error(_: Request, error: Exception) -> Response:
    if isinstance(error, CapsuleRefusedError):
        return _error(STATUS.get(error.code, 422), error.code, str(error))
    if isinstance(error, CapsuleUnavailableError | ChainError | StorageError):
        return _error(503, "unavailable", str(error))
    # Anything else is ours to repair; its message may tell of secrets' storage, so it stays in the log.
    _log.error("a request failed", exc_info=error)
    return _error(500, "internal", "the Capsule failed at this request: its log says why")


def _not_found(request: Request, _: Exception) -> Response:
    return _error(404, "not_found", f"the Capsule has no {request.method} {request.url.path:.80}")


def _error(status: int, code: str, message: str) -> Response:
    return Response(ErrorReply(code=code, message=message).model_dump_json(), status, media_type="application/json")


class _BodyLimit:
    """Refuses request bodies above `MAX_REQUEST_BYTES`, announced or streamed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > MAX_REQUEST_BYTES:
                await _refuse_size(send)
                return
        replayed = {"type": "http.request", "body": b"".join(parts), "more_body": False}
        waiting = [replayed]

        async def buffered() -> MutableMapping[str, Any]:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, buffered, send)


async def _refuse_size(send: Send) -> None:
    reply = {"code": "too_large", "message": f"a request has at most {MAX_REQUEST_BYTES} bytes"}
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": STATUS["too_large"], "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(reply).encode()})
