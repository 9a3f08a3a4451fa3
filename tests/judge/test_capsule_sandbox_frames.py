"""What goes over the pipes: every frame comes back as it was, and bytes that are none raise FrameError alone."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.errors import CapsuleRefusedError
from capsule.judge import Judgement
from capsule.sandbox import answers
from capsule.sandbox.integers import pack_integers, packed_size, unpack_integers
from sonar.protocol.payloads import encode_weights
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.sandbox import FrameError
from sonar.sandbox.frames import Frame, encode, read
from sonar.syft import PublicKey
from sonar.units import PPM, Ppm

WORDS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(), WORDS, max_size=4)
SPEC = Spec(
    name="three blobs",
    features=tuple(Feature(name=f"f{i}", scale=2.0) for i in range(4)),
    classes=("red", "green", "blue"),
    payout=Payout(target=990_000),
)


def take(data: bytes) -> Any:
    stream = io.BytesIO(data)

    def some(count: int) -> bytes:
        got = stream.read(count)
        if len(got) < count:
            raise EOFError
        return got

    return some


@given(BODIES, st.lists(st.binary(max_size=50), max_size=5))
def test_a_frame_comes_back_as_it_was(body: dict[str, Any], blobs: list[bytes]) -> None:
    frame = Frame(body, tuple(blobs))
    assert read(take(b"".join(encode(frame)))) == frame


@given(st.binary(max_size=200))
def test_junk_is_no_frame(data: bytes) -> None:
    with pytest.raises((FrameError, EOFError)):
        read(take(data))


@given(BODIES, st.binary(min_size=1, max_size=20), st.data())
def test_a_changed_byte_changes_the_frame_or_breaks_it(body: dict[str, Any], blob: bytes, data: Any) -> None:
    frame = Frame(body, (blob,))
    whole = bytearray(b"".join(encode(frame)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found = read(take(bytes(whole)))
    except (FrameError, EOFError):
        return
    assert found != frame


@pytest.mark.parametrize("sizes", [[-1], [2**40], [600, 600], ["1"], [True], [1.0], {"0": 1}, 3, [0] * 300])
def test_no_memory_is_taken_for_sizes_beyond_the_limit(sizes: Any) -> None:
    (length, head) = encode(Frame({}))
    bad = head.replace(b"[]", str(sizes).replace("'", '"').replace("True", "true").replace(" ", "").encode())
    asked: list[int] = []

    def some(count: int) -> bytes:
        asked.append(count)
        return len(bad).to_bytes(4, "little") if len(asked) == 1 else bad

    with pytest.raises(FrameError):
        read(some, most=1000)
    assert asked == [len(length), len(bad)]


def test_a_frame_never_shows_its_bytes() -> None:
    assert "secret" not in repr(Frame({"job": "secret"}, (b"secret",)))


def test_a_frame_that_nobody_would_read_is_not_written() -> None:
    with pytest.raises(FrameError, match="too large"):
        encode(Frame({"word": "x" * (2 << 20)}))
    with pytest.raises(FrameError, match="too large"):
        encode(Frame({}, (b"",) * 257))


@given(st.integers(0, 2**80), st.data())
def test_integers_come_back_in_their_width(bound: int, data: Any) -> None:
    flat = data.draw(st.lists(st.integers(-bound, bound), min_size=6, max_size=6))
    values = np.empty((2, 3), dtype=object)
    values[:] = np.array(flat, dtype=object).reshape(2, 3)
    packed = pack_integers(values, bound)
    assert len(packed) == packed_size((2, 3), bound)
    assert (unpack_integers(packed, (2, 3), bound) == values).all()


@given(st.integers(0, 2**70), st.binary(max_size=80))
def test_bytes_are_integers_within_the_bound_or_refused(bound: int, data: bytes) -> None:
    try:
        values = unpack_integers(data, (1, 4), bound)
    except FrameError:
        return
    assert pack_integers(values, bound) == data
    assert max(abs(value) for value in values.ravel()) <= bound


def test_integers_beyond_the_bound_are_refused_on_both_sides() -> None:
    values = np.array([[127, 128]], dtype=object)
    assert pack_integers(values, 128) == b"\x7f\x00\x80\x00"
    with pytest.raises(FrameError, match="bound of 7 bits"):
        pack_integers(values, 127)
    with pytest.raises(FrameError, match="bound of 7 bits"):
        unpack_integers(b"\x80\x00", (1, 2), 127)


def judged(verdict: str, weight: int = 0, share: int = 0) -> dict[str, Any]:
    return {"verdict": verdict, "weight": weight, "share": share, "reason": "because"}


def advancing(**changes: Any) -> Frame:
    results = [judged("KEPT", 512, 400_000), judged("LEFT_OUT"), judged("KEPT", 512, 600_000)]
    body = {"score": 600_000, "exponent": 10, "sampling_error": 0, "results": results, **changes}
    return Frame(body, (encode_weights(np.ones(SPEC.shape, dtype=np.int64)),))


def staying(**changes: Any) -> Frame:
    results = [judged("LEFT_OUT"), judged("LEFT_OUT"), judged("LEFT_OUT")]
    return Frame({"score": 500_000, "exponent": 0, "sampling_error": 0, "results": results, **changes})


def read_judgement(answer: Frame) -> Judgement:
    return answers.read_judgement(answer, SPEC, Ppm(500_000), 3)


def test_a_judgement_that_a_round_can_have_is_believed() -> None:
    found = read_judgement(advancing())
    assert [result.share for result in found.results] == [400_000, 0, 600_000]
    assert found.weights is not None
    assert (found.weights == 1).all()
    assert read_judgement(staying()).weights is None


@pytest.mark.parametrize(
    "answer",
    [
        advancing(score=500_000),
        advancing(score=PPM + 1),
        advancing(exponent=17),
        advancing(exponent=True),
        advancing(sampling_error=-1),
        advancing(results=[judged("KEPT", 1, PPM)]),
        advancing(results=[judged("KEPT", 1, PPM), judged("LEFT_OUT"), judged("COPY")]),
        advancing(results=[judged("KEPT", 1, 400_000), judged("LEFT_OUT"), judged("KEPT", 1, 599_999)]),
        advancing(results=[judged("KEPT", 1, 400_000), judged("LEFT_OUT", 1), judged("KEPT", 1, 600_000)]),
        advancing(results=[judged("KEPT", 1, 400_000), judged("LEFT_OUT", 0, 1), judged("KEPT", 1, 599_999)]),
        advancing(results=[judged("KEPT", 600, 400_000), judged("LEFT_OUT"), judged("KEPT", 600, 600_000)]),
        advancing(results=[judged("KEPT", 1, 400_000), judged("INVALID"), judged("KEPT", 1, 600_000)]),
        advancing(results=[judged("KEPT", 1, 400_000), judged("LEFT_OUT"), judged("KEPT", -1, 600_000)]),
        advancing(more=1),
        Frame(advancing().body),
        Frame(advancing().body, (b"",)),
        Frame(advancing().body, (encode_weights(np.full(SPEC.shape, 2**40)),)),
        Frame(advancing().body, (encode_weights(np.ones((2, 2), dtype=np.int64)),)),
        staying(score=500_001),
        staying(exponent=1),
        staying(results=[judged("KEPT"), judged("LEFT_OUT"), judged("LEFT_OUT")]),
        staying(results=[judged("LEFT_OUT", 0, 1), judged("LEFT_OUT"), judged("LEFT_OUT")]),
        staying(results=[]),
        staying(results=[{**judged("LEFT_OUT"), "reason": "x" * 1001}] * 3),
        Frame({}),
    ],
)
def test_a_judgement_that_no_round_can_have_is_refused(answer: Frame) -> None:
    with pytest.raises(FrameError):
        read_judgement(answer)


def test_other_answers_are_believed_only_as_their_job_gives_them() -> None:
    weights = encode_weights(np.zeros(SPEC.shape, dtype=np.int64))
    admitted = answers.read_admitted(Frame({"score": 3}, (weights,)), SPEC)
    assert isinstance(admitted, answers.Admitted)
    refusal = answers.read_admitted(Frame({"refused": "bad_model", "message": "no"}), SPEC)
    assert isinstance(refusal, CapsuleRefusedError)
    for bad in (
        Frame({"score": 3}),
        Frame({"score": SPEC.payout.target}, (weights,)),
        Frame({"score": 3}, (weights, weights)),
        Frame({"refused": "anything", "message": "no"}),
        Frame({"refused": "bad_model", "message": "no"}, (b"",)),
        Frame({"refused": "bad_model"}),
    ):
        with pytest.raises(FrameError):
            answers.read_admitted(bad, SPEC)
    assert answers.read_opened(Frame({}, (b"four",)), 4) == b"four"
    assert answers.read_opened(Frame({"invalid": "why"}), 4) == answers.Invalid("why")
    for bad in (Frame({}, (b"three",)), Frame({}), Frame({"invalid": 3}), Frame({"invalid": "why"}, (b"four",))):
        with pytest.raises(FrameError):
            answers.read_opened(bad, 4)
    for bad in (Frame({"key": "ab"}), Frame({"key": "AB" * 32}), Frame({"key": "ab" * 32, "more": 1}), Frame({})):
        with pytest.raises(FrameError):
            answers.read_inspected(bad)
    key = PublicKey((1 << 511) + 1, allow_insecure_small_key=True)
    for blobs in ((), (b"", b""), (b"junk", b"junk")):
        with pytest.raises(FrameError):
            answers.read_advance(Frame({}, blobs), key, key)
