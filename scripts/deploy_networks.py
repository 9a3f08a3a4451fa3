"""The networks of brownie-config.yaml that contracts can be deployed to: where each one's node is, and its chain id.

Run by itself with the name of one that can be used, it prints all of them as Brownie wants them in a
network-config.yaml; scripts/deploy-brownie does so.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sonar.errors import ConfigError  # noqa: E402

__all__ = ["Node", "make_node", "node_of"]

CONFIG = ROOT / "brownie-config.yaml"
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Node:
    """Where a network's node answers, and the id of the chain that it must serve."""

    url: str
    chain_id: int


def node_of(network: str, config: Path = CONFIG) -> Node:
    """The node of a network of the file; raises ConfigError."""
    known = _entries(config)
    if network not in known:
        raise ConfigError(f"{config.name} has no network {network!r} with a host: choose one of {', '.join(known)}")
    return make_node(network, str(known[network]["host"]), str(known[network].get("chainid", "")))


def make_node(network: str, host: str, chain_id: str) -> Node:
    """The node of a network, environment variables written out; raises ConfigError, which never shows an address."""
    url, number = _expanded(network, "host", host), _expanded(network, "chainid", chain_id)
    if not re.match(r"https?://[^\s/]", url):
        raise ConfigError(f"the host of network {network!r} is no RPC address: it begins with http:// or https://")
    if not re.fullmatch(r"[1-9][0-9]*", number):
        raise ConfigError(f"the chainid of network {network!r} is {number!r}: give a whole number above 0")
    return Node(url, int(number))


def brownie_networks(config: Path = CONFIG) -> str:
    """The text of Brownie's own file of networks: none that it would start itself."""
    import yaml

    networks = [{"id": name, "name": name, **_node_fields(entry)} for name, entry in _entries(config).items()]
    return str(yaml.safe_dump({"development": [], "live": [{"name": "Sonar", "networks": networks}]}, sort_keys=False))


def _node_fields(entry: dict[str, Any]) -> dict[str, str]:
    return {key: str(entry[key]) for key in ("host", "chainid") if key in entry}


def _entries(config: Path) -> dict[str, dict[str, Any]]:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError("PyYAML is not installed, which reads brownie-config.yaml: pip install pyyaml") from error
    networks = yaml.safe_load(config.read_text())["networks"]
    return {name: entry for name, entry in networks.items() if isinstance(entry, dict) and "host" in entry}


def _expanded(network: str, key: str, text: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise ConfigError(f"the {key} of network {network!r} is in the environment variable {name}: set it")
        return os.environ[name]

    return VARIABLE.sub(value, text)


def main() -> int:
    """Prints Brownie's file; returns the exit code."""
    try:
        node_of(sys.argv[1])
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(brownie_networks())
    return 0


if __name__ == "__main__":
    sys.exit(main())
