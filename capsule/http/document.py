"""The OpenAPI document: what FastAPI reads from the routes, and what it cannot know of signed requests."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from capsule.wire import (
    SIGNATURE_HEADER,
    AdmissionRequest,
    DeliveryRequest,
    ErrorReply,
    KeyRequest,
    PartsRequest,
    WeightsRequest,
)
from sonar.protocol.messages import ANSWER_TYPES, REQUEST_LIFETIME, REQUEST_TYPES

__all__ = ["document"]

_BODIES = (KeyRequest, AdmissionRequest, DeliveryRequest, PartsRequest, WeightsRequest, ErrorReply)
_REFERENCE = "#/components/schemas/{model}"
_WORDS = f"""Issues Paillier keys, admits start models, and says what it judged and signed.

Requests with a body are signed by an Ethereum account: EIP-712, domain `Sonar Capsule`, version 1, with the chain's id
and the contract of /v1/info. `body` is the SHA-256 of the HTTP body, `action` the path behind /v1/. A nonce is taken
once, also across restarts, and an expiry is at most {REQUEST_LIFETIME} seconds ahead. The Capsule signs its answers in
the same domain."""


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the application's routes."""
    made = get_openapi(title=app.title, version=app.version, description=_WORDS, routes=app.routes)
    _, others = models_json_schema(
        [(kind, "validation") for kind in _BODIES],
        ref_template=_REFERENCE,
    )
    components = made.setdefault("components", {})
    components.setdefault("schemas", {}).update(others.get("$defs", {}))
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": SIGNATURE_HEADER,
            "description": "An EIP-712 signature over the Request, with its account, nonce and expiry in headers.",
            "x-eip712": {
                "domain": {"name": "Sonar Capsule", "version": "1"},
                "types": {**REQUEST_TYPES, **ANSWER_TYPES},
            },
        }
    }
    for path in made["paths"].values():
        for operation in path.values():
            # What FastAPI refuses is answered as bad_request.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return made
