"""What sealed boxes carry besides gradients: the validation set on the way up, the final weights on the way down.

Both are safetensors with fixed tensor names, types and shapes; every byte is checked before it is used.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sonar.protocol.errors import ProtocolError
from sonar.protocol.networks import MAX_JUDGE_WORK, judge_work
from sonar.protocol.spec import MetricName, Spec
from sonar.protocol.training import BackboneMap
from sonar.syft.features import CLIP, Identity

__all__ = [
    "CLIP", "MAX_VALIDATION_BYTES", "TARGET_BITS", "check_judge_work", "check_labels", "check_validation_size",
    "decode_validation", "decode_weights", "design_matrix", "encode_validation", "encode_weights", "has_strays",
    "load_tensors", "scaled_targets",
]  # fmt: skip

MAX_VALIDATION_BYTES = 256 << 20
MAX_VALIDATION_SCORES = 1 << 22
"""The most class scores (records times classes) of a validation set."""
MAX_ROUND_SCORES = 1 << 24
"""The same times the gradients of a round: what bounds the judge's time and memory."""
MAX_AUC_SCORES = 1 << 16
"""The same for the area under the curve, which sorts the scores of every model that the judge tries."""
MAX_BACKBONE_WORK = 1 << 36
"""The most multiplications that a backbone may take on a validation set: a minute or two on one core."""
_MAX_HEADER = 1024
TARGET_BITS = 16
"""The fractional bits of scaled targets, as the judge compares them."""
_BLOCK = 4096
"""Records that are mapped at once."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = Ints | Floats


def check_validation_size(
    records: int, features: int, outputs: int, metric: MetricName = "accuracy", round_size: int = 1
) -> None:
    """Raises ProtocolError for a validation set that the Capsule would not take.

    `features` are those of the records, or what the feature map makes of them if that is more; `round_size` is how many
    gradients a round may have.
    """
    if records < 2:
        raise ProtocolError(f"the validation set has {records} records: give at least 2, better hundreds")
    scores = min(MAX_AUC_SCORES if metric == "auc" else MAX_VALIDATION_SCORES, MAX_ROUND_SCORES // round_size)
    width = features + (outputs if metric == "r2" else 1)
    most = min(scores // outputs, (MAX_VALIDATION_BYTES - 8 - _MAX_HEADER) // (8 * width))
    if records > most:
        raise ProtocolError(
            f"the validation set has {records} records, above the limit of {most} for {features} features and "
            f"{outputs} {'targets' if metric == 'r2' else 'classes'}: a sample of it will do"
        )


def check_judge_work(spec: Spec, records: int) -> None:
    """Raises ProtocolError for a network that would take too long to be judged on so many validation records."""
    if isinstance(spec.feature_map, BackboneMap) and spec.feature_map.graph.work * records > MAX_BACKBONE_WORK:
        raise ProtocolError(
            f"the backbone takes {spec.feature_map.graph.work} multiplications a record, for {records} validation "
            f"records more than {MAX_BACKBONE_WORK:.1e} in all: give fewer records, or a smaller backbone"
        )
    if spec.network is None:
        return
    work = judge_work(spec.network.graph, records, spec.rounds.round_size)
    if work > MAX_JUDGE_WORK:
        raise ProtocolError(
            f"judging {spec.rounds.round_size} gradients of this network on {records} records takes about {work:.1e} "
            f"multiplications, above the limit of {MAX_JUDGE_WORK:.1e}: give fewer records, or a smaller round_size"
        )


def check_labels(labels: Labels, metric: MetricName, classes: Sequence[str]) -> None:
    """Raises ProtocolError for labels on which the metric has no value.

    `labels` are class indices (records,), or for r2 targets (records, targets) in raw units.
    """
    if metric == "r2":
        if not np.isfinite(labels).all():
            raise ProtocolError("the validation set has targets that are not finite: remove or fill them")
        if (labels == labels[0]).all(axis=0).any():
            raise ProtocolError("a target is the same in every validation record, so R2 has no value: give others")
        return
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ProtocolError(f"the validation set has labels outside 0 to {len(classes) - 1}")
    if metric != "accuracy":
        counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
        if not counts.all():
            raise ProtocolError(
                f"the validation set has no record of class {classes[int(counts.argmin())]!r}, without which "
                f"{metric} has no value: give some of every class"
            )


def encode_validation(features: Floats, labels: Labels) -> bytes:
    """A validation set: features (records, features) in raw units, labels as the spec's metric takes them.

    Integers (records,) are class indices; floats (records, targets) are what to predict, in raw units.
    """
    kind = np.float64 if np.asarray(labels).dtype.kind == "f" else np.int64
    return save({
        "features": np.ascontiguousarray(features, dtype=np.float64),
        "labels": np.ascontiguousarray(labels, dtype=kind),
    })  # fmt: skip


def decode_validation(data: bytes, spec: Spec) -> tuple[Floats, Labels]:
    """The features (records, features) and labels of untrusted bytes; raises ProtocolError.

    Labels are class indices (records,), or for r2 targets (records, targets) in raw units.
    """
    kind, extra = (np.float64, (len(spec.targets),)) if spec.targets else (np.int64, ())
    tensors = load_tensors(data, "validation set", {"features": np.float64, "labels": kind})
    features, labels = tensors["features"], tensors["labels"]
    if features.ndim != 2 or features.shape[1] != len(spec.features) or labels.shape != features.shape[:1] + extra:
        shape = f"(records, {len(spec.targets)})" if spec.targets else "(records,)"
        raise ProtocolError(
            f"the validation set has features {features.shape} and labels {labels.shape}, "
            f"but the spec needs (records, {len(spec.features)}) and {shape}"
        )
    widest = max(len(spec.features), spec.mapping.outputs)
    check_validation_size(len(labels), widest, spec.outputs, spec.metric, spec.rounds.round_size)
    check_judge_work(spec, len(labels))
    if not np.isfinite(features).all():
        raise ProtocolError("the validation set has features that are not finite: remove or fill them")
    check_labels(labels, spec.metric, spec.classes)
    if spec.targets:
        scaled = np.rint(scaled_targets(spec, labels) * (1 << TARGET_BITS))
        if (scaled == scaled[0]).all(axis=0).any():
            raise ProtocolError(
                f"a target is the same in every validation record once it is scaled and clipped to +-{CLIP:g}: choose "
                "its offset and scale in the spec so that it is spread over a few units"
            )
    return features, labels


def scaled_targets(spec: Spec, labels: Floats) -> Floats:
    """Targets (records, targets) in raw units as the model predicts them: scaled with public constants and clipped."""
    offset, scale = np.array([t.offset for t in spec.targets]), np.array([t.scale for t in spec.targets])
    with np.errstate(over="ignore"):  # the clip takes infinities, and finite numbers give no NaN
        scaled: Floats = np.clip((labels - offset) / scale, -CLIP, CLIP)
    return scaled


def encode_weights(weights: Ints) -> bytes:
    """Weights (mapped features + 1, classes) as integers at the spec's scale 2^weight_bits."""
    return save({"weights": np.ascontiguousarray(weights, dtype=np.int64)})


def decode_weights(data: bytes, spec: Spec) -> Ints:
    """The weights (mapped features + 1, classes) in untrusted bytes, within the spec's bound; raises ProtocolError."""
    weights = load_tensors(data, "model", {"weights": np.int64})["weights"]
    if weights.shape != spec.shape:
        raise ProtocolError(f"the model has shape {weights.shape}, but the spec needs {spec.shape}")
    if weights.min() < -spec.encoding.weight_bound or weights.max() > spec.encoding.weight_bound:
        raise ProtocolError("the model has a weight outside the spec's bound")
    if has_strays(spec, weights):
        raise ProtocolError("the model has numbers behind the network's last parameter: it was not made for this spec")
    return weights


def has_strays(spec: Spec, values: npt.NDArray) -> bool:  # type: ignore[type-arg]
    """Whether integers of the weights' shape are not zero behind a network's last parameter."""
    return spec.network is not None and bool(values.reshape(-1)[spec.network.graph.size :].any())


def design_matrix(spec: Spec, features: Floats) -> Floats:
    """The model's input (records, mapped features + 1) for features (records, features) in raw units.

    Scaled with the spec's public constants, clipped to +-CLIP, which bounds the judge's integers and what one outlier
    can do, mapped by the spec's feature map, and a bias of 1 last.
    """
    offset = np.array([f.offset for f in spec.features])
    scale = np.array([f.scale for f in spec.features])
    mapping = spec.mapping
    # The order of the features in memory is kept: turning them would take longer than scaling them.
    order: Literal["C", "F"] = "F" if features.strides[0] < features.strides[1] else "C"
    design = np.empty((len(features), mapping.outputs + 1), order=order)
    design[:, -1] = 1
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        # Into the design itself where nothing is mapped: copies would take longer than the sums.
        plain = design[block, :-1] if isinstance(mapping, Identity) else None
        with np.errstate(over="ignore"):  # the clip takes infinities, and finite numbers give no NaN
            scaled = np.subtract(features[block], offset, out=plain, dtype=np.float64)
            scaled /= scale
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        if plain is None:
            design[block, :-1] = mapping.transform(scaled)
    return design


def load_tensors(data: bytes, what: str, dtypes: dict[str, type]) -> dict[str, npt.NDArray]:  # type: ignore[type-arg]
    """The tensors of untrusted safetensors bytes, which must have these names and types; raises ProtocolError."""
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
