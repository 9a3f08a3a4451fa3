"""A few bytes by which a content store shows that it answers."""

from contextlib import suppress
from typing import Final

from sonar.storage import ArtifactNotFoundError, ContentStore
from sonar.storage.base import Artifact
from sonar.storage.cids import raw_cid
from sonar.units import digest_of

__all__ = ["PROBE", "ask_store"]

PROBE: Final = b"A Capsule keeps this to see whether its content store answers."


def ask_store(store: ContentStore) -> None:
    """Raises StorageError unless the store gives and takes a few bytes.

    It is asked to give them first: to put something where a directory is not mounted would make it anew, and empty.
    """
    with suppress(ArtifactNotFoundError):  # nobody has put them yet
        store.get(Artifact(raw_cid(PROBE), digest_of(PROBE)), max_bytes=len(PROBE))
    store.put(PROBE)
