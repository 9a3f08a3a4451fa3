"""What this Capsule accepts: limits of its own, and the checks that a start model must pass."""

from dataclasses import dataclass

from capsule.errors import CapsuleRefusedError
from sonar.chain.records import CampaignRecord
from sonar.protocol.errors import SpecError
from sonar.protocol.spec import Spec
from sonar.syft import EncryptedTensor
from sonar.units import Address, Ppm, Wei, format_ppm

__all__ = ["Policy", "check_campaign", "check_model", "check_target"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The Capsule's own limits; durations in seconds.

    `admission_seconds` is how long an admission can be used. Keys cost seconds of work each, so one account gets at
    most `keys_per_hour`, and only if it holds some native coin (`require_funds`), which its campaign needs anyway.
    A gradient that cannot be fetched for `fetch_seconds` after its round's closing is unavailable.

    `confirmations` is how many blocks must follow one before it is believed (None: what suits the chain). A transaction
    that is in no block after `replace_seconds` is sent again at a higher fee, never above `highest_fee` wei per gas.
    So many `campaigns_at_once` are served side by side.
    """

    admission_seconds: int = 3600
    keys_per_hour: int = 16
    require_funds: bool = True
    fetch_seconds: float = 60
    spare_keys: int = 4
    confirmations: int | None = None
    highest_fee: Wei = Wei(500 * 10**9)
    replace_seconds: float = 90
    campaigns_at_once: int = 4


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
