"""What every content store promises, and the checks that none of them may leave out."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from sonar.storage.cids import raw_digest
from sonar.storage.errors import ArtifactTooLargeError, DigestMismatchError
from sonar.units import Cid, Digest, digest_of

__all__ = ["Artifact", "ContentStore", "check_artifact", "verified"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Where bytes are, and the digest that the chain commits to."""

    cid: Cid
    digest: Digest


class ContentStore(Protocol):
    """Keeps bytes under names that their content decides. Several threads may share one store."""

    def put(self, data: bytes) -> Artifact:
        """Stores `data`, and returns once it can be fetched; the same bytes are the same artifact.

        Raises StoreUnavailableError or StoreTimeoutError.
        """
        ...

    def get(self, artifact: Artifact, *, max_bytes: int) -> bytes:
        """The artifact's bytes, whose SHA-256 is `artifact.digest`.

        At most one byte more than `max_bytes` is taken into memory. Raises every kind of StorageError.
        """
        ...

    def describe(self) -> str:
        """What and where this store is, for people."""
        ...

    def close(self) -> None:
        """Gives back what the store holds open; it may be called twice."""
        return

    def __enter__(self) -> Self:
        """The store itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the store."""
        self.close()


def check_artifact(artifact: Artifact) -> None:
    """Refuses before any byte is fetched what cannot come out right.

    Raises InvalidCidError, or DigestMismatchError for a raw CID that promises another digest.
    """
    promised = raw_digest(artifact.cid)
    if promised is not None and promised != artifact.digest:
        raise _mismatch(artifact, promised)


def verified(artifact: Artifact, data: bytes, *, max_bytes: int) -> bytes:
    """`data`, if it is no larger than allowed and has the artifact's digest."""
    if len(data) > max_bytes:
        raise ArtifactTooLargeError(f"the artifact {artifact.cid} has more than the {max_bytes} bytes allowed for it")
    digest = digest_of(data)
    if digest != artifact.digest:
        raise _mismatch(artifact, digest)
    return data


def _mismatch(artifact: Artifact, digest: Digest) -> DigestMismatchError:
    return DigestMismatchError(
        f"the artifact {artifact.cid} has the digest {digest.hex()}, not the committed {artifact.digest.hex()}: "
        "do not use it"
    )
