"""Every kind of model through a campaign against the real Capsule, to the module that its owner gets."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from capsule_world import World, running_capsule
from eth_account.signers.local import LocalAccount
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import pysonar
from mine.policy import Policy
from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment
from sonar.chain.records import Status
from sonar.processes import wait_until

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


def run_rounds(world: World, campaign: pysonar.Campaign, shares: list, rounds: int, **policy: object) -> None:
    """Lets mines with these shares post in every round until the campaign is over."""
    mines = [world.new_account() for _ in shares]
    for number in range(rounds):
        for (features, labels), account in zip(shares, mines, strict=True):
            world.mine(campaign, features, labels, account, **policy)
        wait_until(
            lambda number=number: campaign.status is not Status.RUNNING or campaign.present_round.number > number,
            timeout=480,
            what="the settlement",
        )
        if campaign.status is not Status.RUNNING:
            return


def test_a_regression_from_the_first_line_to_the_trained_module(world: World, tmp_path: Path) -> None:
    data = load_diabetes(scaled=False)
    order = np.random.default_rng(2).permutation(len(data.target))
    (validation, first, second) = ((data.data[rows], data.target[rows]) for rows in np.array_split(order, 3))
    model = pysonar.LinearRegressor.standardised(data.feature_names, ["progression"], like=validation)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.4, deadline="2h",
            rounds={"round_size": 2, "noise": 0.5, "max_rounds": 2},
        )  # fmt: skip
        spec = campaign.spec
        assert (spec.metric, spec.classes, [target.name for target in spec.targets]) == ("r2", (), ["progression"])
        assert campaign.score == 0.0
        run_rounds(world, campaign, [first, second], 2)
        result = campaign.result()
        assert isinstance(result, pysonar.TrainedRegressor)
        assert result.campaign_score(*validation) == pytest.approx(campaign.score, abs=1e-4)
        scaler = StandardScaler().fit(validation[0])
        alone = [Ridge(1e-3 * len(y)).fit(scaler.transform(X), y) for X, y in (first, second)]
        mean = np.mean([estimator.predict(scaler.transform(validation[0])) for estimator in alone], axis=0)
        pooled = 1 - ((validation[1] - mean) ** 2).sum() / ((validation[1] - validation[1].mean()) ** 2).sum()
        # The mean of what both mines would have trained alone is what one round makes.
        assert result.score(*validation) >= pooled - 0.02 > 0.4
        assert 0.35 < result.score(*first) < 0.65
        assert campaign.status is Status.FINISHED
        assert campaign.close() + sum(gradient.payout for gradient in campaign.gradients()) == pysonar.ether(1)


def parts_of(table: tuple, split: int, validated: int, held_out: int) -> tuple[tuple, tuple, list]:
    """What the data scientist validates with, what is held out, and four equal shares of the rest."""
    features, labels = table
    order = np.random.default_rng(split).permutation(len(labels))
    validation, test, *shares = (
        (features[rows], labels[rows])
        for rows in (
            order[:validated],
            order[validated : validated + held_out],
            *np.array_split(order[validated + held_out :], 4),
        )
    )
    return validation, test, shares


def test_a_kernel_machine_reads_97_percent_of_held_out_digits_of_four_mines(world: World, tmp_path: Path) -> None:
    validation, held_out, shares = parts_of(load_digits(return_X_y=True), 3, 150, 180)
    model = pysonar.KernelClassifier.standardised(64, 10, validation[0], together=True, count=182, gamma=1 / 128)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.9, deadline="2h", rounds={"round_size": 4, "min_mines": 4}
        )
        assert campaign.spec.min_records == 364 <= min(len(share[1]) for share in shares)
        run_rounds(world, campaign, shares, 1, policy=Policy())
        assert campaign.status is Status.FINISHED
        assert sum(gradient.payout > 0 for gradient in campaign.gradients()) >= 3
        result = campaign.result()
        assert result.score(*held_out) >= 0.97


def test_a_kernel_machine_tells_97_percent_of_held_out_tumours_of_four_mines(world: World, tmp_path: Path) -> None:
    validation, held_out, shares = parts_of(load_breast_cancer(return_X_y=True), 3, 60, 57)
    model = pysonar.KernelClassifier.standardised(
        30, ["malignant", "benign"], validation[0], count=50, gamma=1 / 960, l2=0.01
    )
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.9, deadline="2h",
            rounds={"round_size": 4, "min_mines": 4, "noise": 0.5}, training={"class_weights": (1.5, 1.0)},
        )  # fmt: skip
        run_rounds(world, campaign, shares, 1, policy=Policy())
        assert campaign.status is Status.FINISHED
        result = campaign.result()
        assert result.score(*held_out) >= 0.97
        assert set(result.predict(held_out[0])) == {"malignant", "benign"}


def test_a_head_on_a_frozen_public_network_is_trained_by_mines_that_rebuild_it(world: World, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(256, 150), torch.nn.Tanh(),
    )  # fmt: skip
    validation, held_out, shares = parts_of(load_digits(return_X_y=True), 3, 150, 180)
    model = pysonar.Head(backbone, 10, takes=(1, 8, 8), offset=5.0, scale=6.0)
    assert model.least_records == 300
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.85, deadline="2h", rounds={"round_size": 4, "min_mines": 3}
        )
        run_rounds(world, campaign, shares, 1, policy=Policy())
        assert campaign.status is Status.FINISHED
        result = campaign.result()
        assert result.score(*held_out) > 0.9
        assert abs(result.campaign_score(*validation) - campaign.score) <= 1 / 150
        again = pysonar.Head.from_fitted(result)
        np.testing.assert_array_equal(again.weights, result.weights)
        trained = [name for name, parameter in result.named_parameters() if parameter.requires_grad]
        assert trained == ["linear.weight", "linear.bias"]
