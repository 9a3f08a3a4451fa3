"""Networks through a campaign: the real Capsule, real mines with their own homes and processes, the owner's module."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from capsule_world import World, running_capsule
from eth_account.signers.local import LocalAccount
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import nn

import pysonar
from mine.daemon import Daemon
from mine.data import inspect
from mine.home import Home
from mine.worker import Options, Worker
from pysonar.errors import ModelError, NotOpenError
from pysonar.results.network import NetworkClassifier, NetworkRegressor
from sonar.audit import audit_campaign
from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment
from sonar.chain.records import Status
from sonar.errors import SonarError
from sonar.network.training import train
from sonar.processes import wait_until
from sonar.storage import open_store

pytestmark = pytest.mark.timeout(1800)


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


class Mines:
    """Mines with homes, ledgers, data files and policies of their own; they read and train in processes apart."""

    def __init__(self, world: World, folder: Path, stack: ExitStack) -> None:
        self.world, self.folder, self.stack = world, folder, stack
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.daemons: list[Daemon] = []

    def add(
        self, names: list[str], features: np.ndarray, labels: np.ndarray, *, accept: dict[str, Any]
    ) -> LocalAccount:
        """A mine with these records under these column names, and `target`."""
        account = self.world.new_account()
        home = Home(self.folder / f"mine-{len(self.daemons)}")
        home.create()
        home.account_file.write_text(bytes(account.key).hex())
        home.account_file.chmod(0o600)
        settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in accept.items())
        home.policy_file.write_text(f"[accept]\n{settings}[data]\nmin_class_records = 1\nrecords_per_feature = 1\n")
        csv = self.folder / f"records-{len(self.daemons)}.csv"
        rows = [",".join([*map(repr, row.tolist()), str(label)]) for row, label in zip(features, labels, strict=True)]
        csv.write_text("\n".join([",".join([*names, "target"]), *rows]) + "\n")
        ledger = self.stack.enter_context(home.ledger())
        ledger.add_dataset(inspect("records", csv, "target"))
        store = self.stack.enter_context(open_store(self.world.network.store))
        report, network = (lambda what, facts: self.told.append((what, facts))), self.world.network

        def connect() -> Worker:
            worker = Worker(home, ledger, account, network, store, report, Options(30.0, True))
            self.stack.callback(worker.close)
            return worker

        self.daemons.append(Daemon(connect, home.policy, report, poll=0.05))
        return account

    def step(self) -> None:
        """Every mine does what is to be done now."""
        for daemon in self.daemons:
            daemon.step()

    def run(self, campaign: pysonar.Campaign, rounds: int) -> None:
        """Lets all mines work until so many rounds are settled or the campaign is over."""
        for number in range(rounds):
            self.step()
            assert campaign.present_round.number > number or campaign.present_round.count, self.told
            wait_until(
                lambda number=number: campaign.status is not Status.RUNNING or campaign.present_round.number > number,
                timeout=480,
                what="the settlement",
            )
            if campaign.status is not Status.RUNNING:
                return


@pytest.fixture
def mines(world: World, tmp_path: Path) -> Iterator[Mines]:
    with ExitStack() as stack:
        yield Mines(world, tmp_path, stack)


def parts_of(table: tuple, validated: int, held_out: int, shares: int) -> tuple[tuple, tuple, list]:
    features, labels = table
    order = np.random.default_rng(5).permutation(len(labels))
    cuts = (
        order[:validated],
        order[validated : validated + held_out],
        *np.array_split(order[validated + held_out :], shares),
    )
    validation, test, *others = ((features[rows], labels[rows]) for rows in cuts)
    return validation, test, others


@pytest.mark.long
def test_a_cnn_on_digits_of_two_mines_is_within_a_point_of_the_same_trained_on_their_pooled_shares(
    world: World, mines: Mines, tmp_path: Path
) -> None:
    validation, held_out, shares = parts_of(load_digits(return_X_y=True), 300, 500, 2)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.4), nn.Linear(512, 10),
    )  # fmt: skip
    training = {"epochs": 8, "learning_rate": 0.003, "batch_size": 8, "clip_norm": 20.0}
    model = pysonar.Network(module, 64, classes=10, takes=(1, 8, 8), scale=16.0, training=training)
    for features, labels in shares:
        mines.add(
            [f"x{i}" for i in range(64)], features, labels, accept={"modes": ["network"], "min_mines_of_networks": 2}
        )
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.995, deadline="2h",
            rounds={"round_size": 2, "min_mines": 2, "max_rounds": 3, "min_gain": 500, "noise": 0.5},
        )  # fmt: skip
        spec = campaign.spec
        assert (spec.mode, spec.network.graph.size) == ("network", model.parameters)
        mines.run(campaign, 3)
        assert all(gradient.payout > 0 for gradient in campaign.rounds()[0].gradients)
        result = campaign.result()
        assert isinstance(result, NetworkClassifier)
        pooled = [np.concatenate(columns) for columns in zip(*shares, strict=True)]
        by_seed = [trained_on(model, *pooled, seed).score(*held_out) for seed in range(3)]
        found, best = result.score(*held_out), float(np.mean(by_seed))
        assert result.campaign_score(*validation) == pytest.approx(campaign.score, abs=1e-6)
        assert found >= best - 0.01 > 0.95, (found, by_seed, [held.score for held in campaign.rounds()])


def trained_on(model: pysonar.Network, features: np.ndarray, labels: np.ndarray, seed: int) -> NetworkClassifier:
    """The network trained in the clear, by the same schedule, on records in one place."""
    module = model.module()
    scaled = np.clip((features - model.offset) / model.scale, -16, 16)
    change = train(model.graph, model.weights, scaled, np.eye(10)[labels], model.terms.training, seed=seed)
    trained = NetworkClassifier()
    trained._become_network(model._spec(), model.weights + change)
    trained.classes_ = module.classes_
    return trained


def test_an_mlp_on_breast_cancer_starts_and_ends_as_a_torch_module(world: World, mines: Mines, tmp_path: Path) -> None:
    data = load_breast_cancer()
    validation, held_out, shares = parts_of((data.data, data.target), 120, 120, 2)
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(30, 16), nn.LayerNorm(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
    names = [name.replace(" ", "_") for name in data.feature_names]
    accounts = [
        mines.add(
            names, features, labels, accept={"modes": ["encrypted-linear", "network"], "min_mines_of_networks": 2}
        ).address
        for features, labels in shares
    ]
    scaling = {"offset": validation[0].mean(axis=0), "scale": validation[0].std(axis=0)}
    model = pysonar.Network(
        module, names, classes=["0", "1"], accounts=accounts, **scaling,
        training={"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "epochs": 8},
    )  # fmt: skip
    assert model.module().score(*validation) == pytest.approx(0.5, abs=0.4)
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model, validation, pysonar.ether(1), target=0.93, deadline="2h",
            rounds={"round_size": 2, "min_mines": 2, "max_rounds": 3, "noise": 0.5},
        )  # fmt: skip
        mines.run(campaign, 3)
        result = campaign.result()
    report = audit_campaign(
        world.client_for(None), world.store, campaign.id, start_block=world.network.start_block,
        allow_insecure_small_key=True,
    )  # fmt: skip
    assert report.exit_code == 0, str(report)
    assert [finding.place for finding in report.findings if finding.check == "product"]
    assert result.score(*held_out) > 0.9
    chances = result.predict_proba(held_out[0])
    assert np.allclose(chances.sum(axis=1), 1)
    assert (result.classes_[chances.argmax(axis=1)] == result.predict(held_out[0])).all()
    assert isinstance(result.network, nn.Module)
    again = pysonar.Network(result.network, names, classes=["0", "1"], **scaling)
    assert again.graph == model.graph
    assert np.allclose(again.weights, result.weights)
    assert sum(facts["records"] for what, facts in mines.told if what == "trained") >= 300


def test_a_mine_trains_no_network_unless_its_owner_says_so(world: World, mines: Mines, tmp_path: Path) -> None:
    validation, _, shares = parts_of(load_diabetes(return_X_y=True, scaled=False), 120, 0, 1)
    model = network_on(validation)
    mines.add([f"x{i}" for i in range(10)], *shares[0], accept={})
    with world.session(tmp_path) as sonar:
        campaign = sonar.create_campaign(model, validation, pysonar.ether(1), target=0.9, deadline="2h")
        mines.step()
        assert campaign.present_round.count == 0
        (reason,) = {facts["reason"] for _, facts in mines.told if "network" in str(facts.get("reason"))}
        assert "would learn the model" in reason


def network_on(validation: tuple, **options: Any) -> pysonar.Network:
    """A small network for a regression."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
    features, labels = validation
    return pysonar.Network(
        module, 10, targets=1, offset=features.mean(axis=0), scale=features.std(axis=0), target_offset=labels.mean(),
        target_scale=labels.std(), **options,
    )  # fmt: skip


def test_a_regression_by_a_network_predicts_in_the_targets_own_units() -> None:
    table = load_diabetes(return_X_y=True, scaled=False)
    model = network_on(table, training={"epochs": 30, "learning_rate": 0.01})
    start = model.module()
    assert isinstance(start, NetworkRegressor)
    before = start.score(*table)
    start.fit(*table)
    assert start.score(*table) > max(before, 0.4)
    assert start.predict(table[0]).mean() == pytest.approx(table[1].mean(), rel=0.2)
    assert model.fitted_on(*table).module().score(*table) == pytest.approx(start.score(*table), abs=1e-6)
    assert model.spec_outputs()["targets"][0].name == "target"


def test_a_networks_result_says_that_it_does_not_split_by_its_mines() -> None:
    result = pysonar.Network(LINEAR, 4, classes=3).module()
    for ask in (lambda: result.attribution(np.zeros((1, 4))), lambda: result.without("0x12")):
        with pytest.raises(NotOpenError, match="only linear and kernel models can be split"):
            ask()


LINEAR = nn.Sequential(nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pysonar.Network(LINEAR, 4), "name one of them"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, targets=1), "name one of them"),
        (lambda: pysonar.Network(LINEAR, 5, classes=3), "do not fit records of shape"),
        (lambda: pysonar.Network(LINEAR, 4, classes=2), "gives 3, but there are 4 features and 2 classes"),
        (lambda: pysonar.Network(nn.Sequential(nn.LSTM(4, 3)), 4, classes=3), "LSTM"),
        (lambda: pysonar.Network(nn.Sequential(nn.BatchNorm1d(4), LINEAR), 4, classes=3), "GroupNorm"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, training={"epochs": 0}), "epochs.*at least 1"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, training={"rate": 1}), "no such field; .*learning_rate"),
        (lambda: pysonar.Network(nn.Sequential(nn.Conv2d(1, 2, 3)), 4, classes=3), r"takes=\(channels, height"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, training={"loss": "mse"}).module(), "cross_entropy"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, accounts=["0x12"]), "address"),
        (lambda: pysonar.Network(LINEAR, 4, classes=3, metric="r2"), "r2"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_campaigns_network_is_said_in_a_sentence(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((ModelError, SonarError), match=said):
        make()


def test_parameters_too_large_for_the_grid_are_refused_with_their_size() -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    with torch.no_grad():
        module[0].weight[0, 0] = 9.0
    model = pysonar.Network(module, 4, classes=3)
    with pytest.raises(ModelError, match="largest start weight is 9"):
        model.check_weights(model.encoding())
