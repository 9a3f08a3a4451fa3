"""The directory store: damage, missing and unusable directories, other files in it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sonar.storage import ArtifactNotFoundError, DigestMismatchError, StoreUnavailableError
from sonar.storage.cids import raw_cid
from sonar.storage.directory import DirectoryStore


def test_a_damaged_file_is_detected_and_put_repairs_it(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    artifact = store.put(b"precious")
    (tmp_path / artifact.cid).write_bytes(b"damaged")
    with pytest.raises(DigestMismatchError, match=artifact.digest.hex()):
        store.get(artifact, max_bytes=100)
    store.put(b"precious")
    assert store.get(artifact, max_bytes=100) == b"precious"


def test_files_hold_the_content_under_its_cid_and_nothing_else_is_left(tmp_path: Path) -> None:
    artifact = DirectoryStore(tmp_path / "new" / "store").put(b"content")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new" / "store").iterdir()} == {
        raw_cid(b"content"): b"content"
    }
    assert artifact.cid == raw_cid(b"content")


def test_two_stores_on_one_directory_share_their_content(tmp_path: Path) -> None:
    artifact = DirectoryStore(tmp_path).put(b"shared")
    assert DirectoryStore(str(tmp_path)).get(artifact, max_bytes=6) == b"shared"


def test_writers_of_the_same_content_never_show_a_reader_half_of_it(tmp_path: Path) -> None:
    store, data = DirectoryStore(tmp_path), b"x" * 300_000
    artifact = store.put(data)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(store.put, data) for _ in range(20)]
        while not all(each.done() for each in writes):
            assert store.get(artifact, max_bytes=len(data)) == data


def test_a_missing_directory_is_the_stores_fault_and_a_missing_file_is_not(tmp_path: Path) -> None:
    artifact = DirectoryStore(tmp_path / "other").put(b"elsewhere")
    with pytest.raises(StoreUnavailableError, match="missing"):
        DirectoryStore(tmp_path / "missing").get(artifact, max_bytes=100)
    with pytest.raises(ArtifactNotFoundError):
        DirectoryStore(tmp_path).get(artifact, max_bytes=100)


def test_a_file_in_place_of_the_directory_makes_the_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreUnavailableError, match="file"):
        DirectoryStore(tmp_path / "file").put(b"content")
