"""A content store in this process's memory, for tests and trials."""

from sonar.storage.base import Artifact, ContentStore, check_artifact, verified
from sonar.storage.cids import raw_cid
from sonar.storage.errors import ArtifactNotFoundError
from sonar.units import Cid, digest_of

__all__ = ["MemoryStore"]


class MemoryStore(ContentStore):
    """Content by CID in a dictionary; two stores share nothing."""

    def __init__(self) -> None:
        self._contents: dict[Cid, bytes] = {}

    def put(self, data: bytes) -> Artifact:
        """See ContentStore."""
        artifact = Artifact(raw_cid(data), digest_of(data))
        self._contents[artifact.cid] = bytes(data)
        return artifact

    def get(self, artifact: Artifact, *, max_bytes: int) -> bytes:
        """See ContentStore."""
        check_artifact(artifact)
        try:
            data = self._contents[artifact.cid]
        except KeyError as error:
            raise ArtifactNotFoundError(f"{artifact.cid} is not in {self.describe()}: was it put there?") from error
        return verified(artifact, data, max_bytes=max_bytes)

    def describe(self) -> str:
        """See ContentStore."""
        return "the store in memory"
