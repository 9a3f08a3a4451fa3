"""Deploying the contract to any chain and writing the network file that every actor reads.

Until that file is written, one beside it says what was signed: a run that was killed is finished by the next one.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from sonar.config import Network, field_wording, network_path
from sonar.errors import ConfigError

__all__ = ["deploy_network"]

_TIMEOUT = 120.0
"""Seconds for the transaction to be mined; who gives up runs again and finds it."""


def deploy_network(
    *,
    rpc_url: str,
    account_file: Path,
    store: str,
    capsule: str | None,
    capsule_url: str | None,
    path: Path | None,
    say: Callable[[str], None],
) -> tuple[Network, Path]:
    """Deploys with the account's coin; returns the network and its file. Never overwrites another network's file.

    It pays once, however often it is stopped and run again for the same file. `say` is told how it goes. Raises
    ConfigError and ChainError.
    """
    from sonar.chain._rpc import connect_web3, rpc
    from sonar.chain.bytecode import SONAR
    from sonar.chain.once import deploy_once
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
    account, web3 = load_account(account_file), connect_web3(rpc_url, timeout=10)
    with rpc(web3):
        chain_id = int(web3.eth.chain_id)
    journal = file.with_name(f"{file.name}.deployment")
    _require_only(journal, chain_id)
    done = deploy_once(web3, account, SONAR, journal, chain_id=chain_id, timeout=_TIMEOUT, say=say)
    network = draft.model_copy(update={"chain_id": chain_id, "contract": done.address, "start_block": done.block})
    saved = network.save(file)
    journal.unlink()
    return network, saved


def _require_only(journal: Path, chain_id: int) -> None:
    """Raises ConfigError where what was begun is on another chain."""
    from sonar.chain.deployments import Deployments

    others = sorted(set(Deployments.load(journal).root) - {str(chain_id)})
    if others:
        raise ConfigError(
            f"{journal} holds a deployment on chain {others[0]} that has not ended, and this is chain {chain_id}: "
            "finish that one with its --rpc-url, choose another --network, or delete the file if it can never be mined"
        )
