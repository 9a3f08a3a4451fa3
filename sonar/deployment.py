"""Deploying the contract to any chain and writing the network file that every actor reads."""

from pathlib import Path

from pydantic import ValidationError

from sonar.config import Network, network_path
from sonar.errors import ConfigError

__all__ = ["deploy_network"]


def deploy_network(
    *, rpc_url: str, account_file: Path, store: str, capsule: str | None, capsule_url: str | None, path: Path | None
) -> tuple[Network, Path]:
    """Deploys with the account's coin; returns the network and its file. Never overwrites another network's file."""
    from web3 import Web3

    from sonar.chain.deploy import deploy
    from sonar.chain.errors import RpcUnavailableError
    from sonar.wallet import load_account

    file = network_path(path)
    if file.exists():
        raise ConfigError(f"{file} holds a network already: choose another file with --network")
    web3 = Web3(Web3.HTTPProvider(rpc_url, request_kwargs={"timeout": 10}))
    if not web3.is_connected():
        raise RpcUnavailableError(f"nothing answers JSON-RPC at {rpc_url}: check the URL and that the chain runs")
    deployment = deploy(web3, load_account(account_file))
    try:
        network = Network(
            rpc_url=rpc_url,
            chain_id=web3.eth.chain_id,
            contract=deployment.address,
            start_block=deployment.block,
            store=store,
            capsule_url=capsule_url,
            capsule=capsule,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(
            f"the contract is at {deployment.address}, but {problem['loc'][0]} {problem['input']!r} is not valid: "
            f"write {file} by hand"
        ) from error
    return network, network.save(file)
