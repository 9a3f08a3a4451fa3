"""What accounts ask under their signature. Nothing is parsed before it is verified."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from capsule.errors import CapsuleRefusedError
from capsule.http.answering import problems, signed_answer, signed_headers
from capsule.http.errors import LimitedError
from capsule.http.gate import Counts
from capsule.http.limits import Limit
from capsule.http.places import Places
from capsule.service import CapsuleService
from capsule.wire import (
    ACCOUNT_HEADER,
    EXPIRY_HEADER,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    AdmissionReply,
    AdmissionRequest,
    DeliveryReply,
    DeliveryRequest,
    KeyReply,
    KeyRequest,
    PartsRequest,
    WeightsRequest,
    hexadecimal,
)
from sonar.errors import ConfigError
from sonar.protocol.messages import CapsuleRequest, SignedRequest, hash_admission
from sonar.units import Address, address_of, digest_of
from sonar.wording import told

__all__ = ["SIGNED_HEADERS", "add_signed_routes"]

SIGNED_HEADERS = {
    ACCOUNT_HEADER: (r"^0x[0-9a-fA-F]{40}$", "The asking account; mixed letters are a checksum (EIP-55) and must fit."),
    NONCE_HEADER: (r"^0x[0-9a-f]{64}$", "32 random bytes, used once."),
    EXPIRY_HEADER: (r"^[0-9]{1,12}$", "Until when the request may be answered, in Unix seconds; at most 300 ahead."),
    SIGNATURE_HEADER: (r"^0x[0-9a-f]{130}$", "The account's EIP-712 signature of the Request."),
}
"""The headers of a signed request: pattern and meaning of each."""

_SIGNED = "The Capsule's EIP-712 signature of the Answer to this very request."
_OF_OWNERS = ("not_owner", "unknown_campaign", "not_over", "undeliverable", "deleted", "bad_key")
_COMMON = ("bad_request", "bad_signature", "replayed")

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all signed routes use."""

    service: CapsuleService
    places: Places
    accounts: Limit
    counts: Counts

    @asynccontextmanager
    async def opened(
        self, request: Request, action: str, kind: type[Body]
    ) -> AsyncIterator[tuple[CapsuleRequest, Body]]:
        """The request, authentic and new, and its body; a refusal within the block is written down."""
        body = await request.body()
        asked, signature = _claimed(request, action, body)
        await self.places.run(self.service.verify, asked, signature, body)
        _take(self.accounts, asked.account, self.counts)
        try:
            await self.places.run(self.service.take, asked)
            yield asked, _parsed(body, kind)
        except CapsuleRefusedError as error:
            await self.places.run(self.service.denied, asked.account, action, error.code)
            raise

    async def answer(self, asked: CapsuleRequest, reply: BaseModel) -> Response:
        content = reply.model_dump_json().encode()
        return signed_answer(content, await self.places.run(self.service.sign, asked.answer(content)))

    async def deliver(self, asked: CapsuleRequest, box: bytes) -> Response:
        """A box's reply; as it may have tens of megabytes, none of it is made where all requests are answered."""
        return signed_answer(*await self.places.run(self._with_box, asked, box))

    def _with_box(self, asked: CapsuleRequest, box: bytes) -> tuple[bytes, bytes]:
        content = DeliveryReply.content(box)
        return content, self.service.sign(asked.answer(content))


def add_signed_routes(
    app: FastAPI,
    service: CapsuleService,
    places: Places,
    slow: Places,
    accounts: Limit,
    releases: Limit,
    counts: Counts,
) -> None:
    """Adds the routes that need a signature; `slow` are the places of what takes minutes.

    `accounts` limits every request of an account, `releases` those for weights besides: an answer to a few hundred
    bytes may have 32 MB.
    """
    desk = _Desk(service, places, accounts, counts)

    @app.post(
        "/v1/keys",
        response_model=KeyReply,
        responses=_responses("no_funds", "too_many_keys"),
        openapi_extra=_extra("keys", KeyRequest),
    )
    async def keys(request: Request) -> Response:
        """A fresh Paillier public key, which belongs to the account and admits one model, once."""
        async with desk.opened(request, "keys", KeyRequest) as (asked, _):
            grant = await places.run(service.new_key, asked.account)
        modulus = grant.n.to_bytes((grant.n.bit_length() + 7) // 8, "big")
        return await desk.answer(asked, KeyReply(n=hexadecimal(modulus), key_id=hexadecimal(grant.key_id)))

    @app.post(
        "/v1/admissions",
        response_model=AdmissionReply,
        responses=_responses(
            "unknown_key", "key_used", "box_used", "bad_artifact", "bad_model", "bad_spec", "bad_validation",
            "model_mismatch", "target_reached", "too_many_failures",
        ),
        openapi_extra=_extra("admissions", AdmissionRequest),
    )  # fmt: skip
    async def admissions(request: Request) -> Response:
        """Admits a start model: scores it and signs its admission; its key is used up, whatever comes out."""
        async with desk.opened(request, "admissions", AdmissionRequest) as (asked, body):
            given = await slow.run(
                service.admit,
                asked.account,
                spec=body.spec.artifact(),
                model=body.model.artifact(),
                validation=body.validation.artifact(),
            )
        campaign = hash_admission(service.domain, given.admission)
        return await desk.answer(asked, AdmissionReply.of(campaign, given.admission, given.signature))

    @app.post(
        "/v1/deliveries",
        response_model=DeliveryReply,
        responses=_responses(*_OF_OWNERS),
        openapi_extra=_extra("deliveries", DeliveryRequest),
    )
    async def deliveries(request: Request) -> Response:
        """The last weights of a campaign that is over, sealed; for the account that owns it on chain now."""
        async with desk.opened(request, "deliveries", DeliveryRequest) as (asked, body):
            box = await places.run(service.deliver, asked.account, body.campaign_id(), body.sealing_key_bytes())
        return await desk.deliver(asked, box)

    @app.post(
        "/v1/attributions",
        response_model=DeliveryReply,
        responses=_responses(*_OF_OWNERS, "not_split"),
        openapi_extra=_extra("attributions", DeliveryRequest),
    )
    async def attributions(request: Request) -> Response:
        """Each mine's share of what a campaign that is over changed, sealed; for the account that owns it now."""
        async with desk.opened(request, "attributions", DeliveryRequest) as (asked, body):
            box = await slow.run(service.attribute, asked.account, body.campaign_id(), body.sealing_key_bytes())
        return await desk.deliver(asked, box)

    @app.post(
        "/v1/parts",
        response_model=DeliveryReply,
        responses=_responses(*_OF_OWNERS, "not_split", "not_open"),
        openapi_extra=_extra("parts", PartsRequest),
    )
    async def parts(request: Request) -> Response:
        """What mines added to the weights, sealed, where the spec opens it; for the account that owns the campaign."""
        async with desk.opened(request, "parts", PartsRequest) as (asked, body):
            box = await slow.run(service.parts, asked.account, body.campaign_id(), body.first, body.sealing_key_bytes())
        return await desk.deliver(asked, box)

    @app.post(
        "/v1/weights",
        response_model=DeliveryReply,
        responses=_responses(
            "unknown_campaign", "not_released", "other_terms", "over", "not_admitted", "no_bond", "bad_key"
        ),
        openapi_extra=_extra("weights", WeightsRequest),
    )  # fmt: skip
    async def weights(request: Request) -> Response:
        """The present weights of a network, sealed; for a mine that the campaign's terms admit, which accepts them."""
        async with desk.opened(request, "weights", WeightsRequest) as (asked, body):
            _take(releases, asked.account, counts)
            content = await request.body()
            accepted = SignedRequest(asked, content, _claimed(request, "weights", content)[1])
            box = await places.run(
                service.release, accepted, body.campaign_id(), body.terms_digest(), body.sealing_key_bytes()
            )
        return await desk.deliver(asked, box)


def _take(limit: Limit, account: Address, counts: Counts) -> None:
    try:
        limit.take(account)
    except LimitedError:
        counts.limited("account")
        raise


def _parsed(body: bytes, kind: type[Body]) -> Body:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise CapsuleRefusedError("bad_request", f"the request is not valid: {told(error, 'body')}") from error


def _claimed(request: Request, action: str, body: bytes) -> tuple[CapsuleRequest, bytes]:
    """The request that the headers claim, with its signature; nothing is verified yet."""
    found = {}
    for header, (pattern, _) in SIGNED_HEADERS.items():
        given = request.headers.getlist(header)
        if len(given) != 1 or not re.fullmatch(pattern, given[0]):
            raise CapsuleRefusedError("bad_signature", f"the header {header} is missing or malformed: sign the request")
        found[header] = given[0]
    try:
        account = address_of(found[ACCOUNT_HEADER])
    except ConfigError as error:
        raise CapsuleRefusedError("bad_signature", f"the header {ACCOUNT_HEADER}: {error}") from error
    asked = CapsuleRequest(
        account=Address(account),
        action=action,
        body=digest_of(body),
        nonce=bytes.fromhex(found[NONCE_HEADER][2:]),
        expiry=int(found[EXPIRY_HEADER]),
    )
    return asked, bytes.fromhex(found[SIGNATURE_HEADER][2:])


def _responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    return {**problems(*_COMMON, *codes), 200: {"headers": signed_headers(_SIGNED)}}


def _extra(action: str, kind: type[BaseModel]) -> dict[str, Any]:
    """What the document says of a signed request; FastAPI would parse what it declares itself before it is verified."""
    headers = [
        {"name": name, "in": "header", "required": True, "description": meaning,
         "schema": {"type": "string", "pattern": pattern}}
        for name, (pattern, meaning) in SIGNED_HEADERS.items()
    ]  # fmt: skip
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    security: list[dict[str, list[str]]] = [{"signature": []}]
    return {"parameters": headers, "requestBody": body, "security": security, "x-action": action}
