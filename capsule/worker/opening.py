"""From a submitted gradient to its plaintext, or to the verdict that it earns by not having one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from capsule.probe import ask_store
from capsule.sandbox import Desk, Invalid, JobLostError
from capsule.state import Submission
from sonar.chain.records import Verdict
from sonar.protocol.errors import SealedBoxError
from sonar.protocol.sealing import OVERHEAD, BoxContext, Purpose, SealingKeyPair, open_box
from sonar.storage import (
    Artifact,
    ArtifactTooLargeError,
    ContentStore,
    DigestMismatchError,
    StorageError,
    StoreUnavailableError,
)
from sonar.storage.base import check_artifact
from sonar.syft import PublicKey, gradient_size_limit
from sonar.units import digest_of

__all__ = ["Missing", "Opened", "Opener", "Rejected"]

_log = logging.getLogger("capsule.worker.opening")


@dataclass(frozen=True, slots=True)
class Opened:
    """A gradient that is what it claims: its bytes, and its values as `capsule.sandbox.integers` packs them."""

    data: bytes
    values: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A gradient that is not judged, with the verdict it gets and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A gradient that cannot be fetched now, and may be later; `wrong` where the store gave other bytes for it."""

    reason: str
    wrong: bool = False


class Opener:
    """Opens the gradients of one round: fetches, unseals, compares with the chain; a judge process does the rest.

    `secret` is the round's key as `SecretKey.to_bytes` gives it.
    """

    def __init__(
        self,
        store: ContentStore,
        sealing: SealingKeyPair,
        desk: Desk,
        key: PublicKey,
        secret: bytes,
        context: Callable[[Submission], BoxContext],
    ) -> None:
        self._store, self._sealing, self._desk = store, sealing, desk
        self._key, self._secret, self._context = key, secret, context
        rows, columns = desk.spec.shape
        self._limit = gradient_size_limit(rows, desk.spec.encoding.gradient_layout(key, columns)) + OVERHEAD

    def open(self, submission: Submission, came: Callable[[], None]) -> Opened | Rejected | Missing:
        """The gradient, or what is wrong with it; `came` is called when the store has done its part.

        Whatever only the store says of it is no proof against its mine, whom a store that lies must not cost the bond.
        Raises StorageError where the Capsule's store is down, SandboxError where no process can open it.
        """
        artifact = Artifact(submission.cid, submission.entry.artifact)
        try:
            check_artifact(artifact)
        except StorageError as error:  # what the mine posted contradicts itself, as everybody can see
            return Rejected(Verdict.INVALID, f"invalid: {error}")
        box = self._fetch(submission, artifact)
        came()
        if isinstance(box, Missing):
            return box
        payload = self._unseal(submission, box)
        return payload if isinstance(payload, Rejected) else self._decrypt(submission, payload)

    def _fetch(self, submission: Submission, artifact: Artifact) -> bytes | Missing:
        try:
            return self._store.get(artifact, max_bytes=self._limit)
        except StoreUnavailableError as error:
            # Its mine may have named what every store refuses to give, a directory say; it must not stop the round.
            ask_store(self._store)
            return Missing(str(error))
        except (DigestMismatchError, ArtifactTooLargeError) as error:
            _log.error("the gradient of %s in round %d: %s", submission.entry.mine, submission.round, error)
            return Missing(str(error), wrong=True)
        except StorageError as error:
            return Missing(str(error))

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
        try:
            found = self._desk.open(self._key, self._secret, payload)
        except JobLostError as error:
            # Two processes were lost at it. How much work a gradient is does not depend on who made it, so a mine can
            # hardly mean this, and a Capsule that starves or errs can cause it: not Invalid, which takes the whole
            # bond. The stated part that Unavailable takes is what it costs to try a way in again and again.
            _log.error("the gradient of %s in round %d cannot be opened: %s", submission.entry.mine, submission.round,
                       error)  # fmt: skip
            return Rejected(Verdict.UNAVAILABLE, f"unavailable: the Capsule could not open it ({error.loss}), twice")
        return (
            Rejected(Verdict.INVALID, f"invalid: {found.reason}")
            if isinstance(found, Invalid)
            else Opened(payload, found)
        )
