"""Who moved a model: shares and parts as its owner asks for them, against the real Capsule and records of one's own."""

import pickle
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from capsule_world import World, running_capsule
from eth_account.signers.local import LocalAccount
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris

import pysonar
from capsule.client import CapsuleRefusedError
from pysonar.errors import ModelError, NotOpenError, NotOverError, NotOwnerError
from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment
from sonar.chain.records import Status
from sonar.processes import wait_until
from sonar.protocol.errors import ProtocolError

DOCUMENT = Path(__file__).parents[2] / "docs" / "campaigns.md"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def world(
    chain_url: str,
    deployed: Deployment,
    client_for: Callable[[LocalAccount | None], SonarClient],
    new_account: Callable[..., LocalAccount],
    tmp_path: Path,
) -> Iterator[World]:
    """The real Capsule with small keys."""
    with running_capsule(chain_url, deployed, client_for, new_account, tmp_path) as running:
        yield running


def thirds(table: tuple) -> list:
    """What the data scientist validates with, and what two mines have."""
    features, labels = table
    order = np.random.default_rng(2).permutation(len(labels))
    return [(features[rows], labels[rows]) for rows in np.array_split(order, 3)]


def train(world: World, campaign: pysonar.Campaign, shares: list) -> list[str]:
    """One round of these mines, to the campaign's end; their accounts."""
    mines = [world.new_account() for _ in shares]
    for (features, labels), account in zip(shares, mines, strict=True):
        world.mine(campaign, features, labels, account)
    wait_until(lambda: campaign.status is not Status.RUNNING, timeout=480, what="the settlement")
    return [account.address for account in mines]


ROUND = {"round_size": 2, "noise": 0.5, "max_rounds": 1}


@pytest.mark.filterwarnings("ignore::pysonar.errors.ColdStartWarning")
def test_every_prediction_splits_into_the_start_each_mine_and_what_was_rounded(world: World, tmp_path: Path) -> None:
    validation, *shares = thirds(load_iris(return_X_y=True))
    model = pysonar.KernelClassifier.standardised(4, 3, validation[0], count=20, gamma=0.1)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.6, deadline="2h", rounds=ROUND, attribution="open",
            min_records=40,
        )  # fmt: skip
        with pytest.raises(NotOverError):
            campaign.attribution()
        mines = train(world, campaign, shares)
        result, told = campaign.result(), campaign.attribution()
        assert campaign.attribution() == told
        assert set(told.mines) == set(mines)
        assert sum(told.mines.values()) + told.rounding == pytest.approx(1, abs=1e-12)
        assert all(mine in str(told) for mine in mines)

        X = validation[0]
        split = result.attribution(X)
        scores = result._computed(X)
        np.testing.assert_allclose(split.total(), scores, rtol=0, atol=1e-12)
        assert set(split.mines) == set(mines)
        assert not split.start.any(), "the campaign began from nothing"
        assert np.abs(split.rounding).max() < 1e-5
        # The shares are of these very numbers.
        moved = scores - split.start
        for mine, part in split.mines.items():
            assert told.mines[mine] == pytest.approx((part * moved).sum() / (moved**2).sum(), abs=6e-4)

        (code,) = re.findall(r"```py\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
        scope = {"campaign": campaign, "X_new": X, "MINE": mines[0]}
        exec(compile(code, DOCUMENT.name, "exec"), scope)

        without = result.without(mines[0].lower())
        np.testing.assert_array_equal(scope["without"].weights, without.weights)
        np.testing.assert_allclose(without._computed(X), scores - split.mines[mines[0]], rtol=0, atol=1e-12)
        assert type(without) is type(result)
        with pytest.raises(ModelError, match="no gradient of it was kept"):
            result.without(sonar.address)
        for other in (without, clone(result).fit(*validation)):
            with pytest.raises(ModelError, match="as it was delivered"):
                other.attribution(X)
        saved = pickle.loads(pickle.dumps(result))
        np.testing.assert_array_equal(saved.attribution(X).start, split.start)
        np.testing.assert_array_equal(deepcopy(result).attribution(X).rounding, split.rounding)
        unasked = pickle.loads(pickle.dumps(campaign.result()))
        with pytest.raises(ModelError, match="saved before its parts were asked for"):
            unasked.attribution(X)
        result.learn(validation[0], np.array(validation[1]))
        with pytest.raises(ModelError, match="was changed"):
            result.attribution(X)


def test_a_regressions_parts_are_in_the_units_of_its_targets(world: World, tmp_path: Path) -> None:
    data = load_diabetes(scaled=False)
    validation, *shares = thirds((data.data, data.target))
    model = pysonar.LinearRegressor.standardised(data.feature_names, ["progression"], like=validation)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.3, deadline="2h", rounds=ROUND, attribution="open"
        )
        mines = train(world, campaign, shares)
        result = campaign.result()
        split = result.attribution(validation[0])
        np.testing.assert_allclose(split.total()[:, 0], result.predict(validation[0]), rtol=0, atol=1e-9)
        np.testing.assert_allclose(split.start, validation[1].mean(), atol=1e-9)
        alone = result.without(mines[0]).predict(validation[0])
        np.testing.assert_allclose(
            alone, result.predict(validation[0]) - split.mines[mines[0]][:, 0], rtol=0, atol=1e-9
        )


def test_a_campaign_that_promised_its_mines_no_more_gives_shares_alone(world: World, tmp_path: Path) -> None:
    data = load_diabetes(scaled=False)
    validation, *shares = thirds((data.data, data.target))
    model = pysonar.LinearRegressor.standardised(data.feature_names, ["progression"], like=validation)
    with world.session(tmp_path) as sonar, world.session(tmp_path / "other") as stranger:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.3, deadline="2h", rounds=ROUND
        )  # fmt: skip
        train(world, campaign, shares)
        result = campaign.result()
        assert sum(campaign.attribution().mines.values()) == pytest.approx(1, abs=2e-3)
        for ask in (result.attribution, lambda X: result.without(sonar.address)):
            with pytest.raises(NotOpenError, match='campaign created with attribution="open"'):
                ask(validation[0])
        # The Capsule says the same to who asks it by himself.
        with pytest.raises(CapsuleRefusedError, match="as its mines were promised"):
            sonar.capsule.parts(campaign.id, 0, bytes([9]) * 32)
        with pytest.raises(NotOwnerError, match="its attribution is delivered to"):
            stranger.campaign(campaign.id).attribution()
        campaign.spec.__dict__["attribution"] = "open"
        with pytest.raises(CapsuleRefusedError, match="as its mines were promised"):
            campaign.result().attribution(validation[0])


def test_parts_that_are_not_the_models_are_not_believed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_diabetes(scaled=False)
    validation, *shares = thirds((data.data, data.target))
    model = pysonar.LinearRegressor.standardised(data.feature_names, ["progression"], like=validation)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.3, deadline="2h", rounds=ROUND, attribution="open"
        )
        train(world, campaign, shares)
        result = campaign.result()
        real = pysonar.attribution.decode_parts

        def lying(data: bytes, spec: object) -> object:
            page = real(data, spec)
            page.values[0][0, 0] += 1 << (page.scale - spec.encoding.weight_bits)
            return page

        monkeypatch.setattr("pysonar.attribution.decode_parts", lying)
        with pytest.raises(ProtocolError, match="do not sum to the model"):
            result.attribution(validation[0])
