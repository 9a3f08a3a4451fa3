"""The jobs of a judge process: everything that is computed from an artifact, from a secret key or from plaintexts.

Each takes a frame and gives one. What a job concludes about its inputs is part of its answer; whatever else it raises
is a mistake of ours, and costs nobody anything. Nothing is kept between jobs but a few parsed specs: parsing a
validation set again takes a hundredth of the time that its round's decryption does.
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from capsule.errors import CapsuleRefusedError, refusing
from capsule.judge import PULL_BOUND, Judgement, ValidationSet, judge_round, one_thread, score, validation_of
from capsule.policy import check_model, check_round, check_target
from capsule.sandbox.integers import pack_integers, unpack_integers
from capsule.sandbox.meter import Meter
from capsule.secret import SecretKey, decrypt
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import decode_validation, decode_weights, encode_weights, has_strays
from sonar.protocol.spec import Spec
from sonar.sandbox import FrameError
from sonar.sandbox.frames import MOST_WORDS, Frame
from sonar.syft import (
    EncryptedTensor,
    Obfuscator,
    PublicKey,
    SyftError,
    WireFormatError,
    dump_model,
    dump_product,
    encrypt,
    load_gradient,
    load_model,
    product,
)
from sonar.units import Ppm

__all__ = ["Jobs"]

_KEPT: Final = 8
"""Specs that are kept parsed. Keys are not: whoever took this process over would have them all."""


Value = TypeVar("Value")


class Jobs:
    """The jobs by name; `meter` tells what the last one spent its time on."""

    def __init__(self, *, allow_insecure_small_key: bool = False) -> None:
        self._allow = allow_insecure_small_key
        self._specs: _Recent[Spec] = _Recent(Spec.parse)
        self.meter = Meter()
        self._jobs: dict[str, Callable[..., Frame]] = {
            "inspect": self._inspect,
            "admit": self._admit,
            "open": self._open,
            "judge": self._judge,
            "advance": self._advance,
            "pull": self._pull,
        }

    def do(self, request: Frame) -> Frame:
        """The answer to a request; raises FrameError for one that asks for no job."""
        self.meter = Meter()
        job = self._jobs.get(request.body.get("job", ""))
        if job is None:
            raise FrameError("there is no such job")
        with self.meter.on("total"):
            return job(request)

    def _inspect(self, request: Frame) -> Frame:
        """Whose key a start model is under: (model) to its fingerprint and size, or a refusal."""
        (model,) = request.blobs
        try:
            tensor = self._model(model)
        except CapsuleRefusedError as refusal:
            return _refused(refusal)
        return Frame({"key": tensor.key.key_id.hex()})

    def _admit(self, request: Frame) -> Frame:
        """A start model's score and weights: (spec, secret key, model, validation set), or a refusal."""
        spec_bytes, secret, model, validation = request.blobs
        spec = self._specs.get(spec_bytes)
        try:
            tensor = self._model(model)
            check_model(spec, tensor)
            check_round(spec, tensor.key)
            with refusing("bad_validation", ProtocolError):
                examples = validation_of(spec, *decode_validation(validation, spec))
            with refusing("bad_model", SyftError), self.meter.on("decrypting"):
                weights = decrypt(self._key(secret), tensor).astype(np.int64)
            _check_strays(spec, weights)
            start = score(examples, weights)
            check_target(spec, start)
        except CapsuleRefusedError as refusal:
            return _refused(refusal)
        return Frame({"score": start}, (encode_weights(weights),))

    def _open(self, request: Frame) -> Frame:
        """A gradient's values: (spec, secret key, payload), or why it is invalid."""
        spec_bytes, secret, payload = request.blobs
        spec, key = self._specs.get(spec_bytes), self._key(secret)
        try:
            with self.meter.on("ciphertexts"):
                tensor = load_gradient(payload, key.public)
            _check_gradient(spec, tensor)
            with self.meter.on("decrypting"):
                values = decrypt(key, tensor)
        except SyftError as error:
            return Frame({"invalid": _words(error)})
        if has_strays(spec, values):
            return Frame({"invalid": _strays(spec.encoding.gradient_bound)})
        return Frame({}, (pack_integers(values, spec.encoding.gradient_bound),))

    def _judge(self, request: Frame) -> Frame:
        """A round's judgement: (spec, validation set, weights, seed, values of each gradient)."""
        spec_bytes, validation, weights, seed, *values = request.blobs
        spec = self._specs.get(spec_bytes)
        examples = validation_of(spec, *decode_validation(validation, spec))
        bound = spec.encoding.gradient_bound
        gradients = [unpack_integers(data, spec.shape, bound) for data in values]
        with self.meter.on("judging"):
            judgement = judge_round(
                spec, examples, decode_weights(weights, spec), Ppm(request.body["score"]), gradients, seed
            )
        return _told(judgement)

    def _advance(self, request: Frame) -> Frame:
        """The product and the next model: (spec, model, next modulus, next weights, each kept gradient)."""
        spec_bytes, model, modulus, weights, *gradients = request.blobs
        spec, current = self._specs.get(spec_bytes), self._model(model)
        with self.meter.on("ciphertexts"):
            kept = [load_gradient(data, current.key) for data in gradients]
            combined = product(current, kept, request.body["multipliers"], request.body["exponent"])
            public = PublicKey(int.from_bytes(modulus, "big"), allow_insecure_small_key=self._allow)
            following = encrypt(
                decode_weights(weights, spec),
                public,
                Obfuscator(public),
                slot_width=spec.encoding.slot_width,
                scale=spec.encoding.weight_bits,
                bound=spec.encoding.weight_bound,
                stride=spec.encoding.stride(public, spec.shape[1]),
            )
        return Frame({}, (dump_product(combined), dump_model(following)))

    def _pull(self, request: Frame) -> Frame:
        """What a unit of each weight counts for in a movement: (spec, validation set, weights before, and after)."""
        spec_bytes, validation, before, after = request.blobs
        spec = self._specs.get(spec_bytes)
        examples = validation_of(spec, *decode_validation(validation, spec))
        assert isinstance(examples, ValidationSet), "a network does not split"
        with self.meter.on("judging"), one_thread():
            pull = examples.pull(decode_weights(after, spec) - decode_weights(before, spec))
        return Frame({}, (pack_integers(pull, PULL_BOUND),))

    def _key(self, secret: bytes) -> SecretKey:
        """The service has proven its primes when it opened it."""
        return SecretKey.from_bytes(secret, already_proven=True, allow_insecure_small_key=self._allow)

    def _model(self, data: bytes) -> EncryptedTensor:
        with refusing("bad_model", WireFormatError), self.meter.on("ciphertexts"):
            return load_model(data, allow_insecure_small_key=self._allow)


class _Recent(OrderedDict[bytes, Value]):
    """What was made of the bytes that came last."""

    def __init__(self, make: Callable[[bytes], Value]) -> None:
        super().__init__()
        self._make = make

    def get(self, data: bytes) -> Value:  # type: ignore[override]
        digest = sha256(data).digest()
        if digest not in self:
            self[digest] = self._make(data)
            while len(self) > _KEPT:
                self.popitem(last=False)
        self.move_to_end(digest)
        return self[digest]


def _check_gradient(spec: Spec, tensor: EncryptedTensor) -> None:
    """Raises WireFormatError unless a gradient's public header is the one that the spec asks for."""
    encoding = spec.encoding
    has = (tensor.shape, tensor.slot_width, tensor.stride, tensor.scale, tensor.bound)
    stride = encoding.gradient_layout(tensor.key, spec.shape[1]).stride
    needs = (spec.shape, encoding.slot_width, stride, encoding.gradient_scale, encoding.gradient_bound)
    if has != needs:
        raise WireFormatError(f"shape, slot width, stride, scale and bound are {has}, but the spec needs {needs}")


def _strays(bound: int) -> str:
    """What `decrypt` says, word for word: whoever made the ciphertexts must not learn which number was wrong."""
    return f"its plaintexts are not numbers of at most {bound.bit_length()} bits in their slots: refuse it"


def _check_strays(spec: Spec, weights: npt.NDArray[np.int64]) -> None:
    if has_strays(spec, weights):
        raise CapsuleRefusedError("bad_model", _strays(spec.encoding.weight_bound))


def _refused(refusal: CapsuleRefusedError) -> Frame:
    return Frame({"refused": refusal.code, "message": _words(refusal)})


def _words(error: Exception) -> str:
    """What an error says, in words that every answer has room for."""
    return str(error)[:MOST_WORDS].encode(errors="replace").decode()


def _told(judgement: Judgement) -> Frame:
    results = [
        {"verdict": one.verdict.name, "weight": one.weight, "share": one.share, "reason": one.reason}
        for one in judgement.results
    ]
    body = {
        "score": judgement.score,
        "exponent": judgement.exponent,
        "sampling_error": judgement.sampling_error,
        "results": results,
    }
    return Frame(body, () if judgement.weights is None else (encode_weights(judgement.weights),))
