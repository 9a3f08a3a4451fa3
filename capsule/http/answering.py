"""How answers are made: JSON of the API's models, signed by the Capsule's account where a client must believe them."""

from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel

from capsule.http.errors import CODES
from capsule.wire import SIGNATURE_HEADER, ErrorReply, hexadecimal

__all__ = ["answer", "problems", "signed_answer", "signed_headers"]

_ALWAYS = ("too_large", "too_many_requests", "internal", "unavailable")
"""Codes that every route may answer."""


def answer(reply: BaseModel) -> Response:
    """A reply that carries its own signature, or needs none."""
    return Response(reply.model_dump_json(), media_type="application/json")


def signed_answer(content: bytes, signature: bytes) -> Response:
    """A reply with the Capsule's signature in a header."""
    return Response(content, media_type="application/json", headers={SIGNATURE_HEADER: hexadecimal(signature)})


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The document's responses for these codes and those that every route may answer, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({CODES[code].status for code in (*codes, *_ALWAYS)}):
        here = [code for code in CODES if CODES[code].status == status and code in (*codes, *_ALWAYS)]
        schema = {
            "allOf": [{"$ref": f"#/components/schemas/{ErrorReply.__name__}"}, {"properties": {"code": {"enum": here}}}]
        }
        found[status] = {
            "description": "; ".join(f"`{code}`: {CODES[code].meaning}" for code in here),
            "content": {"application/json": {"schema": schema}},
        }
        if "too_many_requests" in here or "unavailable" in here:
            wait = {"description": "Seconds until the next try makes sense.", "schema": {"type": "integer"}}
            found[status]["headers"] = {"Retry-After": wait}
    return found


def signed_headers(what: str) -> dict[str, Any]:
    """The document's header of an answer that the Capsule signs."""
    schema = {"type": "string", "pattern": r"^0x[0-9a-f]{130}$"}
    return {SIGNATURE_HEADER: {"description": what, "required": True, "schema": schema}}
