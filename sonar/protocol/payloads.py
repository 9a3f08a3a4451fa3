"""What sealed boxes carry besides gradients: the validation set on the way up, the final weights on the way down.

Both are safetensors with fixed tensor names, types and shapes; every byte is checked before it is used.
"""

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sonar.protocol.errors import ProtocolError
from sonar.protocol.spec import Spec
from sonar.syft.features import CLIP

__all__ = [
    "CLIP", "MAX_VALIDATION_BYTES", "check_validation_size", "decode_validation", "decode_weights", "design_matrix",
    "encode_validation", "encode_weights",
]  # fmt: skip

MAX_VALIDATION_BYTES = 256 << 20
MAX_VALIDATION_SCORES = 1 << 22
"""The most class scores (records times classes) of a validation set: the judge holds dozens of such tables at once."""
_MAX_HEADER = 1024
_BLOCK = 4096
"""Records that are mapped at once."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def check_validation_size(records: int, features: int, classes: int) -> None:
    """Raises ProtocolError for a validation set that the Capsule would not take.

    `features` are those of the records, or what the feature map makes of them if that is more.
    """
    if records < 2:
        raise ProtocolError(f"the validation set has {records} records: give at least 2, better hundreds")
    most = min(MAX_VALIDATION_SCORES // classes, (MAX_VALIDATION_BYTES - 8 - _MAX_HEADER) // (8 * features + 8))
    if records > most:
        raise ProtocolError(
            f"the validation set has {records} records, above the limit of {most} for {features} features and "
            f"{classes} classes: a sample of it will do"
        )


def encode_validation(features: Floats, labels: Ints) -> bytes:
    """A validation set: features (records, features) in raw units, labels (records,) as class indices."""
    return save({
        "features": np.ascontiguousarray(features, dtype=np.float64),
        "labels": np.ascontiguousarray(labels, dtype=np.int64),
    })  # fmt: skip


def decode_validation(data: bytes, spec: Spec) -> tuple[Floats, Ints]:
    """The features (records, features) and labels (records,) of untrusted bytes; raises ProtocolError."""
    tensors = _load(data, "validation set", {"features": np.float64, "labels": np.int64})
    features, labels = tensors["features"], tensors["labels"]
    if features.ndim != 2 or features.shape[1] != len(spec.features) or labels.shape != features.shape[:1]:
        raise ProtocolError(
            f"the validation set has features {features.shape} and labels {labels.shape}, "
            f"but the spec needs (records, {len(spec.features)}) and (records,)"
        )
    check_validation_size(len(labels), max(len(spec.features), spec.mapping.outputs), len(spec.classes))
    if not np.isfinite(features).all():
        raise ProtocolError("the validation set has features that are not finite: remove or fill them")
    if labels.min() < 0 or labels.max() >= len(spec.classes):
        raise ProtocolError(f"the validation set has labels outside 0 to {len(spec.classes) - 1}")
    return features, labels


def encode_weights(weights: Ints) -> bytes:
    """Weights (mapped features + 1, classes) as integers at the spec's scale 2^weight_bits."""
    return save({"weights": np.ascontiguousarray(weights, dtype=np.int64)})


def decode_weights(data: bytes, spec: Spec) -> Ints:
    """The weights (mapped features + 1, classes) in untrusted bytes, within the spec's bound; raises ProtocolError."""
    weights = _load(data, "model", {"weights": np.int64})["weights"]
    if weights.shape != spec.shape:
        raise ProtocolError(f"the model has shape {weights.shape}, but the spec needs {spec.shape}")
    if weights.min() < -spec.encoding.weight_bound or weights.max() > spec.encoding.weight_bound:
        raise ProtocolError("the model has a weight outside the spec's bound")
    return weights


def design_matrix(spec: Spec, features: Floats) -> Floats:
    """The model's input (records, mapped features + 1) for features (records, features) in raw units.

    Scaled with the spec's public constants, clipped to +-CLIP, which bounds the judge's integers and what one outlier
    can do, mapped by the spec's feature map, and a bias of 1 last.
    """
    offset = np.array([f.offset for f in spec.features])
    scale = np.array([f.scale for f in spec.features])
    mapping = spec.mapping
    design = np.ones((len(features), mapping.outputs + 1))
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        with np.errstate(over="ignore"):  # the clip takes infinities, and finite numbers give no NaN
            scaled = np.clip((np.asarray(features[block], dtype=np.float64) - offset) / scale, -CLIP, CLIP)
        design[block, :-1] = mapping.transform(scaled)
    return design


def _load(data: bytes, what: str, dtypes: dict[str, type]) -> dict[str, npt.NDArray]:  # type: ignore[type-arg]
    # Before the parser makes an object of every tensor that a long header may name.
    if int.from_bytes(data[:8], "little") > _MAX_HEADER:
        raise ProtocolError(f"the {what} of {len(data)} bytes has a header of more than {_MAX_HEADER} bytes")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"the {what} of {len(data)} bytes is not a readable safetensors file") from error
    if {name: tensor.dtype.type for name, tensor in tensors.items()} != dtypes:
        raise ProtocolError(f"the {what} must hold exactly the tensors {sorted(dtypes)} in their types")
    return tensors
