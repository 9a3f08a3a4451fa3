"""What a Capsule is made of: its secrets, its database, its chain, its store and its limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from eth_account.signers.local import LocalAccount

from capsule.keypool import KeyPool
from capsule.policy import Policy
from capsule.sandbox import Sandbox
from capsule.secret import Vault
from capsule.state import State
from sonar.chain.client import SonarClient
from sonar.protocol.messages import Domain
from sonar.protocol.sealing import SealingKeyPair
from sonar.storage import ContentStore
from sonar.units import Address

__all__ = ["Capsule"]


@dataclass(frozen=True, slots=True)
class Capsule:
    """Everything that a Capsule is made of; the service and the worker share one."""

    state: State
    vault: Vault
    attester: LocalAccount
    sealing: SealingKeyPair
    chain: SonarClient
    store: ContentStore
    keys: KeyPool
    sandbox: Sandbox
    key_bits: int
    policy: Policy = field(default_factory=Policy)
    allow_insecure_small_key: bool = False
    clock: Callable[[], float] = time.time

    @property
    def address(self) -> Address:
        """The account that signs admissions and settlements."""
        return Address(self.attester.address)

    @property
    def domain(self) -> Domain:
        """The chain and contract that this Capsule works for."""
        return Domain(self.chain.chain_id, self.chain.address)
