"""The Capsule's HTTP door: whole requests, some of them signed by an account, through the real application."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from eth_account import Account
from pydantic import ValidationError
from web3 import Web3

from capsule.http.app import Limits, create_app
from capsule.keypool import KeyPool
from capsule.parts import Capsule
from capsule.sandbox import Limits as SandboxLimits
from capsule.sandbox import Sandbox
from capsule.secret import Vault, generate_key
from capsule.service import CapsuleService
from capsule.state import State
from capsule.wire import (
    ACCOUNT_HEADER,
    EXPIRY_HEADER,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    AdmissionRequest,
    ArtifactBody,
    DeliveryRequest,
    ErrorReply,
    hexadecimal,
)
from hostile.mutations import json_text
from hostile.target import Target
from sonar.chain.client import SonarClient
from sonar.chain.deploy import deploy
from sonar.chain.embedded import EmbeddedServer
from sonar.protocol.messages import request_for, sign_request
from sonar.protocol.sealing import SealingKeyPair
from sonar.storage.base import Artifact
from sonar.storage.cids import raw_cid
from sonar.storage.memory import MemoryStore
from sonar.units import Address, digest_of

__all__ = ["targets"]

_ACCOUNT = Account.from_key(sha256(b"who asks").digest())
_SIGN = b"x-sign: yes\n"
"""Stands in a seed for the headers of a signature over the body, whatever that has become."""


class _RefusedError(Exception):
    """The door refused the request as it says it does."""


def targets(stack: ExitStack) -> Iterator[Target]:
    """Requests as they come and requests with a signature that holds; the chain ends with the stack."""
    door = stack.enter_context(_door())
    campaign = b"0x" + b"00" * 32
    paths = (b"/v1/info", b"/v1/health", b"/v1/audit/head", b"/v1/admissions/" + campaign, b"/openapi.json",
             b"/v1/campaigns/" + campaign + b"/rounds/0")  # fmt: skip
    artifact = ArtifactBody.of(Artifact(raw_cid(b"x"), digest_of(b"x")))
    bodies = {
        b"keys": b"{}",
        b"admissions": AdmissionRequest(spec=artifact, model=artifact, validation=artifact).model_dump_json().encode(),
        b"deliveries": DeliveryRequest(campaign=campaign.decode(), sealing_key="0x" + "11" * 32)
        .model_dump_json()
        .encode(),
    }
    plain = [b"GET " + path + b"\naccept: application/json\n\n" for path in paths]
    signed = [b"POST /v1/" + action + b"\n" + _SIGN + b"\n" + body for action, body in bodies.items()]
    bare = [each.replace(_SIGN, _bare_headers()) for each in signed]
    yield Target("door", door, (_RefusedError,), (*plain, *bare), weight=0.1, samples=True)
    yield Target("door-signed", door, (_RefusedError,), tuple(signed), (_json_body,), weight=0.05, samples=True)


def _json_body(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    head, _, body = data.partition(b"\n\n")
    return head + b"\n\n" + json_text(random, body, seeds)


def _bare_headers() -> bytes:
    values = {ACCOUNT_HEADER: _ACCOUNT.address, NONCE_HEADER: hexadecimal(bytes(32)), EXPIRY_HEADER: str(2**31),
              SIGNATURE_HEADER: hexadecimal(bytes(65))}  # fmt: skip
    return "".join(f"{name}: {value}\n" for name, value in values.items()).encode()


class _Door:
    """An application and the loop that it runs in; called with a request's bytes, it gives the answer's."""

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule
        many = Limits(address_per_minute=10**9, account_per_minute=10**9)
        self._app = create_app(CapsuleService(capsule), limits=many)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def __call__(self, data: bytes) -> bytes:
        head, _, body = data.partition(b"\n\n")
        first, *lines = head.split(b"\n")
        method, _, path = first.partition(b" ")
        if _SIGN.strip() in lines:
            lines = [*self._signature(path, body), *(line for line in lines if line != _SIGN.strip())]
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        status, answer = self._loop.run_until_complete(self._ask(method, path, headers, body))
        if status < 400:
            return answer
        try:
            reply = ErrorReply.model_validate_json(answer)
        except ValidationError as error:
            raise ValueError(f"status {status} without an error reply: {answer!r:.200}") from error
        if status >= 500 and reply.code != "unavailable":
            raise ValueError(f"status {status}: {reply.message}")
        raise _RefusedError(f"{status} {reply.code}: {reply.message}")

    async def _ask(
        self, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes]:
        target, _, query = path.partition(b"?")
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "method": method.decode("latin-1"), "path": target.decode("utf-8", "replace"), "raw_path": target,
            "query_string": query, "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8700),
            "root_path": "",
        }  # fmt: skip
        pieces = [body[start : start + 5000] for start in range(0, len(body), 5000)]
        waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def _signature(self, path: bytes, body: bytes) -> list[bytes]:
        action = path.rpartition(b"/")[2].decode("latin-1")
        request = request_for(Address(_ACCOUNT.address), action, body, int(self._capsule.clock()))
        signature = sign_request(self._capsule.domain, request, _ACCOUNT)
        values = {ACCOUNT_HEADER: request.account, NONCE_HEADER: hexadecimal(request.nonce),
                  EXPIRY_HEADER: str(request.expiry), SIGNATURE_HEADER: hexadecimal(signature)}  # fmt: skip
        return [f"{name}: {value}".encode() for name, value in values.items()]


@contextmanager
def _door() -> Iterator[_Door]:
    """A Capsule on an embedded chain, on which the asking account holds nothing: keys are refused, nothing is made."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="sonar-fuzz-")))
        server = stack.enter_context(EmbeddedServer())
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        stack.callback(server.shutdown)
        attester = Account.from_key(sha256(b"attester").digest())
        web3 = Web3(Web3.HTTPProvider(server.url))
        bank = web3.eth.accounts[0]
        web3.eth.send_transaction({"from": bank, "to": attester.address, "value": Web3.to_wei(5, "ether")})
        made = deploy(web3, attester)
        state = State(folder / "capsule.db")
        stack.callback(state.close)
        state.audit.begin(bytes(32))
        vault = Vault.create("words", cost=(1, 8192))
        keys = KeyPool(state, vault, lambda: generate_key(512, allow_insecure_small_key=True),
                       allow_insecure_small_key=True)  # fmt: skip
        door = _Door(
            Capsule(
                state=state, vault=vault, attester=attester, sealing=SealingKeyPair(sha256(b"box").digest()),
                chain=SonarClient.connect(server.url, made.address), store=MemoryStore(), keys=keys,
                sandbox=Sandbox(SandboxLimits(processes=1), allow_insecure_small_key=True), key_bits=512,
                allow_insecure_small_key=True,
            )
        )  # fmt: skip
        stack.callback(door.close)
        yield door
