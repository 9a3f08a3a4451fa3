"""The wire format of models, gradients and products: safetensors with one metadata key of canonical JSON.

    "sonar": {bound, format, key, kind, scale, shape, slot_width, stride}    key: the fingerprint in hex
    ciphertexts  uint8 (count, ciphertext_size)                              big-endian, row after row
    modulus      uint8 (modulus_size,)                                       big-endian, in a model only

Format 2. The outputs of a row lie `stride` slots apart, 1 to MAX_STRIDE. In a gradient or product so many rows share a
ciphertext, stack after stack; in a model every row has its own, and the slots between its outputs are 0.

The same tensor is always the same bytes: one metadata key, because several are written in random order. A decoder
takes nothing but the exact bytes that the encoder would write, raises WireFormatError for all else, and has checked
every ciphertext.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from sonar import canonical
from sonar.syft.errors import CiphertextError, EncodingOverflowError, PublicKeyError, WireFormatError
from sonar.syft.keys import MAX_KEY_BITS, PublicKey
from sonar.syft.packing import Layout
from sonar.syft.tensor import EncryptedTensor, check_ciphertexts

__all__ = [
    "MAX_OUTPUTS", "MAX_ROWS", "MAX_STRIDE", "dump_gradient", "dump_model", "dump_product",
    "gradient_size_limit", "load_gradient", "load_model", "load_product", "model_size_limit",
]  # fmt: skip

MAX_ROWS: Final = 1 << 14
MAX_OUTPUTS: Final = 256
MAX_STRIDE: Final = 64
_FORMAT: Final = 2
_MAX_HEADER: Final = 1024
_MAX_SLOT_WIDTH: Final = 512
_MAX_SCALE: Final = 512
_FIELDS: Final = {"bound", "format", "key", "kind", "scale", "shape", "slot_width", "stride"}


def dump_model(tensor: EncryptedTensor) -> bytes:
    """The canonical bytes of an encrypted model, which carry its public key."""
    return _dump(tensor, "model")


def dump_gradient(tensor: EncryptedTensor) -> bytes:
    """The canonical bytes of an encrypted gradient, which name its key by fingerprint."""
    return _dump(tensor, "gradient")


def dump_product(tensor: EncryptedTensor) -> bytes:
    """The canonical bytes of a round's product, which name its key by fingerprint."""
    return _dump(tensor, "product")


def load_model(
    data: bytes, *, max_rows: int = MAX_ROWS, max_outputs: int = MAX_OUTPUTS, allow_insecure_small_key: bool = False
) -> EncryptedTensor:
    """The model in untrusted bytes, every ciphertext checked; raises WireFormatError."""
    parts = _parse(data, "model", max_rows, max_outputs)
    if not 0 < parts.modulus_size <= MAX_KEY_BITS // 8:
        raise WireFormatError(f"a model's modulus has {parts.modulus_size} bytes: 1 to {MAX_KEY_BITS // 8} are allowed")
    try:
        modulus = int.from_bytes(parts.payload[-parts.modulus_size :], "big")
        key = PublicKey(modulus, allow_insecure_small_key=allow_insecure_small_key)
    except PublicKeyError as error:
        raise WireFormatError(f"a model's key is refused: {error}") from error
    return _tensor(data, parts, key)


def load_gradient(
    data: bytes, key: PublicKey, *, max_rows: int = MAX_ROWS, max_outputs: int = MAX_OUTPUTS
) -> EncryptedTensor:
    """The gradient under `key` in untrusted bytes, every ciphertext checked; raises WireFormatError."""
    return _tensor(data, _parse(data, "gradient", max_rows, max_outputs), key)


def load_product(
    data: bytes, key: PublicKey, *, max_rows: int = MAX_ROWS, max_outputs: int = MAX_OUTPUTS
) -> EncryptedTensor:
    """The product under `key` in untrusted bytes, every ciphertext checked; raises WireFormatError."""
    return _tensor(data, _parse(data, "product", max_rows, max_outputs), key)


@lru_cache(maxsize=256)
def model_size_limit(rows: int, outputs: int, *, slot_width: int = 72, max_key_bits: int = MAX_KEY_BITS) -> int:
    """The most bytes that a model of this shape can have, under any key up to `max_key_bits`."""
    row = max(
        -(-outputs // ((bits - 2) // slot_width)) * ((2 * bits + 7) // 8)
        for bits in range(slot_width + 2, max_key_bits + 1)
    )
    return 8 + _MAX_HEADER + rows * row + (max_key_bits + 7) // 8


def gradient_size_limit(rows: int, layout: Layout) -> int:
    """The most bytes that a gradient or product of so many rows in this layout can have."""
    return 8 + _MAX_HEADER + layout.plaintexts(rows) * ((2 * layout.key_bits + 7) // 8)


@dataclass(frozen=True, slots=True)
class _Parts:
    kind: str
    fields: dict[str, Any]
    payload: bytes
    modulus_size: int


def _dump(tensor: EncryptedTensor, kind: str) -> bytes:
    key = tensor.key
    if tensor.rows_per_plaintext != (1 if kind == "model" else tensor.stride):
        raise CiphertextError(
            f"{tensor!r} is no {kind}: a model's rows have ciphertexts of their own, those of others share them"
        )
    fields = {
        "kind": kind,
        "format": _FORMAT,
        "key": key.key_id.hex(),
        "shape": list(tensor.shape),
        "slot_width": tensor.slot_width,
        "stride": tensor.stride,
        "scale": tensor.scale,
        "bound": tensor.bound,
    }
    size = key.ciphertext_size
    payload = b"".join(ciphertext.to_bytes(size, "big") for ciphertext in tensor.ciphertexts)
    tensors = {"ciphertexts": np.frombuffer(payload, dtype=np.uint8).reshape(-1, size)}
    if kind == "model":
        tensors["modulus"] = np.frombuffer(key.modulus_bytes, dtype=np.uint8)
    return save(tensors, metadata={"sonar": canonical.dumps(fields).decode()})


def _parse(data: bytes, kind: str, max_rows: int, max_outputs: int) -> _Parts:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 0 < size <= _MAX_HEADER or 8 + size > len(data):
        raise WireFormatError(f"{len(data)} bytes with a header of {size} are no {kind}: fetch the artifact again")
    try:
        header = json.loads(data[8 : 8 + size].decode())
        fields = canonical.loads(header["__metadata__"]["sonar"].encode())
        modulus_size = header["modulus"]["shape"][0] if kind == "model" else 0
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise WireFormatError(f"the header of a {kind} of {len(data)} bytes cannot be read: {error!r:.80}") from error
    _check_fields(fields, kind, max_rows, max_outputs)
    if type(modulus_size) is not int:
        raise WireFormatError(f"a {kind}'s modulus has no size: its bytes were not made by Sonar")
    return _Parts(kind, fields, data[8 + size :], modulus_size)


def _check_fields(fields: Any, kind: str, max_rows: int, max_outputs: int) -> None:
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise WireFormatError(f"the header of a {kind} does not have exactly the fields {sorted(_FIELDS)}")
    if fields["kind"] != kind or fields["format"] != _FORMAT:
        raise WireFormatError(
            f"this is a {fields['kind']!r:.20} of format {fields['format']!r:.20}, but a {kind!r} of format {_FORMAT} "
            "is needed"
        )
    shape = fields["shape"]
    if not isinstance(shape, list) or len(shape) != 2:
        raise WireFormatError(f"the shape {shape!r:.40} of a {kind} is not (rows, outputs)")
    limits = {
        "rows": (shape[0], 1, max_rows),
        "outputs": (shape[1], 1, max_outputs),
        "slot_width": (fields["slot_width"], 2, _MAX_SLOT_WIDTH),
        "stride": (fields["stride"], 1, MAX_STRIDE),
        "scale": (fields["scale"], 0, _MAX_SCALE),
        "bound": (fields["bound"], 0, 1 << _MAX_SLOT_WIDTH),
    }
    for name, (value, low, high) in limits.items():
        if type(value) is not int or not low <= value <= high:
            raise WireFormatError(f"{name} {value!r:.40} of a {kind} is not an integer from {low} to {high}")


def _tensor(data: bytes, parts: _Parts, key: PublicKey) -> EncryptedTensor:
    fields, kind = parts.fields, parts.kind
    if fields["key"] != key.key_id.hex():
        raise WireFormatError(f"a {kind} names the key {fields['key']!r:.70}, not {key.key_id.hex()}")
    rows, outputs = fields["shape"]
    try:
        stride = fields["stride"]
        rows_per_plaintext = 1 if kind == "model" else stride
        layout = Layout(key.bits, fields["slot_width"], outputs, stride, rows_per_plaintext)
        count = layout.plaintexts(rows)
        size = key.ciphertext_size
        if len(parts.payload) != count * size + parts.modulus_size:
            raise WireFormatError(f"a {kind} of {len(data)} bytes does not hold exactly {count} ciphertexts")
        tensor = EncryptedTensor(
            key=key,
            ciphertexts=tuple(
                int.from_bytes(parts.payload[start : start + size], "big") for start in range(0, count * size, size)
            ),
            shape=(rows, outputs),
            slot_width=fields["slot_width"],
            scale=fields["scale"],
            bound=fields["bound"],
            stride=stride,
            rows_per_plaintext=rows_per_plaintext,
        )
        check_ciphertexts(tensor)
    except (CiphertextError, EncodingOverflowError) as error:
        raise WireFormatError(f"a {kind} is refused: {error}") from error
    if _dump(tensor, kind) != data:
        raise WireFormatError(f"a {kind} of {len(data)} bytes is not in canonical form: it was not written by Sonar")
    return tensor
