"""Decoders of what a Capsule answers: its client, from the bytes of an HTTP body to values."""

from collections.abc import Callable, Iterator

import httpx

from capsule.client import CapsuleClient
from capsule.errors import CapsuleError
from capsule.standing import AuditHeadReply, CampaignCounts, ChainHealth, HealthReply, PartHealth, WorkerHealth
from capsule.wire import SIGNATURE_HEADER, AdmissionReply, ErrorReply, InfoReply, RoundReply, hexadecimal
from hostile.messages import ADMISSION, DOMAIN, MEMBERS
from hostile.mutations import json_text
from hostile.target import Target
from sonar.chain.records import Outcome, Settlement, Verdict
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import (
    hash_admission,
    public_answer,
    sign_admission,
    sign_answer,
    sign_settlement,
    verify_admission,
    verify_settlement,
)
from sonar.storage.base import Artifact
from sonar.storage.cids import raw_cid
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, digest_of

__all__ = ["targets"]

_ATTESTER = MEMBERS[0]
_CAMPAIGN = CampaignId(bytes(range(32)))
_ZERO = bytes(32)
_SETTLEMENT = Settlement(
    campaign=_CAMPAIGN,
    round=2,
    head=_ZERO,
    score=Ppm(1),
    exponent=10,
    model=Digest(_ZERO),
    key=KeyId(_ZERO),
    product=Digest(_ZERO),
    model_cid=Cid(""),
    product_cid=Cid(""),
    outcomes=(Outcome(Verdict.LEFT_OUT, 0, Ppm(0)), Outcome(Verdict.COPY, 0, Ppm(0))),
)


def targets() -> Iterator[Target]:
    """Answers to every question that is asked without a signature; signed ones are the Capsule's own words."""
    info = InfoReply(
        address=_ATTESTER.address, sealing_key=hexadecimal(_ZERO), chain_id=1337, contract=DOMAIN.contract,
        key_bits=3072, version="1.0",
    )  # fmt: skip
    yield _target("info", 200, info.model_dump_json().encode(), CapsuleClient.info, signs="info")
    signature = sign_admission(DOMAIN, ADMISSION, _ATTESTER)
    admission = AdmissionReply.of(hash_admission(DOMAIN, ADMISSION), ADMISSION, signature)
    yield _target("admission", 200, admission.model_dump_json().encode(), _verified_admission)
    artifact = Artifact(raw_cid(b"kept"), digest_of(b"kept"))
    report = RoundReply.of(
        _SETTLEMENT,
        sign_settlement(DOMAIN, _SETTLEMENT, _ATTESTER),
        ("kept", "copy"),
        (artifact, None),
        seed_block=7,
        sampling_error=Ppm(0),
    )
    yield _target("round", 200, report.model_dump_json().encode(), _verified_round)
    head = AuditHeadReply(length=3, hash=hexadecimal(_ZERO), time=2**31)
    yield _target("audit-head", 200, head.model_dump_json().encode(), CapsuleClient.audit_head, signs="audit/head")
    part = PartHealth(ok=True)
    health = HealthReply(
        status="ok", database=part, chain=ChainHealth(ok=True, block=5), store=part, keys=part,
        judges=part,
        worker=WorkerHealth(ok=True, problems=("chain",)),
        campaigns=CampaignCounts(admissions=1, running=1, unsettled=0),
    )  # fmt: skip
    yield _target("health", 200, health.model_dump_json().encode(), CapsuleClient.health)
    refusal = ErrorReply(code="unknown_campaign", message="no").model_dump_json().encode()
    yield _target("refusal", 403, refusal, lambda client: client.admission(_CAMPAIGN))


def _verified_admission(client: CapsuleClient) -> object:
    """As pysonar and the mine go on: the admission's own signature decides."""
    signed = client.admission(_CAMPAIGN)
    verify_admission(DOMAIN, signed.admission, signed.signature)
    return signed


def _verified_round(client: CapsuleClient) -> object:
    report = client.round(_CAMPAIGN, 2)
    verify_settlement(DOMAIN, report.settlement, report.signature, Address(_ATTESTER.address))
    return report


def _target(name: str, status: int, seed: bytes, ask: Callable[[CapsuleClient], object], *, signs: str = "") -> Target:
    attester = Address(_ATTESTER.address)

    def decode(data: bytes) -> object:
        # What the Capsule itself signed, as far as the client can tell: else all ends at the signature.
        headers = (
            {SIGNATURE_HEADER: hexadecimal(sign_answer(DOMAIN, public_answer(signs, data), _ATTESTER))} if signs else {}
        )
        answer = httpx.MockTransport(lambda _: httpx.Response(status, content=data, headers=headers))
        with CapsuleClient("http://capsule", DOMAIN, attester=attester, transport=answer) as client:
            return ask(client)

    errors = (CapsuleError, SignatureError)
    return Target(f"capsule-{name}", decode, errors, (seed,), (json_text,), weight=0.2, samples=status != 200)
