"""What the Capsule and its clients say over HTTP, as strict JSON: binary as 0x hex, artifacts as CID and digest."""

from typing import Annotated, Literal, Self

from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sonar.chain.records import Admission, Outcome, Settlement, Verdict
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

__all__ = [
    "ACCOUNT_HEADER", "EXPIRY_HEADER", "MAX_REQUEST_BYTES", "NONCE_HEADER", "REQUEST_HEADER", "SIGNATURE_HEADER",
    "AdmissionReply", "AdmissionRequest", "ArtifactBody", "DeliveryReply", "DeliveryRequest",
    "ErrorReply", "Hex32", "InfoReply", "KeyReply", "KeyRequest", "PartsRequest", "RoundReply", "Strict",
    "WeightsRequest", "hexadecimal",
]  # fmt: skip

ACCOUNT_HEADER = "Sonar-Account"
NONCE_HEADER = "Sonar-Nonce"
EXPIRY_HEADER = "Sonar-Expiry"
SIGNATURE_HEADER = "Sonar-Signature"
REQUEST_HEADER = "Sonar-Request"
MAX_REQUEST_BYTES = 64 << 10


def _checksummed(text: str) -> str:
    if not is_checksum_address(text):
        raise ValueError("not a checksummed (EIP-55) address")
    return text


Hex32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
HexBytes = Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})*$")]
Signature = Annotated[str, Field(pattern=r"^0x[0-9a-f]{130}$")]
AddressText = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_checksummed)]
CidText = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,100}$")]
PpmNumber = Annotated[int, Field(ge=0, le=1_000_000)]


def hexadecimal(data: bytes) -> str:
    """Bytes as they are written in this API."""
    return "0x" + data.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


class Strict(BaseModel):
    """A value of this API: nothing is converted, and nothing unknown is taken."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ArtifactBody(Strict):
    """An artifact: where it is and what it must hash to."""

    cid: CidText
    digest: Hex32

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The body of an artifact."""
        return cls(cid=artifact.cid, digest=hexadecimal(artifact.digest))

    def artifact(self) -> Artifact:
        """The artifact that this body names."""
        return Artifact(Cid(self.cid), Digest(_bytes(self.digest)))


class ErrorReply(Strict):
    """Why a request failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


class InfoReply(Strict):
    """Who this Capsule is and what it works for."""

    address: AddressText
    sealing_key: Hex32
    chain_id: Annotated[int, Field(ge=1)]
    contract: AddressText
    key_bits: Annotated[int, Field(ge=1)]
    version: str


class KeyRequest(Strict):
    """Asks for a fresh Paillier public key."""


class KeyReply(Strict):
    """A Paillier modulus and its fingerprint."""

    n: HexBytes
    key_id: Hex32


class AdmissionRequest(Strict):
    """Asks for the admission of a start model."""

    spec: ArtifactBody
    model: ArtifactBody
    validation: ArtifactBody


class AdmissionReply(Strict):
    """A signed admission, with the contract's field names in snake case."""

    campaign: Hex32
    spec: Hex32
    model: Hex32
    key: Hex32
    sealing_key: Hex32
    start_score: PpmNumber
    oracle: AddressText
    owner: AddressText
    valid_until: Annotated[int, Field(ge=0, lt=1 << 40)]
    signature: Signature

    @classmethod
    def of(cls, campaign: CampaignId, admission: Admission, signature: bytes) -> Self:
        """The reply for a signed admission."""
        return cls(
            campaign=hexadecimal(campaign),
            spec=hexadecimal(admission.spec),
            model=hexadecimal(admission.model),
            key=hexadecimal(admission.key),
            sealing_key=hexadecimal(admission.sealing_key),
            start_score=admission.start_score,
            oracle=admission.oracle,
            owner=admission.owner,
            valid_until=admission.valid_until,
            signature=hexadecimal(signature),
        )

    def admission(self) -> tuple[Admission, bytes]:
        """The admission and its signature."""
        admission = Admission(
            spec=Digest(_bytes(self.spec)),
            model=Digest(_bytes(self.model)),
            key=KeyId(_bytes(self.key)),
            sealing_key=_bytes(self.sealing_key),
            start_score=Ppm(self.start_score),
            oracle=Address(self.oracle),
            owner=Address(self.owner),
            valid_until=self.valid_until,
        )
        return admission, _bytes(self.signature)


class DeliveryRequest(Strict):
    """Asks for a finished campaign's weights, sealed to the caller's X25519 key."""

    campaign: Hex32
    sealing_key: Hex32

    def campaign_id(self) -> CampaignId:
        """The campaign that is asked for."""
        return CampaignId(_bytes(self.campaign))

    def sealing_key_bytes(self) -> bytes:
        """The X25519 public key to which the answer is sealed."""
        return _bytes(self.sealing_key)


class WeightsRequest(DeliveryRequest):
    """Asks for the present weights of a network, sealed to the caller's X25519 key.

    `terms` is the digest of the campaign's spec: whoever signs this request accepts what the spec says.
    """

    terms: Hex32

    def terms_digest(self) -> Digest:
        """The spec that the caller accepts."""
        return Digest(_bytes(self.terms))


class PartsRequest(DeliveryRequest):
    """Asks what mines added to a finished campaign's weights: a page of parts, from the `first`th mine on."""

    first: Annotated[int, Field(ge=0, lt=1 << 32)]


class DeliveryReply(Strict):
    """What is sealed to the caller: weights, or mines' shares or parts in them."""

    box: HexBytes

    @classmethod
    def content(cls, box: bytes) -> bytes:
        """A reply's JSON; of a million weights pydantic would take a fifth of a second, in which nobody is answered."""
        return b'{"box":"' + hexadecimal(box).encode() + b'"}'

    def data(self) -> bytes:
        """The sealed box."""
        return _bytes(self.box)


class OutcomeBody(Strict):
    """One gradient's outcome, why, and where it was published if it was kept and the round is final."""

    verdict: Literal["left_out", "kept", "unavailable", "invalid", "copy"]
    weight: Annotated[int, Field(ge=0, lt=1 << 32)]
    share: PpmNumber
    reason: str
    published: ArtifactBody | None


class RoundReply(Strict):
    """A signed settlement with the judge's reasons.

    The orders of a round of many gradients are drawn from SHA-256(head || hash of block `seed_block`), the one that has
    the round's last gradient. `sampling_error` is the standard error of the values that the shares were split by.
    """

    campaign: Hex32
    round: Annotated[int, Field(ge=0, lt=1 << 32)]
    head: Hex32
    score: PpmNumber
    exponent: Annotated[int, Field(ge=0, lt=1 << 8)]
    model: Hex32
    key: Hex32
    product: Hex32
    model_cid: str
    product_cid: str
    outcomes: tuple[OutcomeBody, ...]
    seed_block: Annotated[int, Field(ge=0, lt=1 << 63)]
    sampling_error: PpmNumber
    signature: Signature

    @classmethod
    def of(
        cls,
        settlement: Settlement,
        signature: bytes,
        reasons: tuple[str, ...],
        published: tuple[Artifact | None, ...],
        *,
        seed_block: int,
        sampling_error: Ppm,
    ) -> Self:
        """The reply for a signed settlement."""
        return cls(
            campaign=hexadecimal(settlement.campaign),
            round=settlement.round,
            head=hexadecimal(settlement.head),
            score=settlement.score,
            exponent=settlement.exponent,
            model=hexadecimal(settlement.model),
            key=hexadecimal(settlement.key),
            product=hexadecimal(settlement.product),
            model_cid=settlement.model_cid,
            product_cid=settlement.product_cid,
            outcomes=tuple(
                OutcomeBody.model_validate({
                    "verdict": outcome.verdict.name.lower(),
                    "weight": outcome.weight,
                    "share": outcome.share,
                    "reason": reason,
                    "published": None if artifact is None else ArtifactBody.of(artifact),
                })
                for outcome, reason, artifact in zip(settlement.outcomes, reasons, published, strict=True)
            ),
            seed_block=seed_block,
            sampling_error=sampling_error,
            signature=hexadecimal(signature),
        )  # fmt: skip

    def settlement(self) -> tuple[Settlement, bytes]:
        """The settlement and its signature."""
        settlement = Settlement(
            campaign=CampaignId(_bytes(self.campaign)),
            round=self.round,
            head=_bytes(self.head),
            score=Ppm(self.score),
            exponent=self.exponent,
            model=Digest(_bytes(self.model)),
            key=KeyId(_bytes(self.key)),
            product=Digest(_bytes(self.product)),
            model_cid=Cid(self.model_cid),
            product_cid=Cid(self.product_cid),
            outcomes=tuple(Outcome(Verdict[o.verdict.upper()], o.weight, Ppm(o.share)) for o in self.outcomes),
        )
        return settlement, _bytes(self.signature)

    def reasons(self) -> tuple[str, ...]:
        """The judge's sentence on each gradient."""
        return tuple(outcome.reason for outcome in self.outcomes)

    def published(self) -> tuple[Artifact | None, ...]:
        """Where the kept gradients are, once the round is final."""
        return tuple(None if o.published is None else o.published.artifact() for o in self.outcomes)
