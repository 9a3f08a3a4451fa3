"""The Capsule's API from outside: what data scientists, mines and auditors ask of it.

Requests that matter are signed by the caller's Ethereum account over the action and the body, with a nonce and an
expiry; their answers, and what the Capsule says of itself, must be signed by the Capsule's account. So nobody on the
way can put in his own keys or models. Whoever uses an admission or a settlement verifies its own signature.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import httpx
from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ValidationError

from capsule.answers import CapsuleInfo, KeyGrant, RoundReport, SignedAdmission
from capsule.errors import CapsuleError, CapsuleRefusedError, CapsuleReplyError, CapsuleUnavailableError
from capsule.standing import AuditHeadReply, HealthReply
from capsule.wire import (
    ACCOUNT_HEADER,
    EXPIRY_HEADER,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    AdmissionReply,
    AdmissionRequest,
    ArtifactBody,
    DeliveryReply,
    DeliveryRequest,
    ErrorReply,
    InfoReply,
    KeyReply,
    KeyRequest,
    PartsRequest,
    RoundReply,
    WeightsRequest,
    hexadecimal,
)
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import (
    CapsuleAnswer,
    Domain,
    info_answer,
    public_answer,
    request_for,
    sign_request,
    verify_answer,
)
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Digest, KeyId, Ppm, digest_of

__all__ = [
    "CapsuleClient", "CapsuleError", "CapsuleInfo", "CapsuleRefusedError", "CapsuleUnavailableError", "KeyGrant",
    "RoundReport", "SignedAdmission",
]  # fmt: skip

MAX_REPLY_BYTES = 33 << 20
"""Enough for the largest model's sealed weights in hex."""

ADMISSION_SECONDS = 310.0
"""A little more than a Capsule takes at most, for an admission: who leaves before has lost its key."""

_LONGEST_MESSAGE = 2_000

Reply = TypeVar("Reply", bound=BaseModel)


class CapsuleClient:
    """One Capsule at one URL. Only the public questions can be asked without an account and the Capsule's `attester`.

    Raises CapsuleUnavailableError (nobody answers, or it is too busy), CapsuleRefusedError (with its code) and
    CapsuleReplyError (not this protocol). `transport` and `clock` are for tests and embedding.
    """

    def __init__(
        self,
        url: str,
        domain: Domain,
        account: LocalAccount | None = None,
        *,
        attester: Address | None = None,
        timeout: float = 60,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._domain = domain
        self._account = account
        self._attester = attester
        self._clock = clock
        self._timeout = timeout
        try:
            self._http = httpx.Client(
                base_url=self._url,
                timeout=timeout,
                transport=transport,
                trust_env=False,
                headers={"Accept-Encoding": "identity"},
            )
        except httpx.InvalidURL as error:
            raise CapsuleUnavailableError(
                f"{url!r} is not the address of a Capsule ({error}): write it like http://127.0.0.1:8700"
            ) from error

    def __enter__(self) -> Self:
        """The client itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the client."""
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def info(self) -> CapsuleInfo:
        """Who this Capsule is: signed by the account that it names, which is the client's attester if it has one."""
        content, signature = self._send("GET", "/v1/info")
        reply = self._parse("/v1/info", content, InfoReply)
        address = Address(reply.address)
        if self._attester not in (None, address):
            raise CapsuleReplyError(f"the Capsule at {self._url} is {address}, not {self._attester}: check its address")
        if (reply.chain_id, reply.contract.lower()) != (self._domain.chain_id, self._domain.contract.lower()):
            raise CapsuleReplyError(
                f"the Capsule at {self._url} says that it serves contract {reply.contract} on chain {reply.chain_id}, "
                f"not {self._domain.contract} on chain {self._domain.chain_id}: check which network file is used"
            )
        self._verify("/v1/info", info_answer(content), signature, address)
        return CapsuleInfo(
            address=address,
            sealing_key=bytes.fromhex(reply.sealing_key[2:]),
            chain_id=reply.chain_id,
            contract=Address(reply.contract),
            key_bits=reply.key_bits,
            version=reply.version,
        )

    def new_key(self) -> KeyGrant:
        """A fresh Paillier public key, bound to this account."""
        reply = self._post("keys", KeyRequest(), KeyReply)
        modulus = bytes.fromhex(reply.n[2:])
        key_id = KeyId(bytes.fromhex(reply.key_id[2:]))
        if bytes(digest_of(modulus)) != key_id:
            raise CapsuleReplyError(
                f"the Capsule at {self._url} gave a key that its fingerprint 0x{key_id.hex()} does not fit"
            )
        return KeyGrant(int.from_bytes(modulus, "big"), key_id)

    def admit(self, *, spec: Artifact, model: Artifact, validation: Artifact) -> SignedAdmission:
        """The Capsule's admission of a start model; the model's key is used up, also by a refusal."""
        body = AdmissionRequest(
            spec=ArtifactBody.of(spec), model=ArtifactBody.of(model), validation=ArtifactBody.of(validation)
        )
        reply = self._post("admissions", body, AdmissionReply, seconds=max(self._timeout, ADMISSION_SECONDS))
        admission, signature = reply.admission()
        return SignedAdmission(admission, signature)

    def admission(self, campaign: CampaignId) -> SignedAdmission:
        """An admission that was given before, for who lost the answer."""
        admission, signature = self._get(f"/v1/admissions/{hexadecimal(campaign)}", AdmissionReply).admission()
        return SignedAdmission(admission, signature)

    def deliver(self, campaign: CampaignId, sealing_key: bytes) -> bytes:
        """The campaign's last weights in a box sealed to `sealing_key` (32 bytes, X25519); for its owner, at its end.

        The box's context is (DELIVERY, chain, contract, owner, campaign in hex, model version).
        """
        body = DeliveryRequest(campaign=hexadecimal(campaign), sealing_key=hexadecimal(sealing_key))
        return self._post("deliveries", body, DeliveryReply).data()

    def attribution(self, campaign: CampaignId, sealing_key: bytes) -> bytes:
        """What each mine's part is of what the campaign changed, in a box sealed to `sealing_key`; for its owner.

        `sonar.protocol.attribution.decode_shares` reads it: the same, however often it is asked for. The box's context
        is (ATTRIBUTION, chain, contract, owner, campaign in hex, model version).
        """
        body = DeliveryRequest(campaign=hexadecimal(campaign), sealing_key=hexadecimal(sealing_key))
        seconds = max(self._timeout, ADMISSION_SECONDS)
        return self._post("attributions", body, DeliveryReply, seconds=seconds).data()

    def parts(self, campaign: CampaignId, first: int, sealing_key: bytes) -> bytes:
        """What mines added to the weights, a page from the `first`th on, in a box; where the spec opens it to her.

        `sonar.protocol.attribution.decode_parts` reads it. The box's context is (PARTS, chain, contract, owner,
        campaign in hex, model version).
        """
        body = PartsRequest(campaign=hexadecimal(campaign), sealing_key=hexadecimal(sealing_key), first=first)
        return self._post("parts", body, DeliveryReply, seconds=max(self._timeout, ADMISSION_SECONDS)).data()

    def weights(self, campaign: CampaignId, terms: Digest, sealing_key: bytes) -> bytes:
        """The present weights of a network in a box sealed to `sealing_key` (32 bytes, X25519); for admitted mines.

        Asking accepts the spec whose digest `terms` is. The box's context is (WEIGHTS, chain, contract, account,
        campaign in hex, model version).
        """
        body = WeightsRequest(
            campaign=hexadecimal(campaign), sealing_key=hexadecimal(sealing_key), terms=hexadecimal(terms)
        )
        return self._post("weights", body, DeliveryReply).data()

    def round(self, campaign: CampaignId, number: int, *, seconds: float | None = None) -> RoundReport:
        """The signed settlement of a round, which anyone may relay to the contract; waits `seconds` for it at most."""
        reply = self._get(f"/v1/campaigns/{hexadecimal(campaign)}/rounds/{number}", RoundReply, seconds=seconds)
        settlement, signature = reply.settlement()
        return RoundReport(
            settlement, signature, reply.reasons(), reply.published(), reply.seed_block, Ppm(reply.sampling_error)
        )

    def audit_head(self) -> AuditHeadReply:
        """How far the Capsule's audit log goes, signed by the client's attester: note it, and compare it later."""
        if self._attester is None:
            raise CapsuleRefusedError("no_attester", "only the Capsule may tell its audit log's head: name its account")
        content, signature = self._send("GET", "/v1/audit/head")
        self._verify("/v1/audit/head", public_answer("audit/head", content), signature, self._attester)
        return self._parse("/v1/audit/head", content, AuditHeadReply)

    def health(self) -> HealthReply:
        """What the Capsule says of its own state; it is not signed."""
        return self._get("/v1/health", HealthReply)

    def _get(self, path: str, kind: type[Reply], *, seconds: float | None = None) -> Reply:
        content, _ = self._send("GET", path, seconds=seconds)
        return self._parse(path, content, kind)

    def _post(self, action: str, body: BaseModel, kind: type[Reply], *, seconds: float | None = None) -> Reply:
        if self._account is None:
            raise CapsuleRefusedError("no_account", f"asking for {action!r} needs an account to sign with: give one")
        if self._attester is None:
            raise CapsuleRefusedError("no_attester", f"only the Capsule may answer {action!r}: name its account")
        content = body.model_dump_json().encode()
        request = request_for(Address(self._account.address), action, content, int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            ACCOUNT_HEADER: request.account,
            NONCE_HEADER: hexadecimal(request.nonce),
            EXPIRY_HEADER: str(request.expiry),
            SIGNATURE_HEADER: hexadecimal(sign_request(self._domain, request, self._account)),
        }
        path = f"/v1/{action}"
        answer, signature = self._send("POST", path, content, headers, seconds=seconds)
        self._verify(path, request.answer(answer), signature, self._attester)
        return self._parse(path, answer, kind)

    def _verify(self, path: str, answer: CapsuleAnswer, signature: str, signer: Address) -> None:
        try:
            verify_answer(self._domain, answer, bytes.fromhex(signature.removeprefix("0x")), signer)
        except (SignatureError, ValueError) as error:
            raise CapsuleReplyError(
                f"the answer of {self._url} to {path} is not signed by {signer} for contract {self._domain.contract} "
                f"on chain {self._domain.chain_id}: somebody else may answer there, check its address"
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        seconds: float | None = None,
    ) -> tuple[bytes, str]:
        """The body of a success, and the signature that came with it (empty for none)."""
        if self._http.is_closed:
            raise CapsuleError(
                f"the connection to the Capsule at {self._url} was closed, as its session was: connect anew"
            )
        wait = self._timeout if seconds is None else seconds
        deadline = time.monotonic() + wait
        try:
            with self._http.stream(method, path, content=content, headers=headers, timeout=wait) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise self._unknown(path)  # not asked for, and a little of it can be a lot
                data = bytearray()
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > deadline:
                        raise CapsuleUnavailableError(
                            f"the Capsule at {self._url} has not answered {path} whole within {wait:g} s: try later"
                        )
                    if len(data) > MAX_REPLY_BYTES:
                        raise CapsuleReplyError(
                            f"the Capsule at {self._url} answers {path} with more than {MAX_REPLY_BYTES} bytes"
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CapsuleUnavailableError(
                f"the Capsule at {self._url} does not answer ({type(error).__name__}): "
                "check its address and that `capsule serve` runs"
            ) from error
        if response.is_success:
            return bytes(data), response.headers.get(SIGNATURE_HEADER, "")
        raise self._failure(path, response.status_code, bytes(data))

    def _parse(self, path: str, content: bytes, kind: type[Reply]) -> Reply:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise self._unknown(path) from error

    def _failure(self, path: str, status: int, content: bytes) -> Exception:
        try:
            reply = ErrorReply.model_validate_json(content)
        except ValidationError:
            if status >= 500:
                return CapsuleUnavailableError(
                    f"the Capsule at {self._url} answers {path} with status {status}: try later"
                )
            return self._unknown(path)
        message = reply.message[:_LONGEST_MESSAGE] or "it gave no reason"
        return CapsuleUnavailableError(message) if status >= 500 else CapsuleRefusedError(reply.code, message)

    def _unknown(self, path: str) -> CapsuleReplyError:
        return CapsuleReplyError(
            f"the answer of {self._url} to {path} is not a Capsule's: check its address and that versions match"
        )
