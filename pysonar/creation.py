"""How a campaign comes to be: describe, encrypt, seal, have it admitted, check the admission, escrow the bounty.

Everything that can be refused without the Capsule is refused before it is asked, because a key admits only once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from capsule.client import CapsuleClient, KeyGrant, SignedAdmission
from pysonar._inputs import warn_of_cold_start, warn_of_few
from pysonar._terms import deadline_at, parts_per_million, wei
from pysonar.errors import AdmissionMismatchError, TermsError, ValidationSetError
from pysonar.estimating.gas import Gas
from pysonar.estimating.speed import training_seconds
from pysonar.models.base import Floats, Labels, Model
from sonar import syft
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.errors import UnfundedAccountError
from sonar.chain.records import NATIVE, Admission, Terms
from sonar.chain.token import require_balance
from sonar.protocol.errors import ProtocolError
from sonar.protocol.messages import Domain, hash_admission, verify_admission
from sonar.protocol.payloads import check_judge_work, check_validation_size, encode_validation
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Attribution, Encoding, Feature, ImageSize, Rounds, Spec, Training
from sonar.storage.base import Artifact, ContentStore
from sonar.units import PPM, Address, CampaignId, KeyId, Ppm, Wei, format_ether, format_ppm, round_ether

__all__ = ["Plan", "Published", "admit", "check_worth", "escrow_call", "make_plan", "publish"]

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign that was checked as far as this side can: what will be published and escrowed."""

    model: Model
    features: Floats
    labels: Labels
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
    model: Model,
    validation: Any,
    *,
    bounty: Any,
    token: Address,
    target: Any,
    deadline: Any,
    now: int,
    name: str | None = None,
    description: str = "",
    purpose: str = "",
    licence: str = "",
    target_column: str = "target",
    columns: Mapping[str, Options] | None = None,
    image: ImageSize | Options | None = None,
    min_records: int | None = None,
    training: Training | Options | None = None,
    rounds: Rounds | Options | None = None,
    encoding: Encoding | Options | None = None,
    payout: Options | None = None,
    attribution: Attribution = "validation",
) -> Plan:
    """Checks what the data scientist asked for and writes its spec and terms; raises CampaignError or SpecError."""
    if not isinstance(model, Model):
        kind = model.__name__ if isinstance(model, type) else f"a {type(model).__name__}"
        raise TermsError(
            f"{kind} cannot be trained encrypted: describe it as one of pysonar's models, such as "
            "pysonar.LinearClassifier(features, classes) (from_fitted starts from a fitted one of scikit-learn)"
        )
    columns, payout = _by_name(columns, "columns"), _by_name(payout, "payout")
    if not isinstance(training, Training):
        training = _by_name(training, "training")
    features, labels = model.check_validation(validation)
    at = deadline_at(deadline, now)
    escrow = wei(bounty, "bounty")
    if escrow == 0:
        raise TermsError("the bounty is zero, for which no mine works: write pysonar.ether(1) for 1 ether")
    outputs = model.spec_outputs()
    if "targets" in outputs and target_column != "target":
        raise TermsError(
            f"the target column {target_column!r} is of classifiers: a regression's model names what it predicts, "
            f"targets=[{target_column!r}]"
        )
    if "target" in payout:
        raise TermsError("the target is an argument of its own: take it out of payout")
    spec = Spec.build(
        name=model.name if name is None else name,
        description=description,
        purpose=purpose,
        licence=licence,
        metric=model.metric,
        target_column=target_column,
        features=_described(model.spec_features(), columns),
        image=image,
        feature_map=model.feature_map,
        min_records=model.least_records if min_records is None else min_records,
        training=training if isinstance(training, Training) else {**model.training, **training},
        rounds=rounds if isinstance(rounds, Rounds) else {**model.rounds, **_by_name(rounds, "rounds")},
        encoding=model.encoding() if encoding is None else encoding,
        payout={"target": parts_per_million(target, "target"), **payout},
        attribution=attribution,
        **outputs,
    )
    model.check_weights(spec.encoding)
    try:
        widest = max(len(spec.features), spec.mapping.outputs)
        check_validation_size(len(labels), widest, spec.outputs, spec.metric, spec.rounds.round_size)
        check_judge_work(spec, len(labels))
    except ProtocolError as error:
        raise ValidationSetError(str(error)) from error
    counts = np.bincount(labels.astype(np.int64)) if spec.classes else np.array([len(labels)])
    warn_of_few(counts, spec.metric, spec.payout.target / PPM, spec.rounds.noise)
    start = model.start_score(features, labels)
    if start >= spec.payout.target / PPM:
        raise TermsError(
            f"the start model scores {start:.2%} already, at or above the target {format_ppm(spec.payout.target)}: aim "
            "higher"
        )
    if spec.rounds.min_gain > PPM * (1 - start):
        raise TermsError(
            f"the start model scores {start:.2%}, from where no round can raise it by min_gain "
            f"{format_ppm(Ppm(spec.rounds.min_gain))}: ask for less"
        )
    if not model.weights.any():
        warn_of_cold_start(start)
    return Plan(model, features, labels, spec, spec.terms(bounty=escrow, deadline=at, token=token))


def _by_name(given: Any, what: str) -> Options:
    """Options by name, none unless given; raises TermsError for anything else."""
    if given is not None and not isinstance(given, Mapping):
        raise TermsError(f"{what} {given!r:.100} is not what it must be: write {what}={{...}}, a value for each name")
    return given or {}


def _described(features: tuple[Feature, ...], columns: Mapping[str, Options]) -> tuple[Options, ...]:
    """The features with what is promised of their columns."""
    names = {feature.name for feature in features}
    for name in columns:
        told = _by_name(columns[name], f"columns[{name!r}]")
        if name not in names:
            raise TermsError(f"columns tells of {name!r}, which is no feature of the model: leave it out")
        if given := {"name", "offset", "scale"} & told.keys():
            raise TermsError(f"the {min(given)} of feature {name!r} is the model's: take it out of columns")
    return tuple({**feature.model_dump(), **_floats(columns.get(feature.name) or {})} for feature in features)


def _floats(told: Options) -> Options:
    """Whole numbers will do for a range."""
    return {name: float(value) if type(value) is int else value for name, value in told.items()}


def check_worth(plan: Plan, gas_price: Wei, key_bits: int, now: int) -> None:
    """Raises TermsError for a bounty below the gas of those who must earn it, and a deadline before they can.

    Of a bounty in a token nobody here knows the price. Time is that of one training on a machine like this one, at the
    very least.
    """
    terms, gas = plan.terms, Gas.of(plan.terms.token)
    needed = terms.min_mines * (gas.submit_first + gas.withdraw) * gas_price
    if terms.token == NATIVE and terms.bounty < needed:
        raise TermsError(
            f"the bounty of {round_ether(terms.bounty)} ether is less than the {round_ether(Wei(needed))} ether of gas "
            f"that the {terms.min_mines} mines of a single round pay to post and to be paid: offer more, or wait until "
            "gas is cheaper"
        )
    least = training_seconds(plan.spec, key_bits)
    if terms.deadline - now < least:
        raise TermsError(
            f"the deadline is in {terms.deadline - now} s, but on a machine like this one a mine trains this model for "
            f"{least:.0f} s: give the mines more time, or a smaller model"
        )


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
    encrypted = syft.encrypt(
        plan.model.encoded(plan.spec),
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


def _show(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
