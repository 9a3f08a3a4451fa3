"""From a network's weights and a mine's records to an encrypted gradient: torch trains, the clipped change is packed.

Weights are in the clear here, which is what a campaign of this mode grants; what leaves is under the round's key.
"""

import secrets

import numpy as np
import numpy.typing as npt

from mine.data.gathering import Pass
from mine.errors import DataError, PolicyError
from mine.privacy.reading import Whole
from mine.privacy.steps import Noise
from mine.trainer import Gradient, read_model
from sonar.network.parameters import decode, encode, in_rows
from sonar.network.training import Inputs, train
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import decode_weights
from sonar.protocol.spec import Spec
from sonar.syft import Obfuscator, Progress, PublicKey, dump_gradient, encrypt
from sonar.syft.encoding import Floats
from sonar.units import KeyId, digest_of

__all__ = ["encrypt_change", "learn", "learn_with_noise", "train_network"]


def learn(
    spec: Spec,
    model: bytes,
    key: KeyId,
    weights: bytes,
    records: Pass,
    *,
    allow_insecure_small_key: bool = False,
    progress: Progress | None = None,
) -> Gradient:
    """Reads a mine's records, trains the spec's network on them and encrypts what it learned.

    `model` is the encrypted model of the present version, of which only the key is used; `weights` are the same in the
    clear. Raises PolicyError for a model or weights that are not what chain and spec describe, DataError for records
    that cannot be read or are too few, NetworkError where the training diverges.
    """
    public, start = _read(spec, model, key, weights, allow_insecure_small_key=allow_insecure_small_key)
    inputs, targets = _gathered(spec, records)
    if len(inputs) < spec.min_records:
        raise DataError(f"there are {len(inputs)} usable records, but campaign {spec.name!r} needs {spec.min_records}")
    return train_network(spec, public, start, inputs, targets, progress)


def learn_with_noise(
    spec: Spec,
    model: bytes,
    key: KeyId,
    weights: bytes,
    records: Whole,
    noise: Noise,
    *,
    allow_insecure_small_key: bool = False,
    progress: Progress | None = None,
) -> Gradient:
    """The same with every step noised, which costs `noise.rho`: nothing of a record, nor how many there are, ends it.

    Raises as `learn` does, but for too few records.
    """
    from mine.privacy.descent import train_privately  # torch's transforms take seconds that others have no use for

    assert spec.network is not None
    public, start = _read(spec, model, key, weights, allow_insecure_small_key=allow_insecure_small_key)
    inputs, targets = _gathered(spec, records, noise.most)
    change = train_privately(
        spec.network.graph, _start(spec, start), inputs, targets, spec.network.training, noise, progress=progress
    )
    payload = encrypt_change(spec, public, change)
    return Gradient(payload, digest_of(payload), len(inputs))


def train_network(
    spec: Spec,
    key: PublicKey,
    weights: npt.NDArray[np.int64],
    records: Inputs,
    targets: Inputs,
    progress: Progress | None = None,
) -> Gradient:
    """The gradient of a mine's records on the present weights, as integers (rows, width).

    `records` (records, features) are scaled as the spec says, `targets` (records, outputs). Raises NetworkError where
    the training diverges.
    """
    assert spec.network is not None
    graph, training = spec.network.graph, spec.network.training
    # The order of records is nobody's business: it would tell what their batches were.
    seed = secrets.randbits(63)
    change = train(graph, _start(spec, weights), records, targets, training, seed=seed, progress=progress)
    payload = encrypt_change(spec, key, change)
    return Gradient(payload, digest_of(payload), len(records))


def encrypt_change(spec: Spec, key: PublicKey, change: Floats) -> bytes:
    """A change (parameters,) on the spec's grid, packed and encrypted: the canonical bytes of a gradient.

    What does not fit a slot is cut off: whether a mine posts is public, so it must not depend on its records.
    """
    encoding = spec.encoding
    most = encoding.gradient_bound / 2.0**encoding.gradient_scale
    integers = encode(np.clip(change, -most, most), encoding.gradient_scale, encoding.gradient_bound)
    layout = encoding.gradient_layout(key, spec.shape[1])
    return dump_gradient(
        encrypt(
            in_rows(integers, spec.shape),
            key,
            Obfuscator(key),
            slot_width=encoding.slot_width,
            scale=encoding.gradient_scale,
            bound=encoding.gradient_bound,
            stride=layout.stride,
            rows_per_plaintext=layout.rows_per_plaintext,
        )
    )


def _read(
    spec: Spec, model: bytes, key: KeyId, weights: bytes, *, allow_insecure_small_key: bool
) -> tuple[PublicKey, npt.NDArray[np.int64]]:
    """The key of an encrypted model, and the same version's weights."""
    public = read_model(spec, model, key, allow_insecure_small_key=allow_insecure_small_key).key
    try:
        return public, decode_weights(weights, spec)
    except ProtocolError as error:
        raise PolicyError(f"its Capsule gave weights that are none of this campaign's: {error}") from error


def _gathered(spec: Spec, records: Pass, room: int = 0) -> tuple[Inputs, Inputs]:
    """All records (records, features) and targets (records, outputs), in float32; there may be none.

    There is memory for as many as `room` from the beginning, so that it never runs out of it for one more.
    """
    assert spec.network is not None
    graph, count = spec.network.graph, 0
    inputs, targets = (np.empty((room, wide), np.float32) for wide in (graph.features, graph.outputs))
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and its record has no finite gradient
        for design, wanted in records:
            start, count = count, count + len(design)
            if count > len(inputs):
                inputs, targets = (_longer(one, max(count, 2 * start)) for one in (inputs, targets))
            inputs[start:count], targets[start:count] = design[:, :-1], wanted
    return inputs[:count], targets[:count]


def _longer(rows: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """So many rows, which begin with these."""
    longer = np.empty((count, rows.shape[1]), np.float32)
    longer[: len(rows)] = rows
    return longer


def _start(spec: Spec, weights: npt.NDArray[np.int64]) -> Floats:
    """The parameters (parameters,) in weights (rows, width)."""
    assert spec.network is not None
    return decode(weights.reshape(-1)[: spec.network.graph.size], spec.encoding.weight_bits)
