"""From an encrypted model and what was gathered from a data set to an encrypted gradient; no weight is ever seen."""

from dataclasses import dataclass

from mine.errors import PolicyError
from sonar.protocol.spec import Spec
from sonar.syft import EncryptedTensor, Obfuscator, Progress, apply_map
from sonar.syft.schedule import Gathered
from sonar.syft.wire import dump_gradient, load_model, model_size_limit
from sonar.units import Digest, KeyId, digest_of

__all__ = ["Gradient", "max_model_bytes", "read_model", "train"]


@dataclass(frozen=True, slots=True)
class Gradient:
    """A gradient's canonical bytes, unsealed, and the digest that the chain commits to."""

    payload: bytes
    digest: Digest
    records: int


def train(
    spec: Spec,
    model: bytes,
    key: KeyId,
    gathered: Gathered,
    *,
    allow_insecure_small_key: bool = False,
    progress: Progress | None = None,
) -> Gradient:
    """Runs the spec's whole local training as one homomorphic map on the encrypted model.

    Raises PolicyError for a model that is not the one the chain and the spec describe, SyftError for bytes that are no
    model, records that make no map, and a spec whose gradient bound cannot hold every map.
    """
    encrypted = read_model(spec, model, key, allow_insecure_small_key=allow_insecure_small_key)
    encoding = spec.encoding
    # Whether a mine posts is public, so it must not depend on its records: what would not fit is clipped.
    affine = spec.training.schedule.training_map(gathered).within(
        encoding.gradient_bound / 2.0**encoding.gradient_scale,
        weight_bound=encoding.weight_bound / 2.0**encoding.weight_bits,
        rounding=2.0**-encoding.map_bits,
    )
    gradient = apply_map(
        affine,
        encrypted,
        map_bits=encoding.map_bits,
        factor_bits=encoding.factor_bits,
        gradient_bound=encoding.gradient_bound,
        obfuscator=Obfuscator(encrypted.key),
        progress=progress,
    )
    payload = dump_gradient(gradient)
    return Gradient(payload, digest_of(payload), gathered.records)


def read_model(spec: Spec, model: bytes, key: KeyId, *, allow_insecure_small_key: bool = False) -> EncryptedTensor:
    """The encrypted model in an artifact's bytes.

    Raises PolicyError for one that is not what the chain and the spec describe, SyftError for bytes that are no model.
    """
    rows, outputs = spec.shape
    encrypted = load_model(model, max_rows=rows, max_outputs=outputs, allow_insecure_small_key=allow_insecure_small_key)
    encoding = spec.encoding
    found = {
        "key": encrypted.key.key_id.hex(),
        "shape": tuple(encrypted.shape),
        "slot_width": encrypted.slot_width,
        "stride": encrypted.stride,
        "scale": encrypted.scale,
        "bound": encrypted.bound,
    }
    wanted = {
        "key": key.hex(),
        "shape": spec.shape,
        "slot_width": encoding.slot_width,
        "stride": encoding.stride(encrypted.key, outputs),
        "scale": encoding.weight_bits,
        "bound": encoding.weight_bound,
    }
    for name, value in wanted.items():
        if found[name] != value:
            raise PolicyError(f"its model has {name} {found[name]}, but {value} was promised: do not train it")
    return encrypted


def max_model_bytes(spec: Spec) -> int:
    """The most bytes that a model of this spec may have."""
    return model_size_limit(*spec.shape, slot_width=spec.encoding.slot_width)
