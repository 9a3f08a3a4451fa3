"""The embedded IPFS node as users meet it: a process that answers the Kubo RPC."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sonar.storage import Artifact, ArtifactNotFoundError, StorageError, StoreUnavailableError
from sonar.storage.cids import RAW_BLOCK, raw_cid
from sonar.storage.embedded import _configure
from sonar.storage.kubo import KuboStore
from sonar.units import digest_of

SECONDS = 60
Node = Any  # of conftest, which cannot be imported
StartNode = Callable[..., Node]
RefusedStart = Callable[..., tuple[int, bytes, bytes]]


def nowhere() -> Artifact:
    """Content that no node has."""
    data = os.urandom(16)
    return Artifact(raw_cid(data), digest_of(data))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def request(node: Node, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(node.api.removeprefix("http://"), timeout=SECONDS)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def failing_get(store: KuboStore, artifact: Artifact) -> StorageError | None:
    try:
        store.get(artifact, max_bytes=100)
    except StorageError as error:
        return error
    return None


def add_directory(repo: Path, folder: Path) -> str:
    """The CID of a folder, added by the library itself, in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from sonar.storage.embedded import EmbeddedNode;"
        "from sonar.storage.cids import upgraded_cid; node = EmbeddedNode(Path(sys.argv[1]));"
        "print(upgraded_cid(node.add(Path(sys.argv[2])))); node.close()"
    )
    command = [sys.executable, "-c", code, str(repo), str(folder)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=SECONDS).stdout.strip()


def test_two_nodes_exchange_a_block(start_node: StartNode) -> None:
    first, second = start_node("first"), start_node("second", "--deadline", "5")
    data = os.urandom(700_000)
    artifact = first.store().put(data)
    assert second.rpc("swarm/connect", first.swarm[0])["Strings"] == [f"connect {first.peer} success"]
    assert [each["Peer"] for each in second.rpc("swarm/peers")["Peers"]] == [first.peer]
    assert second.store().get(artifact, max_bytes=len(data)) == data
    assert first.terminate() == 0
    assert second.store().get(artifact, max_bytes=len(data)) == data


def test_a_peer_that_was_gone_is_found_again(start_node: StartNode) -> None:
    node, other = start_node("node"), start_node("other")
    port = other.swarm[0].split("/")[4]
    node.rpc("swarm/connect", other.swarm[0])
    other.process.kill()
    other.process.wait(SECONDS)
    until(lambda: not node.rpc("swarm/peers")["Peers"])
    again = start_node("other", "--swarm-port", port)
    artifact = again.store().put(b"after its restart")
    until(lambda: [each["Peer"] for each in node.rpc("swarm/peers")["Peers"]] == [again.peer])
    assert node.store().get(artifact, max_bytes=100) == b"after its restart"


def test_content_that_arrives_while_somebody_waits_is_delivered(start_node: StartNode) -> None:
    first, second = start_node("first"), start_node("second")
    second.rpc("swarm/connect", first.swarm[0])
    data = os.urandom(1000)
    artifact = first.store().put(b"the same node, later")
    late = start_node("third").store().put(data)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.store().get, late, max_bytes=1000)
        first.store().put(data)
        assert waiting.result(SECONDS) == data
    assert first.store().get(artifact, max_bytes=100)


def test_a_search_ends_at_the_nodes_deadline(start_node: StartNode) -> None:
    node = start_node("node", "--deadline", "0.3")
    began = time.monotonic()
    with pytest.raises(ArtifactNotFoundError):
        node.store(timeout=30).get(nowhere(), max_bytes=100)
    assert time.monotonic() - began < 5


def test_a_search_ends_at_the_deadline_that_the_client_asks_for(start_node: StartNode) -> None:
    node = start_node()
    began = time.monotonic()
    with pytest.raises(ArtifactNotFoundError):
        # The node gives up a fifth of that before the client would, which a busy machine may need to hear of it.
        node.store(timeout=4).get(nowhere(), max_bytes=100)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_while_a_cat_is_pending(start_node: StartNode, number: int) -> None:
    node = start_node()
    artifact, store = nowhere(), node.store(timeout=60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failing_get, store, artifact)
        until(lambda: list(node.repo.glob("cat.*")))
        began = time.monotonic()
        node.process.send_signal(number)
        assert node.process.wait(SECONDS) == 0
        assert time.monotonic() - began < 5
        assert isinstance(waiting.result(SECONDS), StoreUnavailableError)


def test_a_node_keeps_its_content_and_identity_over_a_restart(start_node: StartNode) -> None:
    node = start_node()
    artifact = node.store().put(b"kept")
    assert node.terminate() == 0
    again = start_node()
    assert again.peer == node.peer
    assert again.store().get(artifact, max_bytes=4) == b"kept"


def test_small_content_is_found_by_its_digest_alone_and_large_content_as_in_kubo_is_not(start_node: StartNode) -> None:
    node = start_node("node", "--deadline", "0.5")
    small, large = os.urandom(RAW_BLOCK), os.urandom(RAW_BLOCK + 1)
    for data in (small, large):
        assert node.store().put(data).cid != raw_cid(data)
    node.process.kill()
    node.process.wait(SECONDS)
    store = start_node("node", "--deadline", "0.5").store()
    assert store.get(Artifact(raw_cid(small), digest_of(small)), max_bytes=RAW_BLOCK) == small
    with pytest.raises(ArtifactNotFoundError):
        store.get(Artifact(raw_cid(large), digest_of(large)), max_bytes=RAW_BLOCK + 1)


def test_content_survives_a_kill(start_node: StartNode) -> None:
    node = start_node()
    artifact = node.store().put(b"kept")
    node.process.kill()
    node.process.wait(SECONDS)
    leftover = node.repo.absolute() / "cat.leftover"
    leftover.touch()
    assert start_node().store().get(artifact, max_bytes=4) == b"kept"
    assert not leftover.exists()


def test_a_repository_in_use_is_refused_with_a_clear_message(
    start_node: StartNode, refused_start: RefusedStart
) -> None:
    code, out, talk = refused_start(start_node().repo)
    assert (code, out) == (5, b"")
    assert b"does another process use its repository?" in talk


def test_a_taken_port_is_refused_with_a_clear_message(
    start_node: StartNode, refused_start: RefusedStart, tmp_path: Path
) -> None:
    port = start_node().api.rpartition(":")[2]
    code, out, talk = refused_start(tmp_path / "other", "--port", port)
    assert (code, out) == (5, b"")
    assert f"port {port} cannot be used".encode() in talk


def test_a_private_node_listens_on_the_loopback_device_only_and_calls_nobody(start_node: StartNode) -> None:
    node = start_node()
    sockets = psutil.Process(node.process.pid).net_connections("inet")
    assert {each.laddr.ip for each in sockets} == {"127.0.0.1"}
    assert {each.status for each in sockets} == {psutil.CONN_LISTEN}
    config = json.loads((node.repo / "config").read_bytes())
    assert config["Bootstrap"] == []
    assert config["Routing"]["Type"] == "none"
    assert (node.repo / "config").stat().st_mode & 0o077 == 0


def test_only_a_public_node_gets_kubos_own_addresses_back(start_node: StartNode) -> None:
    node = start_node()
    node.terminate()
    _configure(node.repo, public=True, swarm_port=0)
    assert json.loads((node.repo / "config").read_bytes())["Bootstrap"]
    _configure(node.repo, public=False, swarm_port=0)
    assert json.loads((node.repo / "config").read_bytes())["Bootstrap"] == []


def test_more_searches_in_vain_than_the_node_can_hold_do_not_stop_it(start_node: StartNode) -> None:
    node, other = start_node("node", "--deadline", "0.2"), start_node("other")
    node.rpc("swarm/connect", other.swarm[0])
    store = node.store()
    kept = store.put(b"still here")
    with ThreadPoolExecutor(16) as pool:
        errors = list(pool.map(lambda _: failing_get(store, nowhere()), range(100)))
    assert all(isinstance(each, StorageError) for each in errors)

    def found(content: Artifact, data: bytes) -> bool:
        with suppress(ArtifactNotFoundError):  # a busy machine may take longer for it than the node looks
            return store.get(content, max_bytes=100) == data
        return False

    until(lambda: found(kept, b"still here"))
    late = other.store().put(b"from another node")
    until(lambda: node.rpc("swarm/peers")["Peers"])
    until(lambda: found(late, b"from another node"))
    assert len(list(node.repo.glob("cat.*"))) <= 32


def test_a_search_for_the_same_content_is_made_once(start_node: StartNode) -> None:
    node = start_node("node", "--deadline", "5")  # so long that all of them have asked by then
    artifact, store = nowhere(), node.store()
    seen: set[str] = set()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(failing_get, store, artifact) for _ in range(8)]
        while wait(waiting, timeout=0.02).not_done:
            seen |= {path.name for path in node.repo.glob("cat.*")}
    assert len(seen) == 1


def test_a_directory_is_refused_and_leaves_nothing_behind(start_node: StartNode, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").write_text("content")
    cid = add_directory(tmp_path / "node", folder)
    node = start_node()
    before = set(node.repo.iterdir())
    status, body = request(node, "POST", f"/api/v0/cat?arg={cid}")
    assert status == 500
    assert "directory" in json.loads(body)["Message"]
    assert set(node.repo.iterdir()) == before


def test_a_part_of_the_content_can_be_asked_for(shared_node: Node) -> None:
    cid = shared_node.store().put(b"0123456789").cid
    assert request(shared_node, "POST", f"/api/v0/cat?arg={cid}&offset=2&length=3") == (200, b"234")
    assert request(shared_node, "POST", f"/api/v0/cat?arg={cid}&offset=8") == (200, b"89")
    assert request(shared_node, "POST", f"/api/v0/cat?arg={cid}&offset=20&length=3") == (200, b"")


def test_content_is_pinned_and_unpinned(shared_node: Node) -> None:
    cid = shared_node.store().put(b"to be pinned").cid
    assert shared_node.rpc("pin/rm", cid) == {"Pins": [cid]}
    assert request(shared_node, "POST", f"/api/v0/pin/rm?arg={cid}")[0] == 500
    assert shared_node.rpc("pin/add", cid) == {"Pins": [cid]}
    assert request(shared_node, "POST", f"/api/v0/pin/add?arg={nowhere().cid}&timeout=200ms")[0] == 500


def test_a_node_says_who_and_what_it_is(shared_node: Node) -> None:
    assert shared_node.rpc("id")["ID"] == shared_node.peer
    assert shared_node.rpc("id")["Addresses"] == shared_node.swarm
    assert shared_node.rpc("version")["Version"].startswith("0.")


def test_connecting_to_a_node_that_is_not_there_fails_at_once(shared_node: Node) -> None:
    status, body = request(
        shared_node, "POST", f"/api/v0/swarm/connect?arg=/ip4/127.0.0.1/tcp/9/p2p/{shared_node.peer[:-1]}x"
    )
    assert status == 500
    assert b"no node answers" in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v0/repo/gc", 404),
        ("/api/v0/", 404),
        ("/", 404),
        ("/cat", 404),
        ("/api/v0/cat", 400),
        ("/api/v0/cat?arg=../../etc/passwd", 400),
        (f"/api/v0/cat?arg={raw_cid(b'x')}&arg={raw_cid(b'y')}", 400),
        (f"/api/v0/cat?arg={raw_cid(b'x')}&length=-1", 400),
        (f"/api/v0/cat?arg={raw_cid(b'x')}&timeout=soon", 400),
        ("/api/v0/swarm/connect?arg=--help", 400),
        ("/api/v0/add", 400),
        ("/api/v0/id?" + "a=1&" * 100, 400),
    ],
)
def test_a_bad_request_gets_an_error_in_kubos_form(shared_node: Node, path: str, status: int) -> None:
    answered, body = request(shared_node, "POST", path)
    assert answered == status
    assert set(json.loads(body)) == {"Message", "Code", "Type"}


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "["}])
def test_web_pages_are_refused(shared_node: Node, headers: dict[str, str]) -> None:
    assert request(shared_node, "POST", "/api/v0/id", **headers)[0] in {400, 403}


def test_reading_by_get_is_refused_as_kubo_does(shared_node: Node) -> None:
    assert request(shared_node, "GET", "/api/v0/id")[0] == 501


def test_a_client_that_goes_away_in_the_middle_harms_nobody(shared_node: Node) -> None:
    store = shared_node.store()
    artifact = store.put(os.urandom(5_000_000))
    for _ in range(5):
        with pytest.raises(StorageError):
            store.get(artifact, max_bytes=10)
    assert len(store.get(artifact, max_bytes=5_000_000)) == 5_000_000
    assert shared_node.process.poll() is None


def test_nothing_of_the_requests_is_left_in_the_repository(shared_node: Node) -> None:
    shared_node.store().put(b"no traces")
    until(lambda: not list(shared_node.repo.glob("add.*")))
    assert (shared_node.repo / "kubo.log").resolve() == Path(os.devnull)


def test_many_clients_at_once_are_all_answered(shared_node: Node) -> None:
    store, contents = shared_node.store(), [os.urandom(50_000) for _ in range(60)]
    before = threading.active_count()
    with ThreadPoolExecutor(16) as pool:
        artifacts = list(pool.map(store.put, contents))
        assert list(pool.map(lambda each: store.get(each, max_bytes=50_000), artifacts)) == contents
    assert threading.active_count() < before + 10
