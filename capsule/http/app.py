"""The Capsule's service as an ASGI application: its routes, the gate before them, and the document of both."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as package_version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from capsule.http.document import document
from capsule.http.errors import refusal
from capsule.http.gate import Counts, Gate
from capsule.http.limits import Limit
from capsule.http.metrics import Requests
from capsule.http.places import Places
from capsule.http.public import add_public_routes
from capsule.http.signed import add_signed_routes
from capsule.service import CapsuleService
from sonar.wording import wording

__all__ = ["Limits", "create_app"]

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken: requests a minute of an address and of an account, those for weights, calls, seconds a call.

    Admissions and the rest have places of their own; together they stay below the 40 threads that there are, so that
    health finds one.
    """

    address_per_minute: int = 1200
    account_per_minute: int = 60
    weights_per_minute: int = 6
    calls: int = 20
    call_seconds: float = 30.0
    admissions: int = 9
    admission_seconds: float = 300.0


def create_app(
    service: CapsuleService,
    *,
    limits: Limits | None = None,
    counts: Counts | None = None,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """The ASGI application of a service; `lifespan` starts and stops what runs beside it."""
    limits, counts = limits or Limits(), counts or Requests()
    app = FastAPI(
        title="Sonar Capsule", version=package_version("sonar-marketplace"), docs_url=None, redoc_url=None,
        openapi_url=None, redirect_slashes=False, lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.add_middleware(Gate, addresses=Limit("the address", limits.address_per_minute), counts=counts)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(405, _not_allowed)
    app.add_exception_handler(RequestValidationError, _bad_request)
    places = Places(limits.calls, limits.call_seconds)
    slow = Places(limits.admissions, limits.admission_seconds)
    add_public_routes(app, service, places)
    accounts = Limit("the account", limits.account_per_minute)
    releases = Limit("for weights the account", limits.weights_per_minute)
    add_signed_routes(app, service, places, slow, accounts, releases, counts)

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]

    @cache
    def written() -> bytes:
        return bytes(JSONResponse(app.openapi()).body)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(written(), media_type="application/json")

    return app


def _not_found(request: Request, _: Exception) -> Response:
    return refusal("not_found", f"the Capsule has no path {_quoted(request)}")


def _not_allowed(request: Request, error: Exception) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    return refusal("not_allowed", f"{_quoted(request)} does not take this method", headers)


def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    return refusal("bad_request", f"the request is not valid: {problem['loc'][-1]}: {wording(problem)}")


def _quoted(request: Request) -> str:
    # Not `request.url`, which reads the query too: that is a stranger's bytes, and may be no text.
    path: str = request.scope["path"]
    return repr(path if len(path) <= 80 else f"{path[:77]}...")
