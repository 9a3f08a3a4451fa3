"""Refusals over HTTP: one table from their codes to status and meaning, and how an error becomes an answer."""

import logging
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from capsule.errors import CapsuleDatabaseError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.wire import ErrorReply
from sonar.chain.errors import ChainError
from sonar.storage import StorageError

__all__ = ["CODES", "Code", "LimitedError", "answer_error", "refusal"]

_log = logging.getLogger("capsule.http")

RETRY_SECONDS = 5
"""After how long who finds the Capsule busy or without its chain may try again."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a refusal's code means, and the HTTP status that it has."""

    status: int
    meaning: str


CODES = {
    "bad_request": Code(400, "The request is not one that the document describes."),
    "bad_signature": Code(401, "The signed headers are missing, malformed, expired, or not of this request."),
    "no_funds": Code(403, "The account holds no native coin, which keys are issued for."),
    "no_bond": Code(403, "The account holds less than the campaign's bond, and has posted none."),
    "not_admitted": Code(403, "The campaign's terms do not admit the account."),
    "not_owner": Code(403, "The campaign belongs to another account."),
    "not_found": Code(404, "There is no such path."),
    "unknown_campaign": Code(404, "The campaign was not admitted here, or is not on chain."),
    "unknown_key": Code(404, "The model's key was not issued to this account."),
    "unknown_round": Code(404, "No settlement of this round has been signed."),
    "not_allowed": Code(405, "The path does not take this method."),
    "box_used": Code(409, "The sealed validation set was used before."),
    "key_used": Code(409, "The model's key was used before: a key admits once, whatever came out."),
    "not_over": Code(409, "The campaign is not over."),
    "not_released": Code(409, "The campaign's model stays encrypted."),
    "not_open": Code(409, "The campaign's spec does not give mines' parts to its owner."),
    "not_split": Code(409, "The campaign trains a network, whose predictions do not split by mines."),
    "other_terms": Code(409, "The accepted terms are not the campaign's."),
    "over": Code(409, "The campaign is over."),
    "replayed": Code(409, "The signed request was answered before."),
    "undeliverable": Code(409, "The campaign's last version is in another database than this Capsule's."),
    "deleted": Code(410, "The campaign was delivered, and its keys and weights are deleted since."),
    "too_large": Code(413, "The body is too large."),
    "bad_artifact": Code(422, "An artifact cannot be fetched, or is another than its digest says."),
    "bad_key": Code(422, "The sealing key is not an X25519 public key."),
    "bad_model": Code(422, "The model cannot be read, or its plaintext is not one that the spec allows."),
    "bad_spec": Code(422, "The spec is not canonical or not valid."),
    "bad_validation": Code(422, "The validation set cannot be opened, or does not fit the spec."),
    "model_mismatch": Code(422, "The model's header is not the one that the spec asks for."),
    "target_reached": Code(422, "The start model reaches the target already."),
    "too_many_failures": Code(429, "Too many of the account's admissions failed within the hour."),
    "too_many_keys": Code(429, "The account got its hour's keys."),
    "too_many_requests": Code(429, "The account or the address asks too often; Retry-After says when to ask again."),
    "internal": Code(500, "The Capsule failed; its log says why."),
    "unavailable": Code(503, "The Capsule is busy, or its chain, store or database does not answer: try again later."),
}
"""Every code that an answer can have."""


class LimitedError(CapsuleRefusedError):
    """Too many requests; the next is taken after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__("too_many_requests", message)
        self.retry_after = retry_after


def refusal(code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """The answer of a refusal."""
    content = ErrorReply(code=code, message=message).model_dump_json()
    status = CODES[code].status if code in CODES else 422
    return Response(content, status, headers, media_type="application/json")


def answer_error(_: Request, error: Exception) -> Response:
    """The answer to an error that a handler raised."""
    if isinstance(error, LimitedError):
        return refusal(error.code, str(error), {"Retry-After": str(error.retry_after)})
    if isinstance(error, CapsuleRefusedError):
        return refusal(error.code, str(error))
    later = {"Retry-After": str(RETRY_SECONDS)}
    if isinstance(error, CapsuleDatabaseError):
        _log.warning("a request needs the database: %s", error)
        return refusal("unavailable", "the Capsule's database does not answer: try again later", later)
    if isinstance(error, CapsuleUnavailableError):
        return refusal("unavailable", str(error), later)
    if isinstance(error, ChainError | StorageError):
        # Which node it asks, and what that said, is for the operator.
        what = "chain" if isinstance(error, ChainError) else "content store"
        _log.warning("a request needs the %s: %s", what, error)
        return refusal("unavailable", f"the Capsule's {what} does not answer: try again later", later)
    # Anything else is ours to repair; its message may tell of secrets' storage, so it stays in the log.
    _log.error("a request failed", exc_info=error)
    return refusal("internal", "the Capsule failed at this request: its log says why")
