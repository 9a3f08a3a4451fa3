"""Deploying the contract to any chain and writing the network file that every actor reads."""

from pathlib import Path

from pydantic import ValidationError

from sonar.config import Network, field_wording, network_path
from sonar.errors import ConfigError

__all__ = ["deploy_network"]


def deploy_network(
    *, rpc_url: str, account_file: Path, store: str, capsule: str | None, capsule_url: str | None, path: Path | None
) -> tuple[Network, Path]:
    """Deploys with the account's coin; returns the network and its file. Never overwrites another network's file."""
    from sonar.chain.deploy import deploy
    from sonar.chain.records import NATIVE
    from sonar.wallet import load_account

    file = network_path(path)
    if file.exists():
        raise ConfigError(f"{file} holds a network already: choose another file with --network")
    if store.startswith("directory:"):
        # Whoever reads the network file has another working directory.
        store = f"directory:{Path(store.removeprefix('directory:')).resolve()}"
    try:
        # All that may be wrong is found before the deployment is paid for; what only that tells stands open.
        draft = Network(
            rpc_url=rpc_url, chain_id=1, contract=NATIVE, store=store, capsule_url=capsule_url, capsule=capsule
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(f"{problem['loc'][0]} {problem['input']!r} is not valid: {field_wording(problem)}") from error
    done = deploy(rpc_url, load_account(account_file))
    network = draft.model_copy(update={"chain_id": done.chain_id, "contract": done.address, "start_block": done.block})
    return network, network.save(file)
