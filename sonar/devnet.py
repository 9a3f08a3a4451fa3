"""`sonar devnet`: a chain, IPFS, a Capsule, the deployed contract and funded accounts, all on this machine.

Every service is a real process that listens on loopback. Each start makes a new chain and keeps its files in a new
directory below the home; the accounts' keys stay. Leaving the context stops every process by its own handle.
"""

import fcntl
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonar.config import Network
from sonar.devnet_services import START_SECONDS, init_capsule, serve_capsule, start_chain, start_kubo
from sonar.errors import ConfigError
from sonar.processes import Child, ProcessError, free_port, require_free_port, wait_until
from sonar.units import Address, ether

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

__all__ = ["Devnet", "DevnetOptions", "run_until_stopped", "start"]

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
        self.children["capsule"] = serve_capsule(self.network, self.network_file, self.directory)

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


@contextmanager
def start(options: DevnetOptions, say: Callable[[str], None]) -> Iterator[Devnet]:
    """Starts everything, yields when all of it answers, and stops it on the way out. Raises SonarError."""
    from web3 import Web3

    require_free_port(options.rpc_port, "the chain (--rpc-port)")
    require_free_port(options.capsule_port, "the Capsule (--capsule-port)")
    with ExitStack() as stack:
        stack.enter_context(_sole_user(options.home))
        directory = _new_directory(options.home)
        children: dict[str, Child] = {}

        say(f"starting the chain ({options.chain})")
        children["chain"], rpc_url = start_chain(options.chain, options.rpc_port, directory, stack)
        web3 = Web3(Web3.HTTPProvider(rpc_url))
        wait_until(web3.is_connected, timeout=START_SECONDS, what="the chain's first answer", child=children["chain"])

        if options.chain != "embedded":
            from sonar.chain.heartbeat import heartbeat

            stack.enter_context(heartbeat(web3))

        say(f"starting the content store ({options.store})")
        store = f"directory:{directory / 'store'}"
        if options.store == "kubo":
            children["ipfs"], store = start_kubo(directory, stack)

        say("creating the Capsule's keys")
        passphrase = directory / "capsule.passphrase"
        _write_secret(passphrase, secrets.token_urlsafe(32))
        capsule_address = init_capsule(options.key_bits, directory, passphrase)
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
        children["capsule"] = serve_capsule(network, network_file, directory)
        devnet = Devnet(network, network_file, directory, accounts, children)
        stack.callback(lambda: devnet.children["capsule"].stop())
        yield devnet


@contextmanager
def _sole_user(home: Path) -> Iterator[None]:
    """Held by the one network that may write the home's network file; the kernel lets go of it with the process."""
    try:
        (home / "devnet").mkdir(parents=True, exist_ok=True)
        file = (home / "devnet" / "running.lock").open("w")
    except OSError as error:
        raise ConfigError(f"{home} cannot hold a network: {error.strerror}: choose another with --home") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another devnet is running with {home}: stop it first, or choose another with --home"
            ) from error
        yield


def _new_directory(home: Path) -> Path:
    base = home / "devnet"
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
