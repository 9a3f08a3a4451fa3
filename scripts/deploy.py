#!/usr/bin/env python3
"""Deploys Sonar to a network of brownie-config.yaml, once, verifies every byte and writes it down.

python scripts/deploy.py --network NAME --account FILE
brownie run scripts/deploy.py main --network NAME -- --account FILE

Either way the bytecode is the one that ships with the Python package, whatever Brownie compiles; docs/deployment.md
has the rest.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
# Brownie imports this file from the root of the file system, in an environment without the package.
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from sonar.errors import ConfigError, SonarError  # noqa: E402

if TYPE_CHECKING:
    from deploy_networks import Node

    from sonar.chain.bytecode import Blueprint

_INTERRUPTED = 130  # as shells say it of SIGINT


def main(*words: str) -> None:
    """Brownie's way in: the network is the one that Brownie is connected to."""
    options = _options(words[1:] if words[:1] == ("--",) else words, brownie=True)
    if code := _guarded(options, _brownie_node):
        sys.exit(code)


def _command() -> int:
    """The shell's way in."""
    from deploy_networks import node_of

    options = _options(sys.argv[1:], brownie=False)
    return _guarded(options, lambda: node_of(options.network))


def _options(words, *, brownie: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/deploy.py", description=__doc__.splitlines()[0])
    if not brownie:
        parser.add_argument("--network", required=True, help="a network of brownie-config.yaml")
    parser.add_argument("--account", type=Path, help="who pays: a keystore or key file")
    parser.add_argument(
        "--deployments", type=Path, help="the file to write (default: SONAR_DEPLOYMENTS, or the home's)"
    )
    parser.add_argument(
        "--committee", nargs="+", metavar="MEMBER", help="deploy a CapsuleCommittee of these accounts too"
    )
    parser.add_argument("--threshold", type=int, metavar="K", help="how many members of the committee must sign")
    parser.add_argument("--again", action="store_true", help="deploy another one where one is; the file keeps both")
    parser.add_argument("--timeout", type=_seconds, default=600, metavar="SECONDS", help="how long to wait for a block")
    parser.add_argument("--verify", metavar="ADDRESS", help="only verify what is there (with --committee: a committee)")
    parser.add_argument("--transaction", metavar="HASH", help="with --verify: what deployed it, if the file knows not")
    options = parser.parse_args(list(words))
    if (options.committee is None) != (options.threshold is None):
        parser.error("--committee and --threshold come together")
    if options.verify is None and options.account is None:
        parser.error("--account is required, or --verify")
    if options.verify is not None and (options.account is not None or options.again):
        parser.error("--verify sends nothing: leave out --account and --again")
    if options.verify is None and options.transaction is not None:
        parser.error("--transaction comes with --verify")
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a time to wait: give a number of seconds above 0")
    return seconds


def _guarded(options: argparse.Namespace, find_node) -> int:
    try:
        if options.verify is None:
            _deploy(options, find_node())
        else:
            _verify(options, find_node())
    except SonarError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: run it again to finish", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _brownie_node() -> "Node":
    """The node that Brownie is connected to; its own connection changes requests and errors, so it is not used."""
    from brownie import network, web3
    from brownie._config import CONFIG
    from deploy_networks import make_node

    url = getattr(web3.provider, "endpoint_uri", "")
    return make_node(network.show_active(), str(url), str(CONFIG.active_network.get("chainid", "")))


def _deploy(options: argparse.Namespace, node: "Node") -> None:
    from sonar.chain._rpc import connect_web3
    from sonar.chain.bytecode import SONAR
    from sonar.chain.deployments import deployments_path
    from sonar.chain.once import deploy_once
    from sonar.wallet import load_account

    blueprints = [SONAR, *_committee(options)]
    account = load_account(options.account)
    web3 = connect_web3(node.url, timeout=30)
    file = deployments_path(options.deployments)
    for blueprint in blueprints:
        record = deploy_once(
            web3, account, blueprint, file,
            chain_id=node.chain_id, again=options.again, timeout=options.timeout, say=_say,
        )  # fmt: skip
        print(f"{blueprint.contract} {record.address}")
        _say(f"block {record.block} of chain {node.chain_id}, every byte verified, in {file}")


def _verify(options: argparse.Namespace, node: "Node") -> None:
    from sonar.chain._rpc import connect_web3
    from sonar.chain.bytecode import SONAR
    from sonar.chain.deploy import verify_deployment
    from sonar.chain.once import require_chain
    from sonar.units import address_of

    address = address_of(options.verify)
    (blueprint,) = _committee(options) or [SONAR]
    web3 = connect_web3(node.url, timeout=30)
    require_chain(web3, node.chain_id)
    transaction = _transaction(options, node.chain_id, blueprint)
    verify_deployment(web3, address, blueprint, transaction=transaction)
    _say("every byte of the code is this package's")
    if transaction is None:
        raise ConfigError("the constructor was not verified, so the storage may hold anything: give --transaction")
    _say("so is the constructor that it was deployed with")
    print(f"{blueprint.contract} {options.verify}")


def _committee(options: argparse.Namespace) -> "list[Blueprint]":
    from sonar.chain.bytecode import committee

    return [] if options.committee is None else [committee(options.committee, options.threshold)]


def _transaction(options: argparse.Namespace, chain_id: int, blueprint: "Blueprint") -> bytes | None:
    """What deployed the contract, as the options or the deployments file say."""
    from sonar.chain.deployments import find_record

    text = options.transaction
    if text is None:
        record = find_record(chain_id, blueprint.contract, options.verify, options.deployments)
        text = None if record is None else record.transaction
    if text is None:
        return None
    try:
        transaction = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        transaction = b""
    if len(transaction) != 32:
        raise ConfigError(f"{text!r} is no transaction's hash: give 0x and 64 hexadecimal digits")
    return transaction


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(_command())
