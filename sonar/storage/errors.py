"""What can go wrong between an artifact and its store.

    StorageError
    |-- InvalidCidError         the name is not a CID that Sonar writes
    |-- ArtifactNotFoundError   the store does not have it (yet)              transient
    |-- ArtifactTooLargeError   it is larger than the caller allows
    |-- DigestMismatchError     its bytes are not what the chain committed to
    |-- StoreUnavailableError   the store cannot be reached, or failed        transient
    `-- StoreTimeoutError       the store did not answer in time              transient

`transient` errors may end by themselves, so waiting and asking again makes sense; the others never do.
"""

from typing import ClassVar

from sonar.errors import SonarError

__all__ = [
    "ArtifactNotFoundError",
    "ArtifactTooLargeError",
    "DigestMismatchError",
    "InvalidCidError",
    "StorageError",
    "StoreTimeoutError",
    "StoreUnavailableError",
]


class StorageError(SonarError):
    """An artifact could not be stored or fetched."""

    exit_code = 5
    transient: ClassVar[bool] = False


class InvalidCidError(StorageError):
    """The text is not a CID that Sonar writes."""


class ArtifactNotFoundError(StorageError):
    """The store does not have the artifact (yet)."""

    transient = True


class ArtifactTooLargeError(StorageError):
    """The artifact is larger than the caller allows."""


class DigestMismatchError(StorageError):
    """The bytes under this CID are not those of the digest."""


class StoreUnavailableError(StorageError):
    """The store cannot be reached, or failed."""

    transient = True


class StoreTimeoutError(StorageError):
    """The store did not answer in time."""

    transient = True
