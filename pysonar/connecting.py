"""How a session comes to be: its parts found by the network file, or passed in, and checked against one another."""

from pathlib import Path

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from capsule.client import CapsuleClient
from pysonar.session import Sonar
from sonar.chain.client import SonarClient
from sonar.config import Network, home
from sonar.errors import ConfigError
from sonar.protocol.messages import Domain
from sonar.storage.base import ContentStore
from sonar.storage.opening import open_store
from sonar.units import Address
from sonar.wallet import owner_account

__all__ = ["connect"]


def connect(
    network: Network | Path | str | None = None,
    *,
    account: LocalAccount | Path | str | None = None,
    store: ContentStore | str | None = None,
    chain: SonarClient | str | None = None,
    capsule: CapsuleClient | str | None = None,
    directory: Path | str | None = None,
    allow_insecure_small_key: bool = False,
) -> Sonar:
    """A session on the network whose file is found as `sonar.config` says; every part can be passed in.

    `account` is an account or the path of its keystore or key file (else SONAR_ACCOUNT, else accounts/owner.key in the
    home); `store`, `chain` and `capsule` are objects or URLs; `directory` is where unconfirmed campaigns are noted
    (else campaigns in the home). Raises ConfigError for files, ChainError when the chain is not the network's.

    >>> with pysonar.connect(network_file, account=account) as session:
    ...     session.campaigns()
    []
    """
    found = network if isinstance(network, Network) else Network.load(network)
    if found.capsule is None or (capsule is None and found.capsule_url is None):
        raise ConfigError(
            "the network names no Capsule: its file needs capsule_url and capsule, the address that signs"
        )
    if isinstance(chain, SonarClient):
        client = chain
        if account is not None:
            raise ConfigError("a chain client brings its own account: leave out account, or give chain as a URL")
    else:
        place = found if chain is None else found.model_copy(update={"rpc_url": chain})
        client = SonarClient.from_network(place, _account(account))
    if (client.chain_id, client.address.lower()) != (found.chain_id, found.contract.lower()):
        raise ConfigError(
            f"the chain client is for contract {client.address} on chain {client.chain_id}, but the network names "
            f"{found.contract} on {found.chain_id}: pass the network that belongs to it"
        )
    if client.account is None:
        raise ConfigError("the chain client has no account to sign with: connect it with one")
    oracle = Address(to_checksum_address(found.capsule))
    opened: list[CapsuleClient | ContentStore] = []
    if not isinstance(capsule, CapsuleClient):
        url = capsule or str(found.capsule_url)
        if not isinstance(client.account, LocalAccount):
            raise ConfigError("the account's own key signs requests to the Capsule: connect with its file")
        capsule = CapsuleClient(url, Domain(client.chain_id, client.address), client.account, attester=oracle)
        opened.append(capsule)
    if store is None or isinstance(store, str):
        store = open_store(store or found.store)
        opened.append(store)
    return Sonar(
        found,
        client,
        store,
        capsule,
        oracle=oracle,
        directory=Path(directory) if directory is not None else home() / "campaigns",
        opened=opened,
        allow_insecure_small_key=allow_insecure_small_key,
    )


def _account(given: LocalAccount | Path | str | None) -> LocalAccount:
    if isinstance(given, LocalAccount):
        return given
    return owner_account(given)
