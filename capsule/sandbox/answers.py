"""What a judge process may answer, checked to the last field: whoever took it over must not get a false word signed.

A process that opened a hostile artifact can still lie about numbers, as it could about that artifact's own. What no
round can have, no answer can: shares that do not sum to the whole, too few kept, a score that did not rise.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from capsule.errors import CapsuleRefusedError
from capsule.judge import PULL_BOUND, BigInts, Judged, Judgement
from capsule.sandbox.integers import unpack_integers
from sonar.chain.records import Verdict
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import decode_weights
from sonar.protocol.spec import Spec
from sonar.sandbox import FrameError
from sonar.sandbox.frames import MOST_WORDS, Frame
from sonar.syft import MIN_KEY_BITS, PublicKey, SyftError, load_model, load_product
from sonar.units import PPM, KeyId, Ppm

__all__ = [
    "Admitted", "Invalid", "read_admitted", "read_advance", "read_inspected", "read_judgement", "read_opened",
    "read_pull",
]  # fmt: skip

_Words = Annotated[str, Field(max_length=MOST_WORDS)]
_Number = Annotated[int, Field(ge=0, le=PPM)]
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A start model's score and its weights, as `encode_weights` writes them."""

    score: Ppm
    weights: bytes


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why a gradient is none."""

    reason: str


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Refused(_Strict):
    refused: Literal["bad_model", "bad_spec", "model_mismatch", "bad_validation", "target_reached"]
    message: _Words


class _Key(_Strict):
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Score(_Strict):
    score: _Number


class _Invalid(_Strict):
    invalid: _Words


class _Nothing(_Strict):
    pass


class _Judged(_Strict):
    verdict: Literal["KEPT", "LEFT_OUT"]
    weight: Annotated[int, Field(ge=0, le=1 << 16)]
    share: _Number
    reason: _Words


class _Judgement(_Strict):
    score: _Number
    exponent: Annotated[int, Field(ge=0, le=16)]
    sampling_error: _Number
    results: list[_Judged]


def read_inspected(answer: Frame) -> KeyId | CapsuleRefusedError:
    """The fingerprint of a start model's key, or why it is no model; raises FrameError."""
    if "refused" in answer.body:
        return _refusal(answer)
    return KeyId(bytes.fromhex(_body(answer, _Key, 0).key))


def read_admitted(answer: Frame, spec: Spec) -> Admitted | CapsuleRefusedError:
    """A start model's score and weights, or why it is not admitted; raises FrameError."""
    if "refused" in answer.body:
        return _refusal(answer)
    score = _body(answer, _Score, 1).score
    if score >= spec.payout.target:
        raise FrameError(f"a start model of score {score} is admitted for a target of {spec.payout.target}")
    return Admitted(Ppm(score), _weights(answer.blobs[0], spec))


def read_opened(answer: Frame, size: int) -> bytes | Invalid:
    """A gradient's values in `size` bytes, or why it is none; raises FrameError."""
    if "invalid" in answer.body:
        return Invalid(_body(answer, _Invalid, 0).invalid)
    _body(answer, _Nothing, 1)
    if len(answer.blobs[0]) != size:
        raise FrameError(f"a gradient's values take {size} bytes, not {len(answer.blobs[0])}")
    return answer.blobs[0]


def read_pull(answer: Frame, shape: tuple[int, int]) -> BigInts:
    """What a unit of each weight (rows, outputs) counts for in a movement; raises FrameError."""
    _body(answer, _Nothing, 1)
    return unpack_integers(answer.blobs[0], shape, PULL_BOUND)


def read_judgement(answer: Frame, spec: Spec, current: Ppm, count: int) -> Judgement:
    """The judgement of `count` gradients on a model of score `current`; raises FrameError."""
    advances = len(answer.blobs) == 1
    found = _body(answer, _Judgement, int(advances))
    results = tuple(Judged(Verdict[r.verdict], r.weight, Ppm(r.share), r.reason) for r in found.results)
    kept = [result for result in results if result.kept]
    paid = [result for result in results if result.weight or result.share]
    if len(results) != count or any(not result.kept for result in paid):
        raise FrameError(f"{len(results)} verdicts for {count} gradients, or pay for one that is not kept")
    if advances:
        rises = found.score - current >= spec.rounds.min_gain
        whole = sum(result.share for result in kept) == PPM
        within = sum(result.weight for result in kept) <= 1 << spec.encoding.step_bits
        if not (rises and whole and within and len(kept) >= spec.rounds.min_mines):
            raise FrameError("a round advances that must not")
    elif kept or found.score != current or found.exponent:
        raise FrameError("a round that does not advance keeps or changes something")
    weights = decode_weights(_weights(answer.blobs[0], spec), spec) if advances else None
    return Judgement(Ppm(found.score), found.exponent, weights, results, Ppm(found.sampling_error))


def read_advance(answer: Frame, current: PublicKey, following: PublicKey) -> tuple[bytes, bytes]:
    """The product under the present key and the model under the next, as they are published; raises FrameError."""
    _body(answer, _Nothing, 2)
    combined, model = answer.blobs
    allow = following.bits < MIN_KEY_BITS
    try:
        load_product(combined, current)
        if load_model(model, allow_insecure_small_key=allow).key != following:
            raise FrameError("the next model is under another key than the next one")
    except SyftError as error:
        raise FrameError(f"the product or the next model cannot be read: {error}") from error
    return combined, model


def _body(answer: Frame, kind: type[_Model], blobs: int) -> _Model:
    if len(answer.blobs) != blobs:
        raise FrameError(f"there are {len(answer.blobs)} blobs in place of {blobs}")
    try:
        return kind.model_validate(answer.body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise FrameError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _refusal(answer: Frame) -> CapsuleRefusedError:
    found = _body(answer, _Refused, 0)
    return CapsuleRefusedError(found.refused, found.message)


def _weights(data: bytes, spec: Spec) -> bytes:
    try:
        decode_weights(data, spec)
    except ProtocolError as error:
        raise FrameError(f"the weights cannot be read: {error}") from error
    return data
