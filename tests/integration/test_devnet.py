"""`sonar devnet` starts everything that it says, writes one network file, and leaves nothing behind."""

import json
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from sonar import devnet, processes
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.errors import ConfigError
from sonar.processes import Child, free_port, wait_until
from sonar.storage import open_store
from sonar.units import ether
from sonar.wallet import load_account


def read_document(child: Child, timeout: float = 360) -> dict:
    """The indented JSON document on a child's stdout."""
    text = child.read_line(timeout)
    while text.count("{") != text.count("}"):
        text += "\n" + child.read_line(timeout)
    return json.loads(text)


@pytest.mark.parametrize(
    ("chain", "store", "end"),
    [
        ("embedded", "directory", signal.SIGINT),
        ("ganache", "kubo", signal.SIGINT),
        ("anvil", "directory", signal.SIGTERM),
        ("embedded", "directory", signal.SIGHUP),
    ],
)
def test_the_devnet_command_starts_all_parts_and_ends_without_a_process_left(spawn, tmp_path: Path, chain, store, end):
    child = spawn(
        "devnet", "-m", "sonar", "devnet", "--home", str(tmp_path), "--chain", chain, "--store", store,
        "--rpc-port", "0", "--capsule-port", "0", "--key-bits", "2048", "--json", speaks=True,
    )  # fmt: skip
    summary = read_document(child)
    network = Network.load(tmp_path / "network.json")
    client = SonarClient.from_network(network)
    assert client.address == summary["contract"]
    assert httpx.get(f"{network.capsule_url}/v1/info").json()["address"] == network.capsule
    for path in summary["accounts"].values():
        assert Path(path).stat().st_mode & 0o077 == 0
        assert client.balance(load_account(Path(path)).address) == ether(1000)

    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    assert {process.pid for process in family} >= set(summary["pids"].values())
    family[0].send_signal(end)
    assert child.wait(120) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.parametrize("option", ["rpc", "capsule"])
def test_a_port_that_is_taken_is_refused_before_a_strangers_chain_could_be_used(tmp_path: Path, option):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        options = devnet.DevnetOptions(tmp_path, "embedded", "directory", **{f"{option}_port": port})
        with (
            pytest.raises(devnet.ProcessError, match=rf"port {port} is not free .*\(--{option}-port\)"),
            devnet.start(options, pytest.fail),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_start_keeps_the_accounts_and_makes_a_new_network(tmp_path: Path):
    options = devnet.DevnetOptions(
        home=tmp_path, chain="embedded", store="directory", accounts=("owner",), key_bits=2048
    )
    networks, keys = [], []
    for _ in range(2):
        with devnet.start(options, lambda _: None) as net:
            networks.append(net.network.contract)
            keys.append(net.accounts["owner"].read_text())
    assert keys[0] == keys[1]
    assert networks[0] != networks[1]


def test_a_second_network_in_the_same_home_is_refused_and_leaves_the_first_ones_file(tmp_path: Path):
    options = devnet.DevnetOptions(home=tmp_path, chain="embedded", store="directory", accounts=(), key_bits=2048)
    with devnet.start(options, lambda _: None) as net:
        with pytest.raises(ConfigError, match="another devnet is running with"), devnet.start(options, lambda _: None):
            pass
        assert Network.load(net.network_file) == net.network


def test_the_capsule_keeps_its_identity_after_a_kill(tmp_path: Path):
    options = devnet.DevnetOptions(
        home=tmp_path, chain="embedded", store="directory", accounts=("owner",), key_bits=2048
    )
    with devnet.start(options, lambda _: None) as net:
        before = httpx.get(f"{net.network.capsule_url}/v1/info").json()
        net.children["capsule"].kill()
        net.restart_capsule()
        assert httpx.get(f"{net.network.capsule_url}/v1/info").json() == before


def test_a_service_that_ends_by_itself_ends_the_devnet_with_its_last_words(spawn, tmp_path: Path):
    child = spawn(
        "devnet", "-m", "sonar", "devnet", "--home", str(tmp_path), "--chain", "embedded", "--store", "directory",
        "--rpc-port", "0", "--capsule-port", "0", "--key-bits", "2048", "--json", speaks=True,
    )  # fmt: skip
    psutil.Process(read_document(child)["pids"]["chain"]).kill()
    assert child.wait(120) == 1
    assert "chain ended by itself" in child.last_words()


def test_a_free_port_is_none_that_the_system_gives_to_who_asks_for_any():
    with ExitStack() as taken:
        given = [taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(200)]
        if min(given) < 32_000:
            pytest.skip("this system is set up to give away nearly all ports")
        found = {free_port() for _ in range(50)}
        assert max(found) < min(given)
        taken.enter_context(socket.create_server(("127.0.0.1", found.pop())))


def test_where_no_port_is_free_that_is_said(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(processes, "_PORTS", range(port, port + 1))
        with pytest.raises(devnet.ProcessError, match=f"no port from {port} to {port} is free"):
            free_port()


def test_waiting_for_what_never_happens_ends_with_a_sentence():
    with pytest.raises(devnet.ProcessError, match=r"the end of time did not happen within 0\.1 s"):
        wait_until(lambda: False, timeout=0.1, what="the end of time")


def test_the_ipfs_command_runs_a_node_that_keeps_what_it_is_given_until_sigterm(spawn, tmp_path: Path):
    child = spawn("ipfs", "-m", "sonar", "ipfs", "--repo", str(tmp_path / "repo"), "--port", "0", speaks=True)
    with open_store(f"kubo:{child.read_json(60)['api']}") as store:
        artifact = store.put(b"a gradient")
        assert store.get(artifact, max_bytes=100) == b"a gradient"
    assert child.stop() == 0
