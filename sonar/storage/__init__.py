"""Content stores: Kubo over its RPC, a directory, memory. Every `get` verifies the committed digest."""

from sonar.storage.base import Artifact, ContentStore
from sonar.storage.cids import check_cid
from sonar.storage.errors import (
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    DigestMismatchError,
    InvalidCidError,
    StorageError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from sonar.storage.opening import open_store

__all__ = [
    "Artifact",
    "ArtifactNotFoundError",
    "ArtifactTooLargeError",
    "ContentStore",
    "DigestMismatchError",
    "InvalidCidError",
    "StorageError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "check_cid",
    "open_store",
]
