"""scripts/deploy.py on chains from npm: from the shell and from Brownie, killed on the way, on the wrong chain."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from eth_account import Account
from web3 import Web3

from sonar.chain.bytecode import SONAR
from sonar.chain.client import SonarClient
from sonar.chain.deployments import Deployments
from sonar.config import Network
from sonar.devnet_services import start_chain
from sonar.processes import wait_until
from sonar.wallet import create_key_file, load_account

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "deploy.py"
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()
SECONDS = 120


@dataclass
class Place:
    """A chain, an account that can pay, and a home: what somebody who deploys has."""

    web3: Web3
    url: str
    home: Path
    account: Path
    env: dict[str, str]

    def run(self, *arguments: str, network: str = "live") -> subprocess.CompletedProcess[str]:
        """Runs the script to its end."""
        return subprocess.run(self.command(*arguments, network=network), env=self.env, capture_output=True, text=True,
                              timeout=SECONDS)  # fmt: skip

    def command(self, *arguments: str, network: str = "live") -> list[str]:
        return [sys.executable, str(SCRIPT), "--network", network, *arguments]

    def deploy(self, *arguments: str) -> str:
        """Deploys, and answers the last address that the script prints."""
        done = self.run("--account", str(self.account), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def brownie(self, *arguments: str, network: str = "live") -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "deploy-brownie"), network, *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=SECONDS)

    def history(self, contract="Sonar"):
        return Deployments.load(self.home / "deployments.json").history(self.web3.eth.chain_id, contract)

    def paid(self) -> int:
        """How many transactions the account has paid for."""
        return self.web3.eth.get_transaction_count(load_account(self.account).address)


@pytest.fixture(scope="module", params=["anvil", "ganache"])
def any_node(request, tmp_path_factory):
    yield from running(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def anvil_node(tmp_path_factory):
    yield from running("anvil", tmp_path_factory)


def running(chain, tmp_path_factory):
    with ExitStack() as stack:
        child, url = start_chain(chain, 0, tmp_path_factory.mktemp(chain), stack)
        web3 = Web3(Web3.HTTPProvider(url))
        wait_until(web3.is_connected, timeout=30, what="the chain's first answer", child=child)
        yield web3, url


@pytest.fixture
def place(any_node, tmp_path):
    return make_place(*any_node, tmp_path)


@pytest.fixture
def anvil(anvil_node, tmp_path):
    return make_place(*anvil_node, tmp_path)


def make_place(web3, url, tmp_path) -> Place:
    file = tmp_path / "deployer.key"
    address = create_key_file(file).address
    sent = web3.eth.send_transaction({"from": web3.eth.accounts[0], "to": address, "value": 10**19})
    web3.eth.wait_for_transaction_receipt(sent)
    dropped = ("SONAR_DEPLOYMENTS", "SONAR_NETWORK")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"SONAR_HOME": str(tmp_path), "SONAR_RPC_URL": url, "SONAR_CHAIN_ID": str(web3.eth.chain_id)}
    return Place(web3, url, tmp_path, file, env)


def test_a_network_gets_the_contract_once_and_the_python_packages_find_it(place, monkeypatch):
    address = place.deploy()
    record = place.history().current
    code = bytes(place.web3.eth.get_code(address))
    assert (record.address, code) == (address, SONAR.runtime_code(place.web3.eth.chain_id, address))
    assert place.deploy() == address
    assert place.paid() == 1
    monkeypatch.setenv("SONAR_HOME", str(place.home))
    short = {"rpc_url": place.url, "chain_id": place.web3.eth.chain_id, "store": "memory:"}
    (place.home / "network.json").write_text(json.dumps(short))
    assert SonarClient.from_network(Network.load()).address == address
    assert place.deploy("--again") != address
    assert (place.history().previous, place.paid()) == ((record,), 2)


def test_a_committee_is_deployed_beside_the_contract_that_is_there(place):
    sonar = place.deploy()
    members = [Account.create().address for _ in range(3)]
    committee = ("--committee", *members, "--threshold", "2")
    done = place.run("--account", str(place.account), *committee)
    assert done.returncode == 0, done.stderr
    first, second = (line.split() for line in done.stdout.splitlines())
    assert (first, second[0], place.paid()) == (["Sonar", sonar], "CapsuleCommittee", 2)
    assert sorted(place.history("CapsuleCommittee").current.members) == sorted(members)
    verified = place.run("--verify", second[1], *committee)
    assert (verified.returncode, verified.stdout) == (0, f"CapsuleCommittee {second[1]}\n")
    refused = place.run("--verify", second[1], "--committee", *members, "--threshold", "1")
    assert (refused.returncode, "its immutable threshold is 0x" in refused.stderr) == (4, True)


def test_brownie_and_the_shell_put_the_same_bytes_on_the_chain(anvil):
    before = anvil.web3.provider.make_request("evm_snapshot", [])["result"]
    address = anvil.deploy()
    code = bytes(anvil.web3.eth.get_code(address))
    sent = bytes(anvil.web3.eth.get_transaction(anvil.history().current.transaction)["input"])
    assert anvil.web3.provider.make_request("evm_revert", [before])["result"] is True
    assert anvil.web3.eth.get_code(address) == b""
    file = anvil.home / "brownie.json"
    done = anvil.brownie("--account", str(anvil.account), "--deployments", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    record = Deployments.load(file).history(anvil.web3.eth.chain_id).current
    assert f"Sonar {address}" in done.stdout.splitlines()
    assert (record.address, bytes(anvil.web3.eth.get_code(address))) == (address, code)
    assert bytes(anvil.web3.eth.get_transaction(record.transaction)["input"]) == sent == SONAR.creation_code()


def test_brownie_refuses_another_chain_and_passes_the_exit_code_on(anvil):
    anvil.env["SONAR_CHAIN_ID"] = "5"
    done = anvil.brownie("--account", str(anvil.account))
    assert (done.returncode, anvil.paid()) == (4, 0)
    assert "the node serves chain 31337, not 5" in done.stderr


def test_brownie_names_a_network_that_cannot_be_used_as_the_shell_does(anvil):
    unknown = anvil.brownie("--account", "k", network="goerli")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert unknown.stderr.splitlines()[-1].startswith("Error: brownie-config.yaml has no network 'goerli' with a host")
    del anvil.env["SONAR_RPC_URL"]
    unset = anvil.brownie("--account", "k")
    assert (unset.returncode, unset.stdout) == (3, "")
    assert unset.stderr.splitlines()[-1] == (
        "Error: the host of network 'live' is in the environment variable SONAR_RPC_URL: set it"
    )


@pytest.mark.parametrize(("network", "chain_id"), [("sepolia", 11155111), ("mainnet", 1), ("live", 5)])
def test_another_chain_than_configured_is_refused_before_anything_is_paid(anvil, network, chain_id):
    anvil.env["SONAR_CHAIN_ID"] = "5"
    done = anvil.run("--account", str(anvil.account), network=network)
    assert (done.returncode, anvil.paid()) == (4, 0)
    assert done.stderr == (
        f"Error: the node serves chain 31337, not {chain_id}: check the network's host and chain id\n"
    )
    assert not (anvil.home / "deployments.json").exists()


def test_a_deployment_killed_while_it_waits_for_its_block_is_found_again(anvil):
    ask = anvil.web3.provider.make_request
    ask("evm_setAutomine", [False])
    try:
        command = anvil.command("--account", str(anvil.account))
        with subprocess.Popen(command, env=anvil.env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr.readline().startswith("sent 0x")
            process.kill()
            process.wait(SECONDS)
        transaction = anvil.history().pending.transaction
        assert anvil.web3.eth.get_transaction(transaction)["blockNumber"] is None
        late = anvil.run("--account", str(anvil.account), "--timeout", "0.2")
        assert (late.returncode, "is in no block after 0.2 s" in late.stderr) == (4, True)
        ask("evm_mine", [])
        address = anvil.deploy()
    finally:
        ask("evm_setAutomine", [True])
    record = anvil.history().current
    assert (record.address, record.transaction, anvil.paid()) == (address, transaction, 1)
    assert anvil.history().pending is None


def test_an_interrupted_deployment_says_so_and_is_finished_by_the_next_run(anvil):
    ask = anvil.web3.provider.make_request
    ask("evm_setAutomine", [False])
    try:
        command = anvil.command("--account", str(anvil.account))
        with subprocess.Popen(command, env=anvil.env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr.readline().startswith("sent 0x")
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=SECONDS)[1]
        assert (process.returncode, said) == (130, "interrupted: run it again to finish\n")
        ask("evm_mine", [])
        anvil.deploy()
    finally:
        ask("evm_setAutomine", [True])
    assert anvil.paid() == 1


def test_verifying_names_what_is_wrong_and_what_was_not_verified(anvil):
    address = anvil.deploy()
    transaction = anvil.history().current.transaction
    known = anvil.run("--verify", address.lower())
    assert (known.returncode, "so is the constructor" in known.stderr) == (0, True)
    (anvil.home / "deployments.json").unlink()
    unknown = anvil.run("--verify", address)
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "Error: the constructor was not verified, so the storage may hold anything" in unknown.stderr
    given = anvil.run("--verify", address, "--transaction", transaction)
    assert (given.returncode, "so is the constructor" in given.stderr) == (0, True)
    code = bytearray(anvil.web3.eth.get_code(address))
    code[4711] ^= 1
    anvil.web3.provider.make_request("anvil_setCode", [address, "0x" + code.hex()])
    tampered = anvil.run("--verify", address, "--transaction", transaction)
    assert tampered.returncode == 4
    assert f"byte 4711 is 0x{code[4711]:02x} instead of 0x{code[4711] ^ 1:02x}" in tampered.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--account is required"),
        (["--account", "k", "--committee", "0x12"], 2, "come together"),
        (["--account", "k", "--transaction", "0x12"], 2, "--transaction comes with --verify"),
        (["--verify", "0x" + 40 * "1", "--account", "k"], 2, "leave out --account and --again"),
        (["--verify", "0x" + 40 * "1", "--again"], 2, "leave out --account and --again"),
        (["--account", "k", "--timeout", "0"], 2, "0 is not a time to wait: give a number of seconds above 0"),
        (["--account", "k", "--timeout", "nan"], 2, "nan is not a time to wait"),
        (["--account", "k", "--timeout", "inf"], 2, "inf is not a time to wait"),
        (["--account", "k", "--timeout", "soon"], 2, "soon is not a time to wait"),
        (["--verify", "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"], 3, "is mistyped"),
        (["--account", "no.key"], 3, "no account file at no.key"),
        (["--account", "k", "--committee", "0x12", "--threshold", "1"], 3, "'0x12' is not an address"),
        (["--verify", "0x12"], 3, "'0x12' is not an address"),
        (["--verify", "0x" + 40 * "1", "--transaction", "0x12"], 3, "no transaction's hash"),
        (["--verify", "0x" + 40 * "1"], 4, "no contract is at"),
    ],
)
def test_a_wrong_option_is_an_error_in_one_line(anvil, arguments, code, said):
    done = anvil.run(*arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_network_that_cannot_be_used_is_named_without_its_address(anvil):
    def said(network: str, **variables: str) -> str:
        env = {name: value for name, value in anvil.env.items() if not name.startswith("SONAR_RPC")} | variables
        command = anvil.command("--account", "k", network=network)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 3
        return done.stderr

    assert "no network 'goerli' with a host: choose one of development, ganache, anvil, sepolia" in said("goerli")
    assert "the host of network 'sepolia' is in the environment variable SONAR_RPC_URL: set it" in said("sepolia")
    assert "secret" not in said("live", SONAR_RPC_URL="wss://node.example/secret")
    url = {"SONAR_RPC_URL": anvil.url}
    assert "the chainid of network 'live' is 'one': give a whole number" in said("live", SONAR_CHAIN_ID="one", **url)


def test_the_configuration_names_no_provider_and_holds_no_secret():
    networks = yaml.safe_load((ROOT / "brownie-config.yaml").read_text())["networks"]
    hosts = {name: entry["host"] for name, entry in networks.items() if "host" in entry}
    assert {"development", "ganache", "anvil", "sepolia", "mainnet", "live"} <= set(hosts)
    assert all(re.fullmatch(r"\$\w+|http://127\.0\.0\.1:\d+", host) for host in hosts.values())


def test_the_documents_commands_do_what_it_says(anvil):
    shell, brownie, committee, verify = documented(".venv/bin/python scripts/deploy.py", "scripts/deploy-brownie")
    said = run_documented(anvil, shell)
    address, transaction = said.split()[-1], anvil.history().current.transaction
    assert f"Sonar {address}" in run_documented(anvil, brownie).splitlines()
    assert run_documented(anvil, committee).splitlines()[0] == f"Sonar {address}"
    assert anvil.history("CapsuleCommittee").current.threshold == 2
    assert run_documented(anvil, verify, ADDRESS=address, TRANSACTION=transaction) == f"Sonar {address}\n"
    assert anvil.paid() == 2


def documented(*starts: str) -> list[list[str]]:
    """The document's indented commands that start so."""
    lines = [line.strip() for line in DOCUMENT.splitlines() if line.startswith("    ")]
    return [shlex.split(line) for line in lines if line.startswith(starts)]


def run_documented(place: Place, words: list[str], **values: str) -> str:
    """What a command prints that stands in the document, with values for its words in capitals."""
    members = {f"MEMBER{number}": Account.create().address for number in (1, 2, 3)}
    values |= members | {"deployer.json": str(place.account), ".venv/bin/python": sys.executable}
    command = [values.get(word, word) for word in words]
    done = subprocess.run(command, cwd=ROOT, env=place.env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
