"""What this Capsule accepts: limits of its own, and the checks that a start model must pass."""

from dataclasses import dataclass

from capsule.errors import CapsuleRefusedError
from sonar.chain.records import CampaignRecord
from sonar.protocol.errors import SpecError
from sonar.protocol.spec import Spec
from sonar.syft import EncryptedTensor, PublicKey, gradient_size_limit
from sonar.units import Address, Ppm, Wei, format_ppm

__all__ = [
    "LEAST_JUDGE_MEMORY", "MAX_ROUND_BYTES", "Policy", "check_campaign", "check_model", "check_round", "check_target",
]  # fmt: skip

MAX_ROUND_BYTES = 768 << 20
"""The most bytes of a full round's gradients: 64 of the largest model's, in slots of 80 bits, take 672 MiB."""
LEAST_JUDGE_MEMORY = 3584 << 20
"""Address space that is enough to judge every round whose campaign is admitted.

Measured: 0.25 GiB, and then to judge 64 bytes for each weight of each gradient, 32 for each value of the validation
set's records and 32 for each score that a gradient gives a record (2.9 GiB where both are largest), or to make the next
model 4.2 times the bytes of the round's gradients (3.4 GiB).
"""
_HIGHEST_FEE = Wei(500 * 10**9)


@dataclass(frozen=True, slots=True)
class Policy:
    """The Capsule's own limits; durations in seconds, memory in bytes. `capsule.config` makes one of the settings.

    `admission_seconds` is how long an admission can be used. Keys cost seconds of work each and each admits a model,
    which tells its score: so one account gets at most `keys_per_hour`, and only if it holds some native coin
    (`require_funds`), which its campaign needs anyway. `spare_keys` are kept ready. An account of which
    `failed_admissions_per_hour` were refused must wait: a model that cannot be read is work, and leaves its key unused.

    A gradient that cannot be fetched for `fetch_seconds` after its round's closing is unavailable, or for five times as
    long where none of its round can.

    An event counts once it is `confirmations` blocks deep; None leaves that to the chain's kind. A transaction that is
    not mined within `replace_seconds`, and offers too little by then, is sent again with higher fees, up to
    `highest_fee` (wei for a unit of gas). So many `campaigns_at_once` are served side by side.

    Artifacts are opened and judged in `judge_processes` (0: one a core) of `judge_memory` bytes each at most; a job
    that takes longer than `judge_seconds` is ended.

    Round keys, validation sets and weights are deleted `retention_seconds` after the delivery, and
    `abandoned_seconds` after the end of a campaign whose model nobody fetched.
    """

    admission_seconds: int = 3600
    keys_per_hour: int = 16
    failed_admissions_per_hour: int = 20
    require_funds: bool = True
    spare_keys: int = 4
    fetch_seconds: float = 60
    confirmations: int | None = None
    replace_seconds: float = 90
    highest_fee: Wei = _HIGHEST_FEE
    campaigns_at_once: int = 4
    judge_processes: int = 0
    judge_memory: int = 4 << 30
    judge_seconds: float = 600
    retention_seconds: float = 30 * 86_400
    abandoned_seconds: float = 365 * 86_400


def check_model(spec: Spec, model: EncryptedTensor) -> None:
    """Raises CapsuleRefusedError unless the model's public header is the one that the spec asks for."""
    encoding = spec.encoding
    wanted = {
        "shape": (model.shape, spec.shape),
        "slot_width": (model.slot_width, encoding.slot_width),
        "stride": (model.stride, encoding.stride(model.key, spec.shape[1])),
        "scale": (model.scale, encoding.weight_bits),
        "bound": (model.bound, encoding.weight_bound),
    }
    for name, (has, needs) in wanted.items():
        if has != needs:
            raise CapsuleRefusedError(
                "model_mismatch", f"the model has {name} {has}, but the spec needs {needs}: encrypt it for this spec"
            )


def check_round(spec: Spec, key: PublicKey) -> None:
    """Raises CapsuleRefusedError where a full round of gradients is more than a judge process takes at once."""
    one = gradient_size_limit(spec.shape[0], spec.encoding.gradient_layout(key, spec.shape[1]))
    if one * spec.rounds.round_size > MAX_ROUND_BYTES:
        raise CapsuleRefusedError(
            "bad_spec",
            f"a round of {spec.rounds.round_size} gradients of {one} bytes is above the limit of {MAX_ROUND_BYTES}: "
            f"choose a round_size of at most {MAX_ROUND_BYTES // one}, or narrower slots",
        )


def check_target(spec: Spec, start: Ppm) -> None:
    """Raises CapsuleRefusedError unless the campaign aims above where it starts."""
    if spec.payout.target <= start:
        raise CapsuleRefusedError(
            "target_reached",
            f"the start model scores {format_ppm(start)} already, and the target is {format_ppm(spec.payout.target)}: "
            "aim higher",
        )


def check_campaign(spec: Spec, record: CampaignRecord, attester: Address) -> None:
    """Raises SpecError unless the campaign on chain is the one that was admitted."""
    if record.oracle != attester:
        raise SpecError(f"the campaign's oracle is {record.oracle}, not this Capsule {attester}")
    spec.check_terms(record.terms)
