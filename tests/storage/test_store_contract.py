"""What every content store promises, tried on each of them."""

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from sonar.storage import (
    Artifact,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ContentStore,
    DigestMismatchError,
    InvalidCidError,
    check_cid,
    open_store,
)
from sonar.storage.cids import raw_cid
from sonar.units import Cid, digest_of


@pytest.fixture(params=["memory", "directory", "kubo"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    if request.param == "memory":
        return open_store("memory:")
    if request.param == "directory":
        return open_store(f"directory:{tmp_path / 'store'}")
    return request.getfixturevalue("shared_node").store()


@pytest.mark.parametrize("size", [0, 1, 1000, 262_144, 262_145, 1_000_000])
def test_what_is_put_comes_back(store: ContentStore, size: int) -> None:
    data = os.urandom(size)
    artifact = store.put(data)
    assert store.get(artifact, max_bytes=size) == data


def test_an_artifact_carries_the_sha256_of_its_bytes_and_a_valid_cid(store: ContentStore) -> None:
    artifact = store.put(b"digest me")
    assert artifact.digest == sha256(b"digest me").digest()
    assert check_cid(artifact.cid) == artifact.cid


def test_the_same_bytes_are_the_same_artifact(store: ContentStore) -> None:
    assert store.put(b"twice") == store.put(b"twice")
    assert store.put(b"twice") != store.put(b"once")


def test_an_artifact_larger_than_allowed_is_refused(store: ContentStore) -> None:
    artifact = store.put(b"x" * 1001)
    with pytest.raises(ArtifactTooLargeError, match="1000 bytes"):
        store.get(artifact, max_bytes=1000)


def test_an_unknown_artifact_is_not_found_and_may_come_later(store: ContentStore) -> None:
    store.put(b"something else")
    data = os.urandom(20)
    with pytest.raises(ArtifactNotFoundError) as caught:
        store.get(Artifact(raw_cid(data), digest_of(data)), max_bytes=20)
    assert caught.value.transient


def test_bytes_with_another_digest_than_committed_are_refused(store: ContentStore) -> None:
    artifact = store.put(b"not what was promised")
    with pytest.raises(DigestMismatchError) as caught:
        store.get(Artifact(artifact.cid, digest_of(b"promised")), max_bytes=100)
    assert not caught.value.transient


@pytest.mark.parametrize(
    "cid", ["", "..", "../secret", "/etc/passwd", "b", "\N{SNOWMAN}" * 59, "a" * 10**6, "bafkrei" + "\n" * 52]
)
def test_a_hostile_cid_is_refused_before_anything_is_asked(store: ContentStore, cid: str) -> None:
    with pytest.raises(InvalidCidError) as caught:
        store.get(Artifact(Cid(cid), digest_of(b"")), max_bytes=100)
    assert len(str(caught.value)) < 1000


def test_several_threads_share_a_store(store: ContentStore) -> None:
    contents = [os.urandom(2000) for _ in range(24)]

    def there_and_back(data: bytes) -> bytes:
        return store.get(store.put(data), max_bytes=2000)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, contents)) == contents


def test_a_store_can_be_a_context_and_be_closed_twice(store: ContentStore) -> None:
    with store as same:
        assert same is store
        same.put(b"inside")
    store.close()


def test_a_store_describes_itself_for_people(store: ContentStore) -> None:
    assert store.describe().startswith("the ")
