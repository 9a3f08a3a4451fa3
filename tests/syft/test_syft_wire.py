"""The wire format: canonical bytes, golden files, and what a decoder does with everything else."""

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from capsule.secret import SecretKey, decrypt
from sonar import canonical
from sonar.syft import (
    CiphertextError,
    EncryptedTensor,
    PublicKey,
    WireFormatError,
    dump_gradient,
    dump_model,
    dump_product,
    encrypt,
    gradient_size_limit,
    load_gradient,
    load_model,
    load_product,
    model_size_limit,
    rows_that_fit,
)
from sonar.syft.wire import MAX_STRIDE
from sonar.units import digest_of

GOLDEN = Path(__file__).parent / "golden"
P, Q = 274179956118486673628881519184639290067, 262160868480569907979360271378243245723
DUMPS = {"model": dump_model, "gradient": dump_gradient, "product": dump_product}


def golden_tensor() -> EncryptedTensor:
    """Values -3 to 2 as (3, 2), two blocks a row; the ciphertext of m in place i is (1 + n)^m (i + 2)^n mod n^2."""
    key = PublicKey(P * Q, allow_insecure_small_key=True)
    n = key.n
    ciphertexts = tuple((1 + n * m) * pow(i + 2, n, n * n) % (n * n) for i, m in enumerate(range(-3, 3)))
    return EncryptedTensor(key, ciphertexts, (3, 2), 200, 24, (1 << 60) - 1)


def spaced_tensor(kind: str) -> EncryptedTensor:
    """The same values two slots of 60 bits apart, in rows of their own (model) or stacks of two, the last one short.

    The random factor of ciphertext i is again (i + 2)^n.
    """
    tensor = golden_tensor()
    n, rows = tensor.key.n, [-3 - (2 << 120), -1, 1 + (2 << 120)]
    plaintexts = rows if kind == "model" else [rows[0] + (rows[1] << 60), rows[2]]
    ciphertexts = tuple((1 + n * m) * pow(i + 2, n, n * n) % (n * n) for i, m in enumerate(plaintexts))
    return EncryptedTensor(
        tensor.key, ciphertexts, (3, 2), 60, 24, (1 << 59) - 1, 2, rows_per_plaintext=1 if kind == "model" else 2
    )


@pytest.mark.parametrize("kind", DUMPS)
def test_the_golden_tensor_is_the_golden_bytes(kind):
    assert DUMPS[kind](golden_tensor()) == (GOLDEN / f"{kind}.safetensors").read_bytes()


def test_the_golden_files_load_and_decrypt():
    model = load_model((GOLDEN / "model.safetensors").read_bytes(), allow_insecure_small_key=True)
    secret = SecretKey(P, Q, allow_insecure_small_key=True)
    assert model == golden_tensor()
    assert decrypt(secret, model).tolist() == [[-3, -2], [-1, 0], [1, 2]]
    assert load_gradient((GOLDEN / "gradient.safetensors").read_bytes(), model.key) == model
    assert load_product((GOLDEN / "product.safetensors").read_bytes(), model.key) == model


@pytest.mark.parametrize("kind", DUMPS)
def test_the_spaced_tensor_is_the_golden_bytes(kind):
    tensor, data = spaced_tensor(kind), (GOLDEN / f"spaced-{kind}.safetensors").read_bytes()
    assert DUMPS[kind](tensor) == data
    assert _load(kind, data) == tensor
    assert decrypt(SecretKey(P, Q, allow_insecure_small_key=True), tensor).tolist() == [[-3, -2], [-1, 0], [1, 2]]


def test_another_process_writes_the_same_bytes():
    code = (
        "import sys; from pathlib import Path; from sonar.syft import dump_model, load_model; "
        "from sonar.units import digest_of; "
        "data = Path(sys.argv[1]).read_bytes(); "
        "print(digest_of(dump_model(load_model(data, allow_insecure_small_key=True))).hex())"
    )
    command = [sys.executable, "-c", code, str(GOLDEN / "model.safetensors")]
    digests = {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)}
    assert digests == {digest_of(dump_model(golden_tensor())).hex()}


@given(data=st.data())
def test_what_is_written_is_read_back(data, key, obfuscator):
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 20))
    width = data.draw(st.integers(16, 128))
    bound = data.draw(st.integers(0, (1 << (width - 1)) - 1))
    values = np.zeros(shape, dtype=np.int64)
    scale = data.draw(st.integers(0, 100))
    stride = data.draw(st.integers(1, min(MAX_STRIDE, rows_that_fit(key.bits, width, shape[1]))))
    tensor, stacked = (
        encrypt(
            values, key, obfuscator, slot_width=width, scale=scale, bound=bound, stride=stride, rows_per_plaintext=rows
        )
        for rows in (1, stride)
    )
    assert load_model(dump_model(tensor), allow_insecure_small_key=True) == tensor
    assert load_gradient(dump_gradient(stacked), key) == stacked
    assert load_product(dump_product(stacked), key) == stacked
    assert len(dump_gradient(stacked)) <= gradient_size_limit(shape[0], stacked.layout)
    assert len(dump_product(stacked)) <= gradient_size_limit(shape[0], stacked.layout)
    assert len(dump_model(tensor)) <= model_size_limit(*shape, slot_width=width, max_key_bits=512)
    assert len(dump_model(tensor)) <= model_size_limit(*shape, slot_width=width)


def test_artifacts_are_plain_safetensors():
    tensors = load((GOLDEN / "model.safetensors").read_bytes())
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        "ciphertexts": (np.dtype(np.uint8), (6, 64)),
        "modulus": (np.dtype(np.uint8), (32,)),
    }
    assert list(load((GOLDEN / "gradient.safetensors").read_bytes())) == ["ciphertexts"]


def test_kinds_and_keys_cannot_pass_for_each_other(other_secret):
    tensor = golden_tensor()
    with pytest.raises(WireFormatError, match="a 'product' of format 2 is needed"):
        load_product(dump_gradient(tensor), tensor.key)
    with pytest.raises(WireFormatError):
        load_model(dump_gradient(tensor), allow_insecure_small_key=True)
    with pytest.raises(WireFormatError, match="names the key"):
        load_gradient(dump_gradient(tensor), other_secret.public)


def test_a_small_key_is_refused_by_default():
    with pytest.raises(WireFormatError, match="256 bits is too small"):
        load_model(dump_model(golden_tensor()))


def test_limits_of_the_caller_are_kept():
    tensor = golden_tensor()
    with pytest.raises(WireFormatError, match=r"rows 3 .* from 1 to 2"):
        load_gradient(dump_gradient(tensor), tensor.key, max_rows=2)
    with pytest.raises(WireFormatError, match=r"outputs 2 .* from 1 to 1"):
        load_gradient(dump_gradient(tensor), tensor.key, max_outputs=1)


def _header(data: bytes, **changes: object) -> bytes:
    return _with_fields(data, lambda fields: fields.update(changes))


def _with_fields(data: bytes, change) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    fields = json.loads(header["__metadata__"]["sonar"])
    change(fields)
    return save(load(data), metadata={"sonar": canonical.dumps(fields).decode()})


def _raw_header(data: bytes, header: bytes) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _padded(data: bytes) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    return _raw_header(data, data[8 : 8 + size] + b" " * 8)


def _respaced(data: bytes) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    return _raw_header(data, json.dumps(header).encode())


def _ciphertext(data: bytes, value: int) -> bytes:
    tensors = load(data)
    tensors["ciphertexts"] = tensors["ciphertexts"].copy()
    tensors["ciphertexts"][1] = np.frombuffer(value.to_bytes(64, "big"), dtype=np.uint8)
    size = struct.unpack("<Q", data[:8])[0]
    return save(tensors, metadata=json.loads(data[8 : 8 + size])["__metadata__"])


BAD = {
    "empty": (lambda d: b"", "0 bytes with a header of 0"),
    "seven bytes": (lambda d: d[:7], "7 bytes"),
    "cut header": (lambda d: d[:100], "header"),
    "huge header": (lambda d: struct.pack("<Q", 1 << 60) + d[8:], "with a header of"),
    "header above the limit": (lambda d: struct.pack("<Q", 2000) + b" " * 2000 + d, "with a header of 2000"),
    "deep header": (lambda d: _raw_header(d, b"[" * 1000), "cannot be read"),
    "header is a list": (lambda d: _raw_header(d, b"[]"), "cannot be read"),
    "header is a number": (lambda d: _raw_header(d, b"1"), "cannot be read"),
    "header is not UTF-8": (lambda d: _raw_header(d, b"\xff\xfe"), "cannot be read"),
    "surrogate": (lambda d: _raw_header(d, rb'{"__metadata__":{"sonar":"\ud800"}}'), "cannot be read"),
    "no metadata": (lambda d: save(load(d)), "cannot be read"),
    "two metadata keys": (
        lambda d: save(load(d), metadata={"sonar": _text(d), "extra": "x"}),
        "not in canonical form|with a header of",
    ),
    "fields not canonical": (lambda d: save(load(d), metadata={"sonar": " " + _text(d)}), "cannot be read"),
    "fields missing": (lambda d: _with_fields(d, lambda f: f.pop("bound")), "exactly the fields"),
    "fields too many": (lambda d: _header(d, more=1), "exactly the fields"),
    "fields are a list": (lambda d: save(load(d), metadata={"sonar": "[]"}), "exactly the fields"),
    "format": (lambda d: _header(d, format=3), "of format 3"),
    "old format": (lambda d: _header(d, format=1), "of format 1"),
    "no stride": (lambda d: _header(d, stride=0), "stride 0"),
    "stride above the limit": (lambda d: _header(d, stride=65), "stride 65"),
    "huge stride": (lambda d: _header(d, stride=1 << 70), "stride 11805"),
    "stride with a half": (lambda d: _header(d, stride=1.5), "stride 1.5"),
    "stride with a bool": (lambda d: _header(d, stride=True), "stride True"),
    "stride of rows of several blocks": (lambda d: _header(d, stride=2), "2 rows of 2 slots cannot share a plaintext"),
    "shape is a number": (lambda d: _header(d, shape=3), "not \\(rows, outputs\\)"),
    "shape of three": (lambda d: _header(d, shape=[3, 2, 1]), "not \\(rows, outputs\\)"),
    "shape with a float": (lambda d: _header(d, shape=[3.0, 2]), "rows 3.0"),
    "shape with a bool": (lambda d: _header(d, shape=[3, True]), "outputs True"),
    "huge shape": (lambda d: _header(d, shape=[1 << 40, 2]), "rows 1099511627776"),
    "no rows": (lambda d: _header(d, shape=[0, 2]), "rows 0"),
    "another shape": (lambda d: _header(d, shape=[2, 2]), "exactly 4 ciphertexts"),
    "huge slots": (lambda d: _header(d, slot_width=513), "slot_width 513"),
    "slots beyond the key": (lambda d: _header(d, slot_width=300), "do not fit a key"),
    "other slots": (lambda d: _header(d, slot_width=100), "exactly 3 ciphertexts"),
    "negative scale": (lambda d: _header(d, scale=-1), "scale -1"),
    "scale is text": (lambda d: _header(d, scale="24"), "scale '24'"),
    "scale is null": (lambda d: _header(d, scale=None), "scale None"),
    "bound beyond the slot": (lambda d: _header(d, bound=1 << 199), "do not fit slots"),
    "negative bound": (lambda d: _header(d, bound=-1), "bound -1"),
    "endless bound": (lambda d: _header(d, bound=10**300), "bound 1000"),
    "key is a number": (lambda d: _header(d, key=5), "names the key 5"),
    "another key": (lambda d: _header(d, key="00" * 32), "names the key"),
    "padding": (_padded, "not in canonical form"),
    "white space": (_respaced, "not in canonical form|cannot be read"),
    "extra bytes": (lambda d: d + b"\0", "exactly 6 ciphertexts|a modulus of"),
    "cut bytes": (lambda d: d[:-1], "exactly 6 ciphertexts|names the key"),
    "zero ciphertext": (lambda d: _ciphertext(d, 0), "ciphertext 1 is outside"),
    "ciphertext n^2": (lambda d: _ciphertext(d, (P * Q) ** 2), "ciphertext 1 is outside"),
    "ciphertext p": (lambda d: _ciphertext(d, P), "not coprime"),
}


def _text(data: bytes) -> str:
    size = struct.unpack("<Q", data[:8])[0]
    return str(json.loads(data[8 : 8 + size])["__metadata__"]["sonar"])


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", DUMPS)
def test_bad_bytes_are_refused(kind, name):
    damage, message = BAD[name]
    data = damage(DUMPS[kind](golden_tensor()))
    with pytest.raises(WireFormatError, match=message):
        _load(kind, data)


@pytest.mark.parametrize(
    ("stride", "message"),
    [
        (1, "exactly 3 ciphertexts"),
        (3, "3 rows of 2 slots cannot share a plaintext of 4: stack 1 to 2"),
        (64, "64 rows of 2 slots cannot share"),
        (65, "stride 65"),
        (0, "stride 0"),
    ],
)
@pytest.mark.parametrize("kind", ["gradient", "product"])
def test_a_stacked_artifact_with_another_stride_is_refused(kind, stride, message):
    with pytest.raises(WireFormatError, match=message):
        _load(kind, _header(DUMPS[kind](spaced_tensor(kind)), stride=stride))


def test_a_model_is_never_stacked_and_the_others_always_are():
    for kind, dump in DUMPS.items():
        with pytest.raises(CiphertextError, match=f"is no {kind}"):
            dump(spaced_tensor("product" if kind == "model" else "model"))


@pytest.mark.parametrize("modulus", [b"", b"\0" * 32, bytes([2] * 32), b"\xff" * 2000])
def test_a_model_with_a_bad_modulus_is_refused(modulus):
    data = dump_model(golden_tensor())
    tensors = load(data) | {"modulus": np.frombuffer(modulus, dtype=np.uint8)}
    with pytest.raises(WireFormatError):
        _load("model", save(tensors, metadata={"sonar": _text(data)}))


def test_a_modulus_with_a_leading_zero_is_refused():
    tensor = golden_tensor()
    data = dump_model(tensor)
    tensors = load(data) | {"modulus": np.frombuffer(b"\0" + tensor.key.modulus_bytes, dtype=np.uint8)}
    with pytest.raises(WireFormatError, match="not in canonical form"):
        _load("model", save(tensors, metadata={"sonar": _text(data)}))


@settings(max_examples=6 * settings.default.max_examples)
@given(data=st.data(), kind=st.sampled_from(sorted(DUMPS)))
def test_damaged_bytes_raise_nothing_but_the_format_error(data, kind):
    good = bytearray(DUMPS[kind](data.draw(st.sampled_from([golden_tensor(), spaced_tensor(kind)]))))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        tensor = _load(kind, damaged)
    except WireFormatError:
        return
    assert DUMPS[kind](tensor) == damaged


@settings(max_examples=6 * settings.default.max_examples)
@given(data=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_the_format_error(data):
    for kind in DUMPS:
        with pytest.raises(WireFormatError):
            _load(kind, struct.pack("<Q", len(data)) + data)


def test_the_size_limit_is_close_to_what_a_full_size_model_needs():
    key = PublicKey((1 << 8192) - 1)
    tensor = EncryptedTensor(key, (1,) * 65, (65, 10), 72, 24, 1)
    size = len(dump_model(tensor))
    assert size <= model_size_limit(65, 10) <= size + 2048
    assert len(dump_model(replace(tensor, key=PublicKey((1 << 3072) - 1)))) <= model_size_limit(
        65, 10, max_key_bits=3072
    )
    stacked = replace(tensor, ciphertexts=(1,) * 6, stride=11, rows_per_plaintext=11)
    size = len(dump_gradient(stacked))
    assert size <= gradient_size_limit(65, stacked.layout) <= size + 1024


def _load(kind: str, data: bytes) -> EncryptedTensor:
    if kind == "model":
        return load_model(data, allow_insecure_small_key=True)
    return (load_gradient if kind == "gradient" else load_product)(data, golden_tensor().key)
