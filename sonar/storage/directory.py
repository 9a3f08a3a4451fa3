"""A content store in a directory: one file per artifact, named by its CID."""

import os
import tempfile
from pathlib import Path

from sonar.storage.base import Artifact, ContentStore, check_artifact, verified
from sonar.storage.cids import raw_cid
from sonar.storage.errors import ArtifactNotFoundError, StoreUnavailableError
from sonar.units import digest_of

__all__ = ["DirectoryStore"]

_UNFINISHED = ".part"


class DirectoryStore(ContentStore):
    """Content in files of one directory, which several processes may share; `put` creates it when it is missing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()

    def put(self, data: bytes) -> Artifact:
        """See ContentStore."""
        artifact = Artifact(raw_cid(data), digest_of(data))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(artifact, data)
        except OSError as error:
            raise self._failure("written", error) from error
        return artifact

    def get(self, artifact: Artifact, *, max_bytes: int) -> bytes:
        """See ContentStore."""
        check_artifact(artifact)  # a checked CID is only letters and digits, so it cannot leave the directory
        try:
            with (self.path / artifact.cid).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as error:
            if not self.path.is_dir():
                raise self._failure("read", error) from error
            raise ArtifactNotFoundError(f"{artifact.cid} is not in {self.describe()}: was it put there?") from error
        except OSError as error:
            raise self._failure("read", error) from error
        return verified(artifact, data, max_bytes=max_bytes)

    def describe(self) -> str:
        """See ContentStore."""
        return f"the directory {self.path}"

    def _write(self, artifact: Artifact, data: bytes) -> None:
        # A reader sees the whole file or none, also after a crash. An existing file is replaced: it may be damaged.
        descriptor, name = tempfile.mkstemp(prefix=f"{artifact.cid}.", suffix=_UNFINISHED, dir=self.path)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(self.path / artifact.cid)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _failure(self, verb: str, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.describe()} cannot be {verb}: {error.strerror or error}: check the store of the network file"
        )
