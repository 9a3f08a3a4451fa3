"""What every request passes: its id, its address's limit, the cap on its body, a line in the log, a count.

The log tells routes and never who asked from where: where a mine runs is its owner's own matter.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from fastapi import Request

from capsule.errors import CapsuleRefusedError
from capsule.http.errors import CODES, answer_error
from capsule.http.limits import Limit, group_of
from capsule.logs import fields
from capsule.wire import MAX_REQUEST_BYTES, REQUEST_HEADER

__all__ = ["Counts", "Gate"]

_log = logging.getLogger("capsule.http")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/v1/health", "/v1/live", "/v1/ready"})
"""Routes that monitors ask all the time; not told in the log unless they fail."""
_UNLIMITED = frozenset({"/v1/live", "/v1/ready"})
"""Paths that cost nothing, and that must be told to whoever watches the process."""
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Counts(Protocol):
    """Who counts requests."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer; the route is a path of the document, or `other`."""

    def limited(self, kind: str) -> None:
        """Counts a request that was one too many of an `address` or an `account`."""


class Gate:
    """ASGI middleware around all routes. Every error of theirs is an answer here, and none goes on."""

    def __init__(self, app: Any, *, addresses: Limit, counts: Counts) -> None:
        self._app, self._addresses, self._counts = app, addresses, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client's own id is not taken: it would let him forge lines that look like another's.
        request_id = secrets.token_hex(8)
        answer = _Answer(send, request_id)
        with fields(request=request_id):
            started = time.perf_counter()
            try:
                await self._serve(scope, receive, answer)
            finally:
                self._tell(scope, answer.status, time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            if scope["path"] not in _UNLIMITED:
                client = scope.get("client")
                self._take(group_of(client[0] if client else None))
            body = await _body(receive)
            if body is None:
                return  # the client is gone
            await self._app(scope, _replay(body, receive), answer.send)
        except Exception as error:  # noqa: BLE001  (all of them become an answer; what is not a refusal is logged there)
            response = answer_error(Request(scope), error)
            if answer.status:
                return  # it has begun, and can only be broken off
            if isinstance(error, _TooLargeError):
                response.headers["Connection"] = "close"
            await response(scope, receive, answer.send)

    def _take(self, group: str) -> None:
        try:
            self._addresses.take(group)
        except CapsuleRefusedError:
            self._counts.limited("address")
            raise

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "other"))
        self._counts.request(route, status, seconds)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        # Whoever is over his limit is counted: told one by one, he could fill the disk with the log.
        quiet = status == CODES["too_many_requests"].status or (route in _QUIET and status < 500)
        extra = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        _log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=extra)


class _Answer:
    """Sends an answer with the headers that all of them have, and knows its status (0: none yet)."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (REQUEST_HEADER.lower().encode(), self._id.encode())
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS, own]}
        await self._send(message)


class _TooLargeError(CapsuleRefusedError):
    def __init__(self) -> None:
        super().__init__("too_large", f"a request has at most {MAX_REQUEST_BYTES} bytes")


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if the client left. Raises _TooLargeError for one that is too large, announced or not."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > MAX_REQUEST_BYTES:
            raise _TooLargeError
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
