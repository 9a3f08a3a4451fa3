"""Decoders of what actors say to each other: specs, validation sets, weights, sealed boxes, signatures."""

import base64
from collections.abc import Iterator, Sequence
from hashlib import blake2b, sha256
from random import Random

import numpy as np
from eth_account import Account
from nacl.bindings import crypto_box
from nacl.public import PrivateKey

from hostile.mutations import json_text, safetensors
from hostile.target import Target
from sonar import canonical
from sonar.chain.records import NATIVE, Admission
from sonar.network import Graph, NetworkError, ParameterError
from sonar.network.frozen import dump_parameters, load_parameters
from sonar.protocol.attribution import Parts, Shares, decode_parts, decode_shares, encode_parts, encode_shares
from sonar.protocol.committee import join_signatures, verify_joined
from sonar.protocol.errors import ProtocolError, SealedBoxError, SignatureError, SpecError
from sonar.protocol.messages import Domain, hash_admission, sign_admission, verify_admission
from sonar.protocol.payloads import decode_validation, decode_weights, encode_validation, encode_weights
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box
from sonar.protocol.spec import Encoding, Feature, NetworkTerms, Payout, PolynomialMap, Spec, Training
from sonar.protocol.training import BackboneMap
from sonar.units import Address, Digest, KeyId, Ppm

__all__ = ["ADMISSION", "DOMAIN", "MEMBERS", "spec", "targets"]

MEMBERS = tuple(Account.from_key(sha256(b"member %d" % i).digest()) for i in range(3))
DOMAIN = Domain(1337, Address("0x" + "11" * 20))
ADMISSION = Admission(
    spec=Digest(sha256(b"spec").digest()),
    model=Digest(sha256(b"model").digest()),
    key=KeyId(sha256(b"key").digest()),
    sealing_key=sha256(b"sealing").digest(),
    start_score=Ppm(500_000),
    oracle=Address(MEMBERS[0].address),
    owner=NATIVE,
    valid_until=2**31,
)


def spec(**changes: object) -> Spec:
    """A small campaign."""
    values = {
        "name": "digits",
        "features": (Feature(name="a", scale=16.0), Feature(name="b", offset=-1.5)),
        "classes": ("no", "yes"),
        "payout": Payout(target=900_000),
    }
    return Spec.build(**{**values, **changes})


def targets() -> Iterator[Target]:
    """Specs, payloads, boxes and signatures."""
    small = spec()
    batched = Training(loss="taylor-logistic", batch_size=64, class_weights=(1.0, 2.5))
    declared = NetworkTerms(graph=Graph.parse(_GRAPHS[1]), accounts=(DOMAIN.contract,))
    network = spec(
        mode="network", network=declared, encoding=Encoding.for_network(),
        features=tuple(Feature(name=name) for name in "abcdef"),
    )  # fmt: skip
    backbone = Graph.model_validate({"takes": (2,), "layers": ({"op": "linear", "of": (0,), "units": 3},)})
    parameters = dump_parameters(np.arange(9.0))
    specs = (
        network,
        small,
        spec(feature_map=BackboneMap(graph=backbone, parameters=base64.b64encode(parameters).decode())),
        spec(feature_map=PolynomialMap(degree=3, powers=False), description="é"),
        spec(training=batched),
    )
    yield Target(
        "spec", Spec.parse, (SpecError,), tuple(s.to_bytes() for s in specs), (json_text,), again=Spec.to_bytes
    )
    yield Target(
        "backbone", lambda data: load_parameters(backbone, data), (ParameterError,), (parameters,), (safetensors,)
    )
    features = np.linspace(-3, 3, 12).reshape(6, 2)
    yield Target(
        "validation-set",
        lambda data: decode_validation(data, small),
        (ProtocolError,),
        (encode_validation(features, np.array([0, 1] * 3)),),
        (safetensors,),
    )
    yield Target(
        "weights",
        lambda data: decode_weights(data, small),
        (ProtocolError,),
        (encode_weights(np.arange(6).reshape(3, 2)),),
        (safetensors,),
    )
    yield from _boxes()
    yield from _signatures()
    yield Target("network", Graph.parse, (NetworkError,), _GRAPHS, (json_text,), again=Graph.to_bytes)
    yield from _attributions(small)


_GRAPHS = tuple(
    canonical.dumps({"takes": takes, "layers": [{"of": [place], **layer} for place, layer in enumerate(layers)]})
    for takes, layers in (
        ([1, 4, 4], [
            {"op": "conv", "channels": 4, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1],
             "groups": 1, "bias": True},
            {"op": "group_norm", "groups": 2, "epsilon": 1e-05, "affine": True},
            {"op": "relu"},
            {"op": "add", "of": [2, 3]},
            {"op": "max_pool", "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]},
            {"op": "flatten"},
            {"op": "dropout", "part": 0.5},
            {"op": "linear", "units": 2, "bias": False},
        ]),
        ([6], [
            {"op": "embedding", "count": 9, "width": 4},
            {"op": "transpose"},
            {"op": "avg_pool", "kernel": [3], "stride": [1], "padding": [0]},
            {"op": "adaptive_avg_pool", "windows": [1]},
            {"op": "layer_norm", "dimensions": 2, "epsilon": 1e-05, "affine": True, "bias": False},
            {"op": "flatten"},
            {"op": "linear", "units": 2, "bias": True},
        ]),
    )
)  # fmt: skip


def _attributions(small: Spec) -> Iterator[Target]:
    mines = tuple(sorted((Address(member.address) for member in MEMBERS), key=str.lower))
    shares = Shares(tuple(zip(mines, (1_200_000, -3_000, 5_000), strict=True)), -202_000)
    yield Target("shares", decode_shares, (ProtocolError,), (encode_shares(shares),), (json_text,), again=encode_shares)
    values = tuple(np.array([[place, -(1 << 90)]] * 3, dtype=object) for place, _ in enumerate(mines))
    page = Parts(np.zeros((3, 2), dtype=np.int64), small.encoding.gradient_scale, 2, 3, mines, values)
    yield Target(
        "parts", lambda data: decode_parts(data, small), (ProtocolError,), (encode_parts(page),), (safetensors,),
    )  # fmt: skip


def _boxes() -> Iterator[Target]:
    pair = SealingKeyPair(sha256(b"a Capsule's sealing key").digest())
    context = BoxContext(Purpose.GRADIENT, 1337, DOMAIN.contract, NATIVE, "ab" * 32, 3)
    plaintexts = tuple(_framed(canonical.dumps(_fields(context)), payload) for payload in (b"", b"payload" * 20))
    yield Target(
        "box", lambda data: open_box(data, pair), (SealedBoxError,), tuple(_sealed(p, pair) for p in plaintexts)
    )
    yield Target(
        "box-plaintext", lambda data: open_box(_sealed(data, pair), pair), (SealedBoxError,), plaintexts, (_json_frame,)
    )


def _fields(context: BoxContext) -> dict[str, object]:
    return {name: getattr(context, name) for name in BoxContext.__dataclass_fields__}


def _framed(head: bytes, payload: bytes) -> bytes:
    return len(head).to_bytes(4, "big") + head + payload


def _json_frame(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    size = int.from_bytes(data[:4], "big")
    return _framed(json_text(random, data[4 : 4 + size], seeds), data[4 + size :])


def _sealed(plaintext: bytes, pair: SealingKeyPair) -> bytes:
    """A libsodium sealed box whose one-time key is always the same, so that runs can be repeated."""
    once = PrivateKey(sha256(b"one-time key").digest())
    public = bytes(once.public_key)
    nonce = blake2b(public + pair.public, digest_size=24).digest()
    return public + crypto_box(plaintext, nonce, pair.public, bytes(once))


def _signatures() -> Iterator[Target]:
    digest = hash_admission(DOMAIN, ADMISSION)
    signatures = {Address(member.address): sign_admission(DOMAIN, ADMISSION, member) for member in MEMBERS}
    yield Target(
        "signature",
        lambda data: verify_admission(DOMAIN, ADMISSION, data),
        (SignatureError,),
        (signatures[ADMISSION.oracle],),
        weight=0.5,
    )
    yield Target(
        "joined-signatures",
        lambda data: verify_joined(digest, data, tuple(signatures), 2),
        (SignatureError,),
        (join_signatures(signatures), join_signatures(dict(list(signatures.items())[:2]))),
        weight=0.3,
    )
