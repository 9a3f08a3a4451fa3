"""A market of simulated players for `kill_capsule.py`: data scientists and their mines, on a chain and a Capsule.

The features of the regression are of very different sizes, so that training gets a little further in each of many
rounds, and most of them make a new version under a new key.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from capsule_market import Opened, Stage, Versions, fund, open_campaign, submit, train
from eth_account import Account

from capsule.client import CapsuleClient
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.protocol.messages import Domain
from sonar.protocol.payloads import design_matrix, encode_validation, scaled_targets
from sonar.protocol.spec import Feature, Payout, Rounds, Spec, Target
from sonar.storage import ContentStore
from sonar.syft import EncryptedTensor, Obfuscator, Statistics, training_map
from sonar.units import CampaignId

__all__ = ["Campaign", "in_background", "start_campaign"]

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
            self.trained = (version, train(affine, model, spec, Obfuscator(model.key)))
        return self.trained[1]


@dataclass
class Campaign:
    """A campaign on chain and its mines, which submit to every round until `wanted` says that there are enough."""

    opened: Opened
    spec: Spec
    store: ContentStore
    versions: Versions
    mines: list[_Mine]
    look_seconds: float = _LOOK_SECONDS
    problem: str = ""

    @property
    def id(self) -> CampaignId:
        """The campaign's id."""
        return self.opened.id

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
            self.versions.read()
            model = self.versions.load(self.store, version)
            for mine in self.mines[present.count :]:
                data = mine.gradient(self.spec, version, model)
                submit(mine.client, self.store, self.opened, self.spec, present.number, data)


def start_campaign(stage: Stage, url: str, *, mines: int, seed: int) -> Campaign:
    """Has a campaign admitted by the Capsule at `url`, creates it, and gathers its mines."""
    rng, owner, spec = np.random.default_rng(seed), Account.create(), make_spec(mines)
    fund(stage.web3, owner.address)
    chain = SonarClient.from_network(stage.network, owner)
    domain = Domain(chain.chain_id, chain.address)
    with CapsuleClient(url, domain, owner, attester=stage.attester) as capsule:
        opened = open_campaign(chain, stage.store, capsule, spec, encode_validation(*_draw(rng, 2000)))
    made = []
    for _ in range(mines):
        account = Account.create()
        fund(stage.web3, account.address)
        made.append(_Mine(SonarClient.from_network(stage.network, account), *_draw(rng, 40)))
    cursor = EventCursor(made[0].client, stage.network.start_block, campaign=opened.id)
    return Campaign(opened, spec, stage.store, Versions(cursor, [opened.model]), made)


def in_background(campaigns: list[Campaign], wanted: Callable[[int], bool]) -> list[threading.Thread]:
    """Lets all mines play, each campaign's in a thread of its own."""
    for campaign in campaigns:
        campaign.look_seconds = _LOOK_SECONDS * len(campaigns)  # they share the node
    threads = [threading.Thread(target=campaign.play, args=(wanted,), daemon=True) for campaign in campaigns]
    for thread in threads:
        thread.start()
    return threads
