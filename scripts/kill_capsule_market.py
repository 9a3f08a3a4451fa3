"""A market of simulated players for `kill_capsule.py`: data scientists and their mines, on a chain and a Capsule.

Everything that they post is real: encrypted models, sealed gradients of a regression, signed transactions; only the
keys are too short for anything but a test. The features are of very different sizes, so that training gets a little
further in each of many rounds, and most of them make a new version under a new key.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from capsule.client import CapsuleClient
from sonar.chain.calls import create_campaign, submit_gradient
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignCreated, RoundSettled
from sonar.config import Network
from sonar.protocol.messages import Domain, hash_admission
from sonar.protocol.payloads import design_matrix, encode_validation, scaled_targets
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Feature, Payout, Rounds, Spec, Target
from sonar.storage import Artifact, ContentStore
from sonar.syft import (
    EncryptedTensor,
    Obfuscator,
    PublicKey,
    Statistics,
    apply_map,
    dump_gradient,
    dump_model,
    encrypt,
    load_model,
    training_map,
)
from sonar.units import Address, CampaignId, digest_of, ether

__all__ = ["Campaign", "open_campaign"]

Floats = npt.NDArray[np.float64]

_SIZES = np.array([1.0, 0.5, 0.2, 0.1])
_SLOPES = np.array([[0.3], [0.8], [-2.0], [4.0]])
_LOOK_SECONDS = 0.05
"""How long a campaign's mines wait to look again, where it is the only one."""


def make_spec(mines: int) -> Spec:
    """Rounds that are full when every mine has submitted, for as long as anyone wants."""
    return Spec(
        name="a plane",
        metric="r2",
        features=tuple(Feature(name=f"f{i}") for i in range(4)),
        targets=(Target(name="height", scale=2.0),),
        rounds=Rounds(round_size=mines, round_seconds=86_400, max_rounds=65_535, noise=0.0, min_gain=1),
        payout=Payout(target=999_999, bond=10**12),
    )


def _draw(rng: np.random.Generator, records: int) -> tuple[Floats, Floats]:
    features = rng.normal(size=(records, 4)) * _SIZES
    return features, features @ _SLOPES + rng.normal(scale=0.5, size=(records, 1))


def fund(web3: Web3, account: LocalAccount) -> None:
    """A hundred ether from the development chain."""
    sent = web3.eth.send_transaction({"from": web3.eth.accounts[0], "to": account.address, "value": ether(100)})
    web3.eth.wait_for_transaction_receipt(sent)


@dataclass
class _Mine:
    client: SonarClient
    features: Floats
    heights: Floats
    trained: tuple[int, bytes] = (-1, b"")

    def gradient(self, spec: Spec, version: int, model: EncryptedTensor) -> bytes:
        """One epoch's gradient from this version; the same bytes while the model stays."""
        if self.trained[0] != version:
            statistics = Statistics.empty(*spec.shape)
            wanted = scaled_targets(spec, self.heights)
            statistics = statistics.add_batch(design_matrix(spec, self.features), wanted) or statistics
            affine = training_map(statistics, epochs=1, rate=0.05, l2=1e-3)
            encoding = spec.encoding
            trained = apply_map(
                affine, model, map_bits=encoding.map_bits, factor_bits=encoding.factor_bits,
                gradient_bound=encoding.gradient_bound, obfuscator=Obfuscator(model.key),
            )  # fmt: skip
            self.trained = (version, dump_gradient(trained))
        return self.trained[1]


@dataclass
class Campaign:
    """A campaign on chain and its mines, which submit to every round until `wanted` says that there are enough."""

    id: CampaignId
    spec: Spec
    store: ContentStore
    network: Network
    sealing_key: bytes
    mines: list[_Mine]
    look_seconds: float = _LOOK_SECONDS
    problem: str = ""
    _models: dict[int, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cursor = EventCursor(self.mines[0].client, self.network.start_block, campaign=self.id)

    def play(self, wanted: Callable[[int], bool]) -> None:
        """Submits to round after round while `wanted(number)`; what went wrong is in `problem`."""
        try:
            self._play(wanted)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            raise

    def _play(self, wanted: Callable[[int], bool]) -> None:
        client = self.mines[0].client
        while True:
            present = client.round(self.id)
            if present.count == 0 and not wanted(present.number):
                return
            if not present.open or present.count == len(self.mines):
                time.sleep(self.look_seconds)
                continue
            version = client.campaign(self.id).version
            model = self._model(version)
            for mine in self.mines[present.count :]:
                self._submit(mine, present.number, version, model)

    def _model(self, version: int) -> EncryptedTensor:
        for event in self._cursor.read():
            if isinstance(event, CampaignCreated):
                self._models[0] = Artifact(event.model_cid, event.admission.model)
            elif isinstance(event, RoundSettled) and event.advances:
                self._models[len(self._models)] = Artifact(event.model_cid, event.model)
        return load_model(self.store.get(self._models[version], max_bytes=10**6), allow_insecure_small_key=True)

    def _submit(self, mine: _Mine, number: int, version: int, model: EncryptedTensor) -> None:
        account, client = Address(mine.client.signer.address), mine.client
        data = mine.gradient(self.spec, version, model)
        context = BoxContext(Purpose.GRADIENT, client.chain_id, client.address, account, self.id.hex(), number)
        box = self.store.put(seal(data, context, self.sealing_key))
        bond = self.spec.payout.bond
        client.transact(submit_gradient(self.id, number, box.digest, digest_of(data), box.cid, bond))


def open_campaign(
    network: Network, store: ContentStore, web3: Web3, url: str, attester: Address, *, mines: int, seed: int
) -> Campaign:
    """Has a campaign admitted by the Capsule at `url`, creates it, and gathers its mines."""
    rng = np.random.default_rng(seed)
    owner = Account.create()
    fund(web3, owner)
    spec, chain = make_spec(mines), SonarClient.from_network(network, owner)
    domain = Domain(chain.chain_id, chain.address)
    with CapsuleClient(url, domain, owner, attester=attester) as capsule:
        key = PublicKey(capsule.new_key().n, allow_insecure_small_key=True)
        sealing_key, encoding = capsule.info().sealing_key, spec.encoding
        model = encrypt(
            np.zeros(spec.shape, dtype=np.int64), key, Obfuscator(key), slot_width=encoding.slot_width,
            scale=encoding.weight_bits, bound=encoding.weight_bound, stride=encoding.stride(key, spec.shape[1]),
        )  # fmt: skip
        context = BoxContext(
            Purpose.VALIDATION, domain.chain_id, domain.contract, Address(owner.address), key.key_id.hex()
        )
        placed = [store.put(spec.to_bytes()), store.put(dump_model(model))]
        validation = store.put(seal(encode_validation(*_draw(rng, 2000)), context, sealing_key))
        given = capsule.admit(spec=placed[0], model=placed[1], validation=validation)
    terms = spec.terms(bounty=ether(1), deadline=chain.now() + 30 * 86_400)
    chain.transact(create_campaign(terms, given.admission, given.signature, placed[0].cid, placed[1].cid))
    made = []
    for _ in range(mines):
        account = Account.create()
        fund(web3, account)
        made.append(_Mine(SonarClient.from_network(network, account), *_draw(rng, 40)))
    return Campaign(hash_admission(domain, given.admission), spec, store, network, sealing_key, made)


def in_background(campaigns: list[Campaign], wanted: Callable[[int], bool]) -> list[threading.Thread]:
    """Lets all mines play, each campaign's in a thread of its own."""
    for campaign in campaigns:
        campaign.look_seconds = _LOOK_SECONDS * len(campaigns)  # they share the node
    threads = [threading.Thread(target=campaign.play, args=(wanted,), daemon=True) for campaign in campaigns]
    for thread in threads:
        thread.start()
    return threads
