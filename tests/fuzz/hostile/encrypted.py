"""Decoders of encrypted models, gradients and products, and of canonical JSON."""

from collections.abc import Iterator
from hashlib import sha256

from hostile.mutations import json_text, safetensors
from hostile.target import Target
from sonar import canonical
from sonar.syft import (
    EncryptedTensor,
    Layout,
    PublicKey,
    WireFormatError,
    dump_gradient,
    dump_model,
    dump_product,
    load_gradient,
    load_model,
    load_product,
)

__all__ = ["small_key", "targets", "tensor"]

SHAPES = ((1, 1), (3, 2), (5, 4), (7, 3))


def small_key(bits: int = 512) -> PublicKey:
    """An odd number of so many bits, always the same: decoders ask for no more of a modulus."""
    digits = b"".join(sha256(f"modulus {bits} {i}".encode()).digest() for i in range(-(-bits // 256)))
    n = int.from_bytes(digits, "big") >> (8 * len(digits) - bits)
    return PublicKey(n | 1 | (1 << (bits - 1)), allow_insecure_small_key=bits < 2048)


def tensor(key: PublicKey, shape: tuple[int, int], *, stacked: bool, slot_width: int = 60) -> EncryptedTensor:
    """A tensor of elements of the group, always the same; nobody needs to know what they decrypt to."""
    stride = 2 if stacked else 1
    rows = stride if stacked else 1
    layout = Layout(key.bits, slot_width, shape[1], stride, rows)
    ciphertexts = tuple(
        int.from_bytes(sha256(b"ciphertext %d" % i).digest() * (key.bits // 128), "big") % key.n_squared | 1
        for i in range(layout.plaintexts(shape[0]))
    )
    return EncryptedTensor(key, ciphertexts, shape, slot_width, 24, (1 << (slot_width - 2)) - 1, stride, rows)


def targets() -> Iterator[Target]:
    """Models, gradients, products and canonical JSON."""
    key, large = small_key(), small_key(2048)
    plain = [tensor(key, shape, stacked=False) for shape in SHAPES]
    stacked = [tensor(key, shape, stacked=True) for shape in SHAPES]
    yield Target(
        "model",
        lambda data: load_model(data, allow_insecure_small_key=True),
        (WireFormatError,),
        tuple(dump_model(each) for each in plain),
        (safetensors,),
        again=dump_model,
    )
    yield Target(
        "safe-model",
        load_model,
        (WireFormatError,),
        (dump_model(tensor(large, (3, 4), stacked=False, slot_width=72)),),
        (safetensors,),
        again=dump_model,
    )
    for kind, load, dump in (("gradient", load_gradient, dump_gradient), ("product", load_product, dump_product)):
        yield Target(
            kind,
            lambda data, load=load: load(data, key),
            (WireFormatError,),
            tuple(dump(each) for each in stacked),
            (safetensors,),
            again=dump,
        )
    values = ({"a": [1, 2.5, None, True], "b": {"c": "é"}}, [], "text", [[0.1, 1e300, -5]], {"": ""})
    yield Target(
        "canonical-json",
        canonical.loads,
        (ValueError,),
        tuple(canonical.dumps(value) for value in values),
        (json_text,),
        again=canonical.dumps,
    )
