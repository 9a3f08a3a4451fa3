"""How a campaign comes to be: describe, encrypt, seal, have it admitted, check the admission, escrow the bounty.

Everything that can be refused without the Capsule is refused before it is asked, because a key admits only once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsule.client import CapsuleClient, KeyGrant, SignedAdmission
from pysonar._inputs import deadline_at, parts_per_million, warn_of_few, wei
from pysonar.errors import AdmissionMismatchError, TermsError, ValidationSetError
from pysonar.models import Floats, Ints, LinearClassifier
from sonar import syft
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.errors import UnfundedAccountError
from sonar.chain.records import NATIVE, Admission, Terms
from sonar.chain.token import require_balance
from sonar.protocol.errors import ProtocolError
from sonar.protocol.messages import Domain, hash_admission, verify_admission
from sonar.protocol.payloads import check_validation_size, encode_validation
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Encoding, Feature, ImageSize, Rounds, Spec, Training
from sonar.storage.base import Artifact, ContentStore
from sonar.units import PPM, Address, CampaignId, KeyId, format_ether, format_ppm

__all__ = ["Plan", "Published", "admit", "escrow_call", "make_plan", "publish"]

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign that was checked as far as this side can: what will be published and escrowed."""

    model: LinearClassifier
    features: Floats
    labels: Ints
    spec: Spec
    terms: Terms


@dataclass(frozen=True, slots=True)
class Published:
    """The stored artifacts of a campaign to be, the key of its start model and the key its boxes are sealed to."""

    spec: Artifact
    model: Artifact
    validation: Artifact
    key: KeyId
    sealing_key: bytes


def make_plan(
    model: LinearClassifier,
    validation: Any,
    *,
    bounty: Any,
    token: Address,
    target: Any,
    deadline: Any,
    now: int,
    name: str | None,
    description: str,
    purpose: str,
    licence: str,
    target_column: str,
    columns: Mapping[str, Options],
    image: ImageSize | Options | None,
    min_records: int,
    training: Training | Options | None,
    rounds: Rounds | Options | None,
    encoding: Encoding | Options | None,
    payout: Options | None,
) -> Plan:
    """Checks what the data scientist asked for and writes its spec and terms; raises CampaignError or SpecError."""
    features, labels = model.check_validation(validation)
    at = deadline_at(deadline, now)
    escrow = wei(bounty, "bounty")
    if escrow == 0:
        raise TermsError("the bounty is zero, for which no mine works: write pysonar.ether(1) for 1 ether")
    if {"target"} & (payout or {}).keys():
        raise TermsError("the target is an argument of its own: take it out of payout")
    spec = Spec.build(
        name=_name(model) if name is None else name,
        description=description,
        purpose=purpose,
        licence=licence,
        metric=model.metric,
        target_column=target_column,
        features=_described(model.spec_features(), columns),
        image=image,
        feature_map=model.feature_map,
        classes=model.classes,
        min_records=min_records,
        training=Training() if training is None else training,
        rounds=Rounds() if rounds is None else rounds,
        encoding=Encoding.for_rows(model.shape[0]) if encoding is None else encoding,
        payout={"target": parts_per_million(target, "target"), **(payout or {})},
    )
    model.check_weights(spec.encoding)
    try:
        widest = max(len(spec.features), spec.mapping.outputs)
        check_validation_size(len(labels), widest, spec.shape[1], spec.metric, spec.rounds.round_size)
    except ProtocolError as error:
        raise ValidationSetError(str(error)) from error
    warn_of_few(labels, len(spec.classes), spec.metric, spec.payout.target / PPM, spec.rounds.noise)
    return Plan(model, features, labels, spec, spec.terms(bounty=escrow, deadline=at, token=token))


def _described(features: tuple[Feature, ...], columns: Mapping[str, Options]) -> tuple[Options, ...]:
    """The features with what is promised of their columns."""
    names = {feature.name for feature in features}
    for name, told in columns.items():
        if name not in names:
            raise TermsError(f"columns tells of {name!r}, which is no feature of the model: leave it out")
        if given := {"name", "offset", "scale"} & told.keys():
            raise TermsError(f"the {min(given)} of feature {name!r} is the model's: take it out of columns")
    return tuple({**feature.model_dump(), **_floats(columns.get(feature.name, {}))} for feature in features)


def _floats(told: Options) -> Options:
    """Whole numbers will do for a range."""
    return {name: float(value) if type(value) is int else value for name, value in told.items()}


def check_funds(plan: Plan, client: SonarClient, owner: Address) -> None:
    """Raises UnfundedAccountError when the owner cannot pay the bounty; gas is checked when the escrow is signed."""
    if plan.terms.token != NATIVE:
        require_balance(client, plan.terms.token, owner, plan.terms.bounty)
        return
    held = client.balance(owner)
    if held < plan.terms.bounty:
        raise UnfundedAccountError(
            f"account {owner} holds {format_ether(held)} ether, but the bounty is {format_ether(plan.terms.bounty)}: "
            "fund it, or offer less"
        )


def publish(
    plan: Plan,
    grant: KeyGrant,
    sealing_key: bytes,
    store: ContentStore,
    *,
    domain: Domain,
    owner: Address,
    allow_insecure_small_key: bool = False,
) -> Published:
    """Encrypts the start model, seals the validation set, and stores them with the spec.

    Raises SyftError for a key that is no good, StorageError.
    """
    encoding = plan.spec.encoding
    key = syft.PublicKey(grant.n, allow_insecure_small_key=allow_insecure_small_key)
    if key.key_id != grant.key_id:
        raise AdmissionMismatchError(
            f"the Capsule's key has the fingerprint 0x{key.key_id.hex()}, but the Capsule says 0x{grant.key_id.hex()}: "
            "do not use it"
        )
    weights = syft.encode(plan.model.weights, encoding.weight_bits, encoding.weight_bound)
    encrypted = syft.encrypt(
        weights,
        key,
        syft.Obfuscator(key),
        slot_width=encoding.slot_width,
        scale=encoding.weight_bits,
        bound=encoding.weight_bound,
        stride=encoding.stride(key, plan.spec.shape[1]),
    )
    context = BoxContext(Purpose.VALIDATION, domain.chain_id, domain.contract, owner, key.key_id.hex())
    return Published(
        spec=store.put(plan.spec.to_bytes()),
        model=store.put(syft.dump_model(encrypted)),
        validation=store.put(seal(encode_validation(plan.features, plan.labels), context, sealing_key)),
        key=key.key_id,
        sealing_key=sealing_key,
    )


def admit(
    published: Published,
    plan: Plan,
    capsule: CapsuleClient,
    *,
    domain: Domain,
    oracle: Address,
    owner: Address,
    now: int,
) -> tuple[CampaignId, SignedAdmission]:
    """Asks for the admission and believes nothing of it that was not sent.

    Raises CapsuleError when it is refused, AdmissionMismatchError or SignatureError when it is another's.
    """
    signed = capsule.admit(spec=published.spec, model=published.model, validation=published.validation)
    admission = signed.admission
    sent = Admission(
        spec=published.spec.digest,
        model=published.model.digest,
        key=published.key,
        sealing_key=published.sealing_key,
        start_score=admission.start_score,
        oracle=oracle,
        owner=owner,
        valid_until=admission.valid_until,
    )
    for field in Admission.__dataclass_fields__:
        asked, got = getattr(sent, field), getattr(admission, field)
        if asked != got:
            raise AdmissionMismatchError(f"the Capsule admitted {field} {_show(got)}, but {_show(asked)} was sent")
    verify_admission(domain, admission, signed.signature)
    if admission.valid_until <= now:
        raise AdmissionMismatchError(
            f"the admission is valid until {admission.valid_until}, but it is {now}: try again"
        )
    if admission.start_score >= plan.terms.target:
        raise TermsError(
            f"the start model scores {format_ppm(admission.start_score)} already, at or above the target "
            f"{format_ppm(plan.terms.target)}: aim higher"
        )
    return hash_admission(domain, admission), signed


def escrow_call(plan: Plan, published: Published, signed: SignedAdmission) -> calls.Call:
    """The transaction that creates the campaign and escrows its bounty."""
    return calls.create_campaign(
        plan.terms, signed.admission, signed.signature, published.spec.cid, published.model.cid
    )


def _name(model: LinearClassifier) -> str:
    kind = {"identity": "Linear", "fourier": "Fourier", "polynomial": "Polynomial"}[model.feature_map.kind]
    return f"{kind} classifier of {len(model.features)} features, {len(model.classes)} classes"


def _show(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
