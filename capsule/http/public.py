"""What everybody may ask: who the Capsule is, how it is, and what it has signed."""

from collections import OrderedDict
from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import Response

from capsule.http.answering import answer, problems, signed_answer, signed_headers
from capsule.http.errors import RETRY_SECONDS, refusal
from capsule.http.places import Places
from capsule.service import CapsuleService
from capsule.standing import AuditHeadReply, HealthReply, LiveReply, ReadyReply
from capsule.wire import AdmissionReply, InfoReply, RoundReply, hexadecimal
from sonar.protocol.messages import info_answer, public_answer
from sonar.units import CampaignId

__all__ = ["add_public_routes"]

CampaignText = Annotated[str, Path(pattern=r"^0x[0-9a-f]{64}$", description="The campaign's id.")]
RoundText = Annotated[str, Path(pattern=r"^[0-9]{1,9}$", description="The round's number.")]
_REMEMBERED = 1024
"""How many admissions are kept written: about a kilobyte each."""
_SIGNED = "The Capsule's EIP-712 signature of the answer: account 0, nonce 0, this action, the body's SHA-256."


def add_public_routes(app: FastAPI, service: CapsuleService, places: Places) -> None:
    """Adds the routes that need no signature."""
    _add_standing(app, service)
    _add_signed_facts(app, service, places)


def _add_standing(app: FastAPI, service: CapsuleService) -> None:
    ready = problems()
    ready[503]["description"] = "`unavailable`: Database, chain, store, keys or judge processes are not ready."

    @app.get("/v1/live", response_model=LiveReply, responses=problems())
    async def live() -> Response:
        """Whether the process answers: for whoever restarts it."""
        return answer(LiveReply(live=True))

    @app.get("/v1/ready", response_model=ReadyReply, responses=ready, name="ready")
    def ready_() -> Response:
        """Whether requests can be served: for whoever sends them here."""
        if service.readiness.ready():
            return answer(ReadyReply(ready=True))
        retry = {"Retry-After": str(RETRY_SECONDS)}
        return refusal("unavailable", "the Capsule is not ready: /v1/health says which part is not", retry)

    @app.get("/v1/health", response_model=HealthReply, responses=problems())
    def health() -> Response:
        """How the Capsule's parts are; 200 also where some are not well."""
        return answer(service.readiness.health())


def _add_signed_facts(app: FastAPI, service: CapsuleService, places: Places) -> None:
    # What never changes is signed and written once, in a thread, and answered by the event loop itself from then on: a
    # request that needs a thread waits for those of the worker.
    facts: dict[str, tuple[bytes, bytes]] = {}
    admitted: OrderedDict[str, bytes] = OrderedDict()

    def signed_info() -> tuple[bytes, bytes]:
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
        return content, service.sign(info_answer(content))

    def admission_reply(campaign: str) -> bytes:
        key = CampaignId(bytes.fromhex(campaign[2:]))
        found = service.admission(key)
        return AdmissionReply.of(key, found.admission, found.signature).model_dump_json().encode()

    def head() -> tuple[bytes, bytes]:
        length, digest, now = service.audit_head()
        content = AuditHeadReply(length=length, hash=hexadecimal(digest), time=now).model_dump_json().encode()
        return content, service.sign(public_answer("audit/head", content))

    info_responses = problems()
    info_responses[200] = {"headers": signed_headers(_SIGNED)}

    @app.get("/v1/info", response_model=InfoReply, responses=info_responses)
    async def info() -> Response:
        """Who this Capsule is, signed by the account that it names."""
        if "info" not in facts:
            facts["info"] = await places.run(signed_info)
        return signed_answer(*facts["info"])

    @app.get("/v1/audit/head", response_model=AuditHeadReply, responses=info_responses)
    async def audit_head() -> Response:
        """The audit log's length and last hash, signed: noted now, it proves later that nothing was taken back."""
        return signed_answer(*await places.run(head))

    @app.get(
        "/v1/admissions/{campaign}",
        response_model=AdmissionReply,
        responses=problems("bad_request", "unknown_campaign"),
    )
    async def admission(campaign: CampaignText) -> Response:
        """A signed admission, for who lost the answer and for auditors."""
        found = admitted.get(campaign)
        if found is None:  # one that is unknown raises, and is not remembered
            found = admitted[campaign] = await places.run(admission_reply, campaign)
            if len(admitted) > _REMEMBERED:
                admitted.popitem(last=False)
        return Response(found, media_type="application/json")

    @app.get(
        "/v1/campaigns/{campaign}/rounds/{number}",
        response_model=RoundReply,
        responses=problems("bad_request", "unknown_round"),
    )
    async def judged_round(campaign: CampaignText, number: RoundText) -> Response:
        """A signed settlement, which anyone may relay, and why each gradient was judged as it was."""
        key = CampaignId(bytes.fromhex(campaign[2:]))
        report = await places.run(service.round, key, int(number))
        return answer(
            RoundReply.of(
                report.settlement, report.signature, report.reasons, report.published,
                seed_block=report.seed_block, sampling_error=report.sampling_error,
            )
        )  # fmt: skip
