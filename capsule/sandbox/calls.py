"""The judge processes as the service and the worker call them: typed questions, and answers that are checked.

A job that is lost is done once more, alone in a new process, before JobLostError tells of it: what a neighbour or the
system did to its process must not be held against it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeVar

from capsule.errors import CapsuleRefusedError
from capsule.judge import PULL_BOUND, BigInts, Judgement
from capsule.sandbox import answers
from capsule.sandbox.answers import Admitted, Invalid
from capsule.sandbox.errors import JobLostError
from capsule.sandbox.integers import packed_size
from capsule.sandbox.limits import Limits
from capsule.sandbox.pool import Pool
from sonar.protocol.spec import Spec
from sonar.sandbox.frames import Frame
from sonar.syft import PublicKey, gradient_size_limit, model_size_limit
from sonar.units import KeyId, Ppm

__all__ = ["Desk", "Sandbox"]

_log = logging.getLogger("capsule.sandbox")
_JOBS: Final = "capsule.sandbox.jobs:Jobs"
_LANE_SHOWN: Final = 16

Answer = TypeVar("Answer")


class Sandbox:
    """The judge processes of one Capsule. Safe in threads; every call waits for its answer."""

    def __init__(
        self, limits: Limits | None = None, *, jobs: str = _JOBS, allow_insecure_small_key: bool = False
    ) -> None:
        self._pool = Pool(limits or Limits(), jobs, allow_insecure_small_key=allow_insecure_small_key)

    def start(self) -> None:
        """Starts the processes; raises SandboxError where one does not start."""
        self._pool.start()

    def stop(self) -> None:
        """Ends them, and with SandboxError whatever they are at; may be called again."""
        self._pool.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def limits(self) -> Limits:
        """What each process may use."""
        return self._pool.limits

    @property
    def problem(self) -> str | None:
        """Why a process is missing, if one is."""
        return self._pool.problem

    @property
    def pids(self) -> list[int]:
        """The present processes."""
        return self._pool.pids

    @property
    def waiting(self) -> int:
        """How many jobs wait for a process."""
        return self._pool.waiting

    @property
    def spent(self) -> Counter[str]:
        """Microseconds of processor time in jobs so far, by what they were spent on, and the number of `jobs`."""
        return self._pool.spent

    @property
    def losses(self) -> Counter[str]:
        """How many jobs were lost, by how."""
        return self._pool.losses

    def desk(self, lane: str, spec: Spec, spec_bytes: bytes) -> "Desk":
        """Where the jobs about one spec are asked for; `spec_bytes` are its canonical bytes."""
        return Desk(self, lane, spec, spec_bytes)

    def run(
        self, lane: str, request: Frame, understand: Callable[[Frame], Answer], *, seconds: float, most: int = 0
    ) -> Answer:
        """`Pool.run`, once more in a new process where the job was lost."""
        try:
            return self._pool.run(lane, request, understand, seconds=seconds, most=most)
        except JobLostError as error:
            _log.warning("job %r of %s: %s; once more", request.body.get("job"), lane[:_LANE_SHOWN], error)
            return self._pool.run(lane, request, understand, seconds=seconds, most=most, fresh=True)


class Desk:
    """The jobs about one spec. Those of one lane, which is a campaign's, wait for each other.

    Raises JobLostError for a job that was lost twice, and SandboxError where no process can do it. Secret keys are
    `SecretKey.to_bytes()`, weights what `encode_weights` makes.
    """

    def __init__(self, sandbox: Sandbox, lane: str, spec: Spec, spec_bytes: bytes) -> None:
        self._sandbox, self._lane, self.spec, self._bytes = sandbox, lane, spec, spec_bytes
        self._weights_size = 8 * spec.shape[0] * spec.shape[1] + 1024

    def inspect(self, model: bytes, key_bits: int) -> KeyId:
        """The fingerprint of the key that a start model is under; raises CapsuleRefusedError for what is no model."""
        found = self._job("inspect", (model,), answers.read_inspected, self._seconds(len(model), key_bits))
        return _unless_refused(found)

    def admit(self, key: PublicKey, secret: bytes, model: bytes, validation: bytes) -> Admitted:
        """The start model's score and weights; raises CapsuleRefusedError where it cannot be admitted."""
        return _unless_refused(
            self._job(
                "admit",
                (self._bytes, secret, model, validation),
                lambda answer: answers.read_admitted(answer, self.spec),
                self._seconds(len(model), key.bits),
                self._weights_size,
            )
        )

    def open(self, key: PublicKey, secret: bytes, payload: bytes) -> bytes | Invalid:
        """A gradient's values, as `capsule.sandbox.integers` packs them within the spec's bound, or why it is none."""
        encoding = self.spec.encoding
        size = packed_size(self.spec.shape, encoding.gradient_bound)
        return self._job(
            "open",
            (self._bytes, secret, payload),
            lambda answer: answers.read_opened(answer, size),
            self._sandbox.limits.for_gradient(len(payload) // key.ciphertext_size, key.bits),
            size,
        )

    def judge(self, validation: bytes, weights: bytes, current: Ppm, opened: Sequence[bytes], seed: bytes) -> Judgement:
        """The judgement of a round's opened gradients, on a model of score `current`."""
        return self._job(
            "judge",
            (self._bytes, validation, weights, seed, *opened),
            lambda answer: answers.read_judgement(answer, self.spec, current, len(opened)),
            self._sandbox.limits.for_job(),
            self._weights_size,
            score=current,
        )

    def advance(
        self,
        keys: tuple[PublicKey, PublicKey],
        model: bytes,
        gradients: Sequence[bytes],
        multipliers: Sequence[int],
        exponent: int,
        weights: bytes,
    ) -> tuple[bytes, bytes]:
        """The round's product under the first key, and the next model, of these weights, under the second."""
        current, following = keys
        rows, columns = self.spec.shape
        layout = self.spec.encoding.gradient_layout(current, columns)
        most = gradient_size_limit(rows, layout) + model_size_limit(
            rows, columns, slot_width=self.spec.encoding.slot_width
        )
        return self._job(
            "advance",
            (self._bytes, model, following.modulus_bytes, weights, *gradients),
            lambda answer: answers.read_advance(answer, current, following),
            self._seconds(len(model) * (1 + len(gradients)), current.bits),
            most,
            multipliers=list(multipliers),
            exponent=exponent,
        )

    def pull(self, validation: bytes, before: bytes, after: bytes) -> BigInts:
        """What a unit of each weight (rows, outputs) counts for in the way from some weights to others.

        Of what some weights add to the class scores of the validation set, times what the way adds to them, the sum
        over records and classes is that of weights times this.
        """
        return self._job(
            "pull",
            (self._bytes, validation, before, after),
            lambda answer: answers.read_pull(answer, self.spec.shape),
            self._sandbox.limits.for_job(),
            packed_size(self.spec.shape, PULL_BOUND),
        )

    def _seconds(self, size: int, key_bits: int) -> float:
        return self._sandbox.limits.for_job(size * 8 // (2 * key_bits), key_bits)

    def _job(
        self,
        name: str,
        blobs: tuple[bytes, ...],
        understand: Callable[[Frame], Answer],
        seconds: float,
        most: int = 0,
        **words: object,
    ) -> Answer:
        request = Frame({"job": name, **words}, blobs)
        return self._sandbox.run(self._lane, request, understand, seconds=seconds, most=most)


def _unless_refused(found: Answer | CapsuleRefusedError) -> Answer:
    if isinstance(found, CapsuleRefusedError):
        raise found
    return found
