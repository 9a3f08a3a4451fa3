"""A whole campaign against the real Capsule: its HTTP service, its worker and its judge, on a real chain."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import uvicorn
from eth_account import Account
from sklearn.datasets import load_iris

import pysonar
from capsule.client import CapsuleRefusedError
from capsule.http.app import create_app
from capsule.keypool import KeyPool
from capsule.parts import Capsule
from capsule.policy import Policy
from capsule.sandbox import Limits, Sandbox
from capsule.secret import Vault, generate_key
from capsule.secret.stretching import INTERACTIVE
from capsule.service import CapsuleService
from capsule.state import State
from capsule.worker import Worker
from mine.policy import Policy as MinePolicy
from mine.policy.data_rules import check_records
from mine.trainer import max_model_bytes, train
from sonar.chain import calls
from sonar.chain.errors import UnfundedAccountError
from sonar.chain.records import Status
from sonar.config import Network
from sonar.protocol.payloads import design_matrix
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, seal
from sonar.storage.base import Artifact
from sonar.storage.directory import DirectoryStore
from sonar.units import digest_of, ether


@dataclass
class World:
    """A network with a running Capsule, and what acts on it."""

    network: Network
    store: DirectoryStore
    client_for: object
    new_account: object

    def mine(self, campaign, features, labels, account) -> None:
        """Trains the present model as a mine does, and posts the gradient."""
        spec, created = campaign.spec, campaign._creation()
        model = self.store.get(Artifact(created.model_cid, created.admission.model), max_bytes=max_model_bytes(spec))
        design, targets = design_matrix(spec, features), np.eye(len(spec.classes))[labels]
        gathered = spec.training.schedule.gather([(design, targets)], *spec.shape)
        check_records(MinePolicy.model_validate({"data": {"min_records": 10}}), gathered, spec)
        gradient = train(spec, model, created.admission.key, gathered, allow_insecure_small_key=True)
        client = self.client_for(account)
        context = BoxContext(
            Purpose.GRADIENT, client.chain_id, client.address, account.address, campaign.id.hex(), round=0
        )
        sealed = self.store.put(seal(gradient.payload, context, created.admission.sealing_key))
        client.transact(
            calls.submit_gradient(
                campaign.id, 0, sealed.digest, digest_of(gradient.payload), sealed.cid, created.terms.bond
            )
        )


@pytest.fixture
def world(chain_url, deployed, client_for, new_account, tmp_path) -> Iterator[World]:
    """The Capsule as `capsule serve` runs it, with small keys, in threads of this process."""
    attester = new_account()
    client = client_for(attester)
    store = DirectoryStore(tmp_path / "store")
    state, vault = State(tmp_path / "capsule.sqlite3"), Vault.create("a passphrase", cost=INTERACTIVE)
    state.audit.begin(bytes(32))
    keys = KeyPool(
        state, vault, lambda: generate_key(512, allow_insecure_small_key=True), allow_insecure_small_key=True
    )
    sandbox = Sandbox(Limits(processes=1), allow_insecure_small_key=True)
    capsule = Capsule(
        state, vault, attester, SealingKeyPair.generate(), client, store, keys, sandbox, 512, Policy(),
        allow_insecure_small_key=True,
    )  # fmt: skip
    worker = Worker(capsule, deployed.block)
    with sandbox, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(CapsuleService(capsule, worker.health))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True),
            threading.Thread(target=worker.run, args=(0.05,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        limit = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < limit, "the Capsule's service did not start"
            threads[0].join(0.01)
        yield World(
            Network(
                rpc_url=chain_url,
                chain_id=client.chain_id,
                contract=client.address,
                start_block=deployed.block,
                store=f"directory:{tmp_path / 'store'}",
                capsule_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                capsule=attester.address,
            ),
            store,
            client_for,
            new_account,
        )
        worker.stop()
        server.should_exit = True
        for thread in threads:
            thread.join(30)
    state.close()


def connect(world, tmp_path, account=None):
    return pysonar.connect(
        world.network,
        account=account or world.new_account(),
        directory=tmp_path / "campaigns",
        allow_insecure_small_key=True,
    )


@pytest.fixture(scope="module")
def iris():
    """Shuffled irises: 60 to validate, two mines' shares of 45."""
    features, labels = load_iris(return_X_y=True)
    order = np.random.default_rng(11).permutation(len(labels))
    return [(features[rows], labels[rows]) for rows in (order[:60], order[60:105], order[105:])]


def model_of(validation, **more):
    return pysonar.LinearClassifier.standardised(4, ["setosa", "versicolor", "virginica"], like=validation[0], **more)


@pytest.mark.parametrize(
    ("feature_map", "training", "least"),
    [
        (None, {"epochs": 200}, 0.7),
        ({"kind": "fourier", "count": 22, "gamma": 0.1}, {"epochs": 200}, 0.9),
        (None, {"epochs": 200, "loss": "taylor-logistic", "class_weights": (1.0, 2.0, 1.0)}, 0.7),
        ({"kind": "polynomial"}, {"epochs": 50, "loss": "taylor-logistic", "batch_size": 16}, 0.9),
    ],
    ids=["linear", "fourier", "logistic", "polynomial-mini-batch"],
)
def test_a_campaign_from_the_first_line_to_the_trained_module(
    world, tmp_path, iris, capfd, feature_map, training, least
):
    validation, *shares = iris
    with connect(world, tmp_path) as sonar:
        campaign = sonar.create_campaign(
            model=model_of(validation, feature_map=feature_map),
            validation=validation,
            bounty=pysonar.ether(1),
            target=0.75,
            deadline="2h",
            min_records=30,
            training=training,
            rounds={"round_size": 2, "noise": 0.5},
        )
        for features, labels in shares:
            world.mine(campaign, features, labels, world.new_account())
        campaign.watch(poll=0.05, timeout=120)
        assert campaign.status is Status.FINISHED
        assert len(campaign.gradients()) == len(campaign.payouts()) == 2
        model = campaign.result()
        # The judge scores integers at 2^16, the module floats: a record on the border may fall either way.
        assert abs(model.score(*validation) - campaign.score) <= 1 / 60
        assert model.score(*shares[0]) > least
        paid = sum(payout.amount for payout in campaign.payouts())
        assert paid > 0
        assert campaign.close() + paid == ether(1)
    assert "finished" in capfd.readouterr().err


def test_the_capsule_refuses_a_target_below_the_start(world, tmp_path, iris):
    validation = iris[0]
    sonar = connect(world, tmp_path)
    with pytest.raises(CapsuleRefusedError, match="aim higher") as caught:
        sonar.create_campaign(model_of(validation), validation, ether(1), 0.2, "2h")
    assert caught.value.code == "target_reached"
    assert sonar.balance() == ether(100)
    assert sonar.campaigns() == []


def test_the_capsule_delivers_only_at_the_end_and_to_the_owner(world, tmp_path, iris):
    validation = iris[0]
    owner = connect(world, tmp_path)
    campaign = owner.create_campaign(model_of(validation), validation, ether(1), 0.9, "2h")
    pair = SealingKeyPair.generate()
    with pytest.raises(CapsuleRefusedError) as caught:
        owner.capsule.deliver(campaign.id, pair.public)
    assert caught.value.code == "not_over"
    campaign.close()
    stranger = connect(world, tmp_path)
    with pytest.raises(CapsuleRefusedError) as caught:
        stranger.capsule.deliver(campaign.id, pair.public)
    assert caught.value.code == "not_owner"
    np.testing.assert_array_equal(campaign.result().weights, np.zeros((5, 3)))


def test_an_account_without_coin_is_told_so(world, tmp_path, iris):
    sonar = connect(world, tmp_path, Account.create())
    with pytest.raises(UnfundedAccountError, match="holds 0 ether"):
        sonar.create_campaign(model_of(iris[0]), iris[0], ether(1), 0.9, "2h")
