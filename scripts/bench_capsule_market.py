"""Campaigns on scikit-learn's digits for `bench_capsule.py`: admitted, created, and posted to by simulated mines.

Everything that is posted is real, at the benchmark's key size; mines differ in their records, and train from the
present model without reading it.
"""

from dataclasses import dataclass, field

import numpy as np
from capsule_market import Opened, Stage, Versions, fund, open_campaign, submit, train
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sklearn.datasets import load_digits

from capsule.client import CapsuleClient
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.protocol.messages import Domain
from sonar.protocol.payloads import design_matrix, encode_validation
from sonar.protocol.spec import Feature, Payout, Rounds, Spec
from sonar.syft import AffineMap, Obfuscator, Statistics, training_map

__all__ = ["Campaign", "Market"]

_RECORDS = 1437
"""Four fifths of the digits are the mines'; the other 360 validate."""


@dataclass
class Campaign:
    """A campaign, and what the chain told of its rounds."""

    opened: Opened
    versions: Versions


@dataclass
class Market:
    """An owner and as many mines as a round takes."""

    stage: Stage
    size: int
    owner: LocalAccount = field(default_factory=Account.create)
    campaigns: list[Campaign] = field(default_factory=list)

    def __post_init__(self) -> None:
        fund(self.stage.web3, self.owner.address)
        self.chain = SonarClient.from_network(self.stage.network, self.owner)
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
            fund(self.stage.web3, account.address)
            self._mines.append((SonarClient.from_network(self.stage.network, account), self._map(share)))

    def open(self, capsule: CapsuleClient) -> None:
        """One more campaign: key, start model, admission, creation."""
        held_out = encode_validation(self._features[_RECORDS:], self._labels[_RECORDS:])
        opened = open_campaign(self.chain, self.stage.store, capsule, self.spec, held_out)
        cursor = EventCursor(self.chain, self.stage.network.start_block, campaign=opened.id)
        self.campaigns.append(Campaign(opened, Versions(cursor, [opened.model])))

    def post(self) -> None:
        """A gradient of every mine to the present round of every campaign, which is full then."""
        for campaign in self.campaigns:
            campaign.versions.read()
            model = campaign.versions.load(self.stage.store)
            obfuscator, number = Obfuscator(model.key), campaign.versions.rounds
            for mine, affine in self._mines:
                data = train(affine, model, self.spec, obfuscator)
                submit(mine, self.stage.store, campaign.opened, self.spec, number, data)

    def settled(self) -> bool:
        """Whether no campaign has a round that waits."""
        return all(self.chain.round(campaign.opened.id).count == 0 for campaign in self.campaigns)

    def capsule(self, url: str) -> CapsuleClient:
        """The owner's client."""
        domain = Domain(self.chain.chain_id, self.chain.address)
        return CapsuleClient(url, domain, self.owner, attester=self.stage.attester, timeout=120)

    def _map(self, records: np.ndarray) -> AffineMap:
        statistics = Statistics.empty(*self.spec.shape)
        inputs, one_hot = design_matrix(self.spec, self._features[records]), np.eye(10)[self._labels[records]]
        statistics = statistics.add_batch(inputs, one_hot) or statistics
        return training_map(statistics, epochs=1, rate=0.05, l2=1e-3)
