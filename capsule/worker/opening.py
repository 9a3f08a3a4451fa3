"""From a submitted gradient to its plaintext, or to the verdict that it earns by not having one."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from capsule.judge.rounds import BigInts
from capsule.secret import SecretKey, decrypt
from capsule.state import Submission
from sonar.chain.records import Verdict
from sonar.protocol.errors import SealedBoxError
from sonar.protocol.sealing import OVERHEAD, BoxContext, Purpose, SealingKeyPair, open_box
from sonar.protocol.spec import Spec
from sonar.storage import (
    Artifact,
    ArtifactNotFoundError,
    ContentStore,
    StorageError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from sonar.syft import EncryptedTensor, SyftError, gradient_size_limit, load_gradient
from sonar.syft.progress import paced
from sonar.units import digest_of

__all__ = ["Background", "Missing", "Opened", "Opener", "Rejected"]

_log = logging.getLogger("capsule.worker.opening")
_TOLD_EVERY = 5.0
"""Seconds between two lines about a gradient that takes long to decrypt."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Opened:
    """A gradient that is what it claims: its bytes, its ciphertexts and its plaintext (features + 1, classes)."""

    data: bytes
    tensor: EncryptedTensor
    values: BigInts


@dataclass(frozen=True, slots=True)
class Rejected:
    """A gradient that is not judged, with the verdict it gets and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A gradient that cannot be fetched now, and may be later."""

    reason: str


class Opener:
    """Opens the gradients of one round: fetches, unseals, checks against chain and spec, decrypts."""

    def __init__(
        self,
        store: ContentStore,
        sealing: SealingKeyPair,
        spec: Spec,
        secret: SecretKey,
        context: Callable[[Submission], BoxContext],
    ) -> None:
        self._store, self._sealing, self._spec, self._secret, self._context = store, sealing, spec, secret, context
        self._layout = spec.encoding.gradient_layout(secret.public, spec.shape[1])

    def open(self, submission: Submission) -> Opened | Rejected | Missing:
        """The gradient, or what is wrong with it; raises StoreUnavailableError where the Capsule's store is down."""
        entry, spec = submission.entry, self._spec
        limit = gradient_size_limit(spec.shape[0], self._layout) + OVERHEAD
        try:
            box = self._store.get(Artifact(submission.cid, entry.artifact), max_bytes=limit)
        except StoreUnavailableError:
            raise
        except (ArtifactNotFoundError, StoreTimeoutError) as error:
            return Missing(str(error))
        except StorageError as error:
            return Rejected(Verdict.INVALID, f"invalid: {error}")
        payload = self._unseal(submission, box)
        return payload if isinstance(payload, Rejected) else self._decrypt(submission, payload)

    def _unseal(self, submission: Submission, box: bytes) -> bytes | Rejected:
        try:
            context, payload = open_box(box, self._sealing)
        except SealedBoxError as error:
            return Rejected(Verdict.INVALID, f"invalid: {error}")
        expected = self._context(submission)
        if context == expected:
            return payload
        if context.purpose is Purpose.GRADIENT and context.account != expected.account:
            return Rejected(Verdict.COPY, f"copy: the box was sealed by {context.account}, not by {expected.account}")
        return Rejected(Verdict.INVALID, f"invalid: the box was made for {context}, not for {expected}")

    def _decrypt(self, submission: Submission, payload: bytes) -> Opened | Rejected:
        if digest_of(payload) != submission.entry.gradient:
            return Rejected(Verdict.INVALID, "invalid: the sealed bytes are not those whose digest was submitted")
        encoding = self._spec.encoding
        try:
            tensor = load_gradient(payload, self._secret.public)
            has = (tensor.shape, tensor.slot_width, tensor.stride, tensor.scale, tensor.bound)
            needs = (
                self._spec.shape, encoding.slot_width, self._layout.stride, encoding.gradient_scale,
                encoding.gradient_bound,
            )  # fmt: skip
            if has != needs:
                return Rejected(
                    Verdict.INVALID,
                    f"invalid: shape, slot width, stride, scale and bound are {has}, but the spec needs {needs}",
                )
            mine = submission.entry.mine
            tell = paced(lambda done: _log.info("opening the gradient of %s: %.0f%%", mine, 100 * done), _TOLD_EVERY)
            return Opened(payload, tensor, decrypt(self._secret, tensor, progress=tell))
        except SyftError as error:
            return Rejected(Verdict.INVALID, f"invalid: {error}")


class Background(Generic[Answer]):
    """Runs at most `limit` jobs beside the caller, in threads that do not keep the process alive.

    Fetching what nobody has takes until the store's deadline; whoever posts such gradients must not stop the others.
    """

    def __init__(self, limit: int = 16) -> None:
        self._free = threading.BoundedSemaphore(limit)

    def start(self, job: Callable[[], Answer]) -> Future[Answer] | None:
        """The job's future, or None while too many are running."""
        if not self._free.acquire(blocking=False):
            return None
        future: Future[Answer] = Future()
        threading.Thread(target=self._run, args=(job, future), name="fetch", daemon=True).start()
        return future

    def _run(self, job: Callable[[], Answer], future: Future[Answer]) -> None:
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001  (whoever asks for the result gets it)
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            self._free.release()
