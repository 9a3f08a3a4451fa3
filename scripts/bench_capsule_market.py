"""Campaigns on scikit-learn's digits for `bench_capsule.py`: admitted, created, and posted to by simulated mines.

Everything that is posted is real, at the benchmark's key size; mines differ in their records, and train from the
present model without reading it.
"""

from dataclasses import dataclass, field

import numpy as np
from capsule_market import fund
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sklearn.datasets import load_digits
from web3 import Web3

from capsule.client import CapsuleClient
from sonar.chain.calls import create_campaign, submit_gradient
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import RoundSettled
from sonar.config import Network
from sonar.protocol.messages import Domain, hash_admission
from sonar.protocol.payloads import design_matrix, encode_validation
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Feature, Payout, Rounds, Spec
from sonar.storage import Artifact, ContentStore
from sonar.syft import (
    AffineMap,
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

__all__ = ["Campaign", "Market"]

_MODEL_BYTES = 10**7
_RECORDS = 1437
"""Four fifths of the digits are the mines'; the other 360 validate."""


@dataclass
class Campaign:
    """A campaign, the model of its present round, and how many of its rounds advanced."""

    id: CampaignId
    model: Artifact
    cursor: EventCursor
    advanced: int = 0
    rounds: int = 0

    def read(self) -> None:
        """Takes over what the chain told of settled rounds."""
        for event in self.cursor.read():
            if isinstance(event, RoundSettled):
                self.rounds += 1
                if event.advances:
                    self.advanced += 1
                    self.model = Artifact(event.model_cid, event.model)


@dataclass
class Market:
    """An owner and as many mines as a round takes."""

    network: Network
    store: ContentStore
    web3: Web3
    size: int
    owner: LocalAccount = field(default_factory=Account.create)
    campaigns: list[Campaign] = field(default_factory=list)

    def __post_init__(self) -> None:
        fund(self.web3, self.owner.address)
        self.chain = SonarClient.from_network(self.network, self.owner)
        self.spec = Spec(
            name="digits",
            features=tuple(Feature(name=f"pixel_{i // 8}_{i % 8}", scale=16.0) for i in range(64)),
            classes=tuple("0123456789"),
            # Every round that rises at all advances, so that the benchmark has many that do.
            rounds=Rounds(round_size=self.size, round_seconds=86_400, max_rounds=65_535, noise=0.0, min_gain=1),
            payout=Payout(target=999_999, bond=10**12),
        )
        data, order = load_digits(), np.random.default_rng(0).permutation(1797)
        self._features, self._labels = data.data[order], data.target[order].astype(np.int64)
        self._mines: list[tuple[SonarClient, AffineMap]] = []
        for share in np.array_split(np.arange(_RECORDS), self.size):
            account = Account.create()
            fund(self.web3, account.address)
            self._mines.append((SonarClient.from_network(self.network, account), self._map(share)))

    def open(self, capsule: CapsuleClient) -> None:
        """One more campaign: key, start model, admission, creation."""
        key = PublicKey(capsule.new_key().n, allow_insecure_small_key=True)
        sealing_key, encoding, domain = capsule.info().sealing_key, self.spec.encoding, self._domain
        model = encrypt(
            np.zeros(self.spec.shape, dtype=np.int64), key, Obfuscator(key), slot_width=encoding.slot_width,
            scale=encoding.weight_bits, bound=encoding.weight_bound, stride=encoding.stride(key, self.spec.shape[1]),
        )  # fmt: skip
        owner = Address(self.owner.address)
        context = BoxContext(Purpose.VALIDATION, domain.chain_id, domain.contract, owner, key.key_id.hex())
        held_out = encode_validation(self._features[_RECORDS:], self._labels[_RECORDS:])
        spec, placed = self.store.put(self.spec.to_bytes()), self.store.put(dump_model(model))
        validation = self.store.put(seal(held_out, context, sealing_key))
        given = capsule.admit(spec=spec, model=placed, validation=validation)
        terms = self.spec.terms(bounty=ether(1), deadline=self.chain.now() + 30 * 86_400)
        self.chain.transact(create_campaign(terms, given.admission, given.signature, spec.cid, placed.cid))
        campaign = hash_admission(domain, given.admission)
        cursor = EventCursor(self.chain, self.network.start_block, campaign=campaign)
        self.campaigns.append(Campaign(campaign, placed, cursor))

    def post(self, sealing_key: bytes) -> None:
        """A gradient of every mine to the present round of every campaign, which is full then."""
        for campaign in self.campaigns:
            campaign.read()
            data = self.store.get(campaign.model, max_bytes=_MODEL_BYTES)
            model = load_model(data, allow_insecure_small_key=True)
            encoding, obfuscator = self.spec.encoding, Obfuscator(model.key)
            for mine, affine in self._mines:
                trained = apply_map(
                    affine, model, map_bits=encoding.map_bits, factor_bits=encoding.factor_bits,
                    gradient_bound=encoding.gradient_bound, obfuscator=obfuscator,
                )  # fmt: skip
                self._submit(campaign, mine, dump_gradient(trained), sealing_key)

    def settled(self) -> bool:
        """Whether no campaign has a round that waits."""
        return all(self.chain.round(campaign.id).count == 0 for campaign in self.campaigns)

    def capsule(self, url: str, attester: Address) -> CapsuleClient:
        """The owner's client."""
        return CapsuleClient(url, self._domain, self.owner, attester=attester, timeout=120)

    @property
    def _domain(self) -> Domain:
        return Domain(self.chain.chain_id, self.chain.address)

    def _map(self, records: np.ndarray) -> AffineMap:
        statistics = Statistics.empty(*self.spec.shape)
        inputs, one_hot = design_matrix(self.spec, self._features[records]), np.eye(10)[self._labels[records]]
        statistics = statistics.add_batch(inputs, one_hot) or statistics
        return training_map(statistics, epochs=1, rate=0.05, l2=1e-3)

    def _submit(self, campaign: Campaign, mine: SonarClient, data: bytes, sealing_key: bytes) -> None:
        number, account = campaign.rounds, Address(mine.signer.address)
        context = BoxContext(Purpose.GRADIENT, mine.chain_id, mine.address, account, campaign.id.hex(), number)
        box = self.store.put(seal(data, context, sealing_key))
        bond = self.spec.payout.bond
        mine.transact(submit_gradient(campaign.id, number, box.digest, digest_of(data), box.cid, bond))
