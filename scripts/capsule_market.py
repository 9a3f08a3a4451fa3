"""What the scripts that drive a real Capsule share: a chain with the contract, its home, campaigns, and gradients.

`kill_capsule.py` and `bench_capsule.py` set up the same stage and post the same kind of work to it; what they do with
it is theirs. Everything that is posted is real; only keys may be too short for anything but a test.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from eth_account import Account
from web3 import Web3

from capsule.client import CapsuleClient
from sonar.chain.calls import create_campaign, submit_gradient
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.deploy import deploy
from sonar.chain.events import RoundSettled
from sonar.config import Network
from sonar.devnet_services import START_SECONDS, start_chain
from sonar.processes import wait_until
from sonar.protocol.messages import Domain, hash_admission
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Spec
from sonar.storage import Artifact, ContentStore, open_store
from sonar.syft import (
    AffineMap,
    EncryptedTensor,
    Obfuscator,
    PublicKey,
    apply_map,
    dump_gradient,
    dump_model,
    encrypt,
    load_model,
)
from sonar.units import Address, CampaignId, digest_of, ether

__all__ = ["Opened", "Stage", "Versions", "environment", "fund", "open_campaign", "set_stage", "submit", "train"]

_FUNDS = ether(100)
_BOUNTY = ether(1)
_CAMPAIGN_SECONDS = 30 * 86_400
_MODEL_BYTES = 10**7
_INSECURE_BITS = 2048


@dataclass(frozen=True)
class Stage:
    """A development chain with the contract on it, a store, and the home of a Capsule whose account has coin."""

    web3: Web3
    network: Network
    network_file: Path
    store: ContentStore
    home: Path
    attester: Address


@dataclass(frozen=True)
class Opened:
    """A campaign on chain: its id, its start model, and what gradients are sealed to."""

    id: CampaignId
    model: Artifact
    sealing_key: bytes


@dataclass
class Versions:
    """The model versions that the chain tells of: their artifacts in order, and how many rounds were settled."""

    cursor: EventCursor
    models: list[Artifact]
    rounds: int = field(default=0)

    @property
    def advanced(self) -> int:
        """How many rounds made a version."""
        return len(self.models) - 1

    def read(self) -> None:
        """Takes over what the chain told since."""
        for event in self.cursor.read():
            if isinstance(event, RoundSettled):
                self.rounds += 1
                if event.advances:
                    self.models.append(Artifact(event.model_cid, event.model))

    def load(self, store: ContentStore, number: int = -1) -> EncryptedTensor:
        """A version's model, the last one if no number is given."""
        return load_model(store.get(self.models[number], max_bytes=_MODEL_BYTES), allow_insecure_small_key=True)


def environment(passphrase: str, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with these settings of a Capsule (their names in capitals) and no others."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("SONAR_CAPSULE")}
    chosen = {"PASSPHRASE": passphrase, **(settings or {})}
    return names | {f"SONAR_CAPSULE_{name}": value for name, value in chosen.items()}


def set_stage(chain: str, directory: Path, stack: ExitStack, capsule: Mapping[str, str], key_bits: int) -> Stage:
    """Starts the chain, deploys the contract, and makes a Capsule's home; `capsule` is its environment."""
    _, rpc_url = start_chain(chain, 0, directory, stack)
    web3 = Web3(Web3.HTTPProvider(rpc_url))
    wait_until(web3.is_connected, timeout=START_SECONDS, what="the chain")
    home, deployer = directory / "capsule", Account.create()
    attester = _init(home, capsule, key_bits)
    for address in (deployer.address, attester):
        fund(web3, address)
    contract = deploy(web3, deployer)
    network = Network(
        rpc_url=rpc_url, chain_id=web3.eth.chain_id, contract=contract.address, start_block=contract.block,
        store=f"directory:{directory / 'store'}",
    )  # fmt: skip
    file = network.save(directory / "network.json")
    return Stage(web3, network, file, stack.enter_context(open_store(network.store)), home, attester)


def _init(home: Path, capsule: Mapping[str, str], bits: int) -> Address:
    small = ["--allow-insecure-small-key"] if bits < _INSECURE_BITS else []
    command = [sys.executable, "-m", "capsule", "init", "--home", str(home), "--json", "--key-bits", str(bits), *small]
    done = subprocess.run(
        command, env=dict(capsule), capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"capsule init failed: {done.stderr[-2000:]}")
    return Address(json.loads(done.stdout)["address"])


def fund(web3: Web3, address: str) -> None:
    """A hundred ether from the development chain."""
    sent = web3.eth.send_transaction({"from": web3.eth.accounts[0], "to": address, "value": _FUNDS})
    web3.eth.wait_for_transaction_receipt(sent)


def open_campaign(
    chain: SonarClient, store: ContentStore, capsule: CapsuleClient, spec: Spec, validation: bytes
) -> Opened:
    """Has a campaign of `chain`'s account admitted, from a model of zeros, and creates it."""
    assert chain.signer is not None
    owner, domain, encoding = Address(chain.signer.address), Domain(chain.chain_id, chain.address), spec.encoding
    key, sealing_key = PublicKey(capsule.new_key().n, allow_insecure_small_key=True), capsule.info().sealing_key
    model = encrypt(
        np.zeros(spec.shape, dtype=np.int64), key, Obfuscator(key), slot_width=encoding.slot_width,
        scale=encoding.weight_bits, bound=encoding.weight_bound, stride=encoding.stride(key, spec.shape[1]),
    )  # fmt: skip
    context = BoxContext(Purpose.VALIDATION, domain.chain_id, domain.contract, owner, key.key_id.hex())
    placed, start = store.put(spec.to_bytes()), store.put(dump_model(model))
    sealed = store.put(seal(validation, context, sealing_key))
    given = capsule.admit(spec=placed, model=start, validation=sealed)
    terms = spec.terms(bounty=_BOUNTY, deadline=chain.now() + _CAMPAIGN_SECONDS)
    chain.transact(create_campaign(terms, given.admission, given.signature, placed.cid, start.cid))
    return Opened(hash_admission(domain, given.admission), start, sealing_key)


def train(affine: AffineMap, model: EncryptedTensor, spec: Spec, obfuscator: Obfuscator) -> bytes:
    """A gradient: the training map on the encrypted model."""
    encoding = spec.encoding
    trained = apply_map(
        affine, model, map_bits=encoding.map_bits, factor_bits=encoding.factor_bits,
        gradient_bound=encoding.gradient_bound, obfuscator=obfuscator,
    )  # fmt: skip
    return dump_gradient(trained)


def submit(mine: SonarClient, store: ContentStore, campaign: Opened, spec: Spec, number: int, data: bytes) -> None:
    """Seals a gradient to the Capsule, stores it, and posts it to this round."""
    assert mine.signer is not None
    account = Address(mine.signer.address)
    context = BoxContext(Purpose.GRADIENT, mine.chain_id, mine.address, account, campaign.id.hex(), number)
    box = store.put(seal(data, context, campaign.sealing_key))
    mine.transact(submit_gradient(campaign.id, number, box.digest, digest_of(data), box.cid, spec.payout.bond))
