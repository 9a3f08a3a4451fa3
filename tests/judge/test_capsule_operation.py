"""`capsule serve` as an operator runs it: settings from a file, metrics apart, a log for machines, a proxy in front."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from capsule.client import CapsuleClient
from sonar.chain.deploy import Deployment
from sonar.config import Network
from sonar.processes import free_port
from sonar.protocol.messages import Domain

PASSPHRASE = "correct horse"
SETTINGS = """
port = 0
metrics_port = 0
poll = 0.1
log_format = "json"
trusted_proxies = ["127.0.0.1"]
requests_per_minute = 20
"""


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_")}
    return {**clean, "SONAR_CAPSULE_PASSPHRASE": PASSPHRASE}


def capsule(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "capsule", *arguments]


@pytest.fixture
def network(tmp_path: Path, chain_url: str, deployed: Deployment, client_for: Any) -> Path:
    return Network(
        rpc_url=chain_url,
        chain_id=client_for(None).chain_id,
        contract=deployed.address,
        start_block=deployed.block,
        store=f"directory:{tmp_path / 'store'}",
    ).save(tmp_path / "network.json")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    command = capsule("init", "--home", str(home), "--key-bits", "512", "--allow-insecure-small-key")
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    return home


@pytest.fixture
def home(tmp_path: Path, template: Path) -> Path:
    shutil.copytree(template, tmp_path / "home")
    (tmp_path / "home" / "capsule.toml").write_text(SETTINGS)
    return tmp_path / "home"


@pytest.fixture
def serve(home: Path, network: Path) -> Iterator[Callable[..., Any]]:
    running = []

    def start(*more: str) -> tuple[Any, subprocess.Popen[str]]:
        command = capsule("serve", "--home", str(home), "--network", str(network), *more)
        with (home / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (home / "log").read_text()
        return json.loads(line), process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


def test_metrics_have_a_port_of_their_own_and_the_log_is_json(
    home: Path, network: Path, serve: Callable[..., Any], new_account: Callable[[], LocalAccount]
) -> None:
    facts, process = serve()
    found, account = Network.load(network), new_account()
    domain = Domain(found.chain_id, found.contract)  # type: ignore[arg-type]
    with CapsuleClient(facts["url"], domain, account, attester=facts["address"]) as client:
        client.new_key()
        assert client.audit_head().length > 0
    metrics = httpx.get(facts["metrics"], timeout=10).text
    assert 'sonar_capsule_requests_total{route="/v1/keys",status="200"} 1.0' in metrics
    assert "sonar_capsule_followed_block" in metrics
    assert httpx.get(f"{facts['url']}/metrics", timeout=10).status_code == 404
    assert httpx.get(f"{facts['url']}/v1/ready", timeout=10).json() == {"ready": True}
    stop(process)
    told = [json.loads(line) for line in (home / "log").read_text().splitlines()]
    [keys] = [event for event in told if event.get("route") == "/v1/keys"]
    assert (keys["status"], keys["method"], keys["logger"]) == (200, "POST", "capsule.http")
    assert len(keys["request"]) == 16
    assert account.address not in (home / "log").read_text()


def test_only_a_trusted_proxy_says_where_a_request_comes_from(serve: Callable[..., Any]) -> None:
    facts, process = serve()
    url = f"{facts['url']}/v1/info"

    def ask(forwarded: str) -> int:
        return httpx.get(url, headers={"X-Forwarded-For": forwarded}, timeout=10).status_code

    assert [ask("192.0.2.1") for _ in range(21)] == [200] * 20 + [429]
    assert ask("192.0.2.2") == 200
    assert ask("192.0.2.2, 192.0.2.1") == 429, "what the client says of itself does not count, the proxy's word does"
    stop(process)
    facts, process = serve("--trusted-proxy", "192.0.2.254")
    url = f"{facts['url']}/v1/info"
    assert [ask(f"192.0.2.{number}") for number in range(21)] == [200] * 20 + [429]
    stop(process)


def test_a_metrics_port_that_is_taken_is_told_and_nothing_is_served(home: Path, network: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = capsule("serve", "--home", str(home), "--network", str(network), "--metrics-port", port)
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, "--metrics-port" in done.stderr) == (8, True)
    assert done.stdout == ""


def test_a_port_that_is_taken_is_told_and_two_that_start_at_once_do_not_both_serve(
    home: Path, network: Path, tmp_path: Path
) -> None:
    shutil.copytree(home, tmp_path / "second")
    port = str(free_port())
    commands = [
        capsule("serve", "--home", str(one), "--network", str(network), "--port", port)
        for one in (home, tmp_path / "second")
    ]
    both = [
        subprocess.Popen(one, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in commands
    ]
    try:
        while all(process.poll() is None for process in both):
            with suppress(subprocess.TimeoutExpired):
                both[0].wait(0.05)
        (lost,) = (process for process in both if process.poll() is not None)
        said = lost.communicate()[1]
        assert (lost.returncode, f"cannot listen on 127.0.0.1:{port}" in said, "Traceback" in said) == (8, True, False)
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_a_wrong_setting_keeps_it_from_starting(home: Path, network: Path) -> None:
    (home / "capsule.toml").write_text("prot = 1\n")
    command = capsule("serve", "--home", str(home), "--network", str(network))
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, "capsule.toml:1" in done.stderr) == (3, True)
