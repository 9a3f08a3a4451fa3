"""The mistakes that a data scientist makes, and the one sentence that she gets for each, before anything is paid."""

import numpy as np
import pytest
import torch

import pysonar
from capsule.client import CapsuleClient
from capsule.errors import CapsuleError, CapsuleUnavailableError
from pysonar.errors import ColdStartWarning, TermsError, UnknownCampaignError, ValidationSetError
from pysonar.models import KernelClassifier, LinearClassifier, LinearRegressor
from sonar.chain.errors import ChainError, RpcUnavailableError, WrongChainError
from sonar.protocol.errors import SpecError
from sonar.units import Wei, ether

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), np.arange(30) % 3
KNOWS = np.vstack([10 * np.eye(4)[:, :3], np.zeros(3)])
"""Weights of a model that tells which of three features is the largest."""


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"validation": (X[:, :3], Y)}, ValidationSetError,
         "the features have shape (30, 3), but the model takes (records, 4): give one row a record and one column"),
        ({"validation": (X, Y[:29])}, ValidationSetError, "the labels have shape (29,), but there are 30 records"),
        ({"validation": (X, Y + 1)}, ValidationSetError,
         "label '3' is not among the model's classes 0, 1, 2 (10 such labels in all)"),
        ({"validation": X}, ValidationSetError, "the validation set must be a pair (X, y): features and labels"),
        ({"model": LinearClassifier(4, ["a", "b", "c"]), "validation": (X, ["a"] * 29 + ["d"])}, ValidationSetError,
         "label 'd' is not among the model's classes a, b, c (1 such labels in all)"),
        ({"model": LinearClassifier(4, 3, weights=KNOWS), "validation": (np.eye(4)[Y], Y)}, TermsError,
         "the start model scores 100.00% already, at or above the target 90.00%: aim higher"),
        ({"target": 92}, TermsError, "target 92 is not a score above 0 and up to 1: write 0.92 for 92%"),
        ({"bounty": Wei(10**10)}, TermsError,
         "the bounty of 0.00000001 ether is less than the 0."),
        ({"bounty": 0.5}, TermsError, "bounty 0.5 is not an amount in wei: write pysonar.ether(1.5) for 1.5 ether"),
        ({"deadline": "soon"}, TermsError, "the deadline 'soon' is not a time ahead"),
        ({"model": "a network"}, TermsError, "a str cannot be trained encrypted: describe it as one of"),
        ({"training": {"epoch": 3}}, SpecError, "epoch"),
        ({"training": 3}, TermsError, "training 3 is not what it must be: write training={...}, a value for each name"),
        ({"payout": ["gain"]}, TermsError, "payout ['gain'] is not what it must be: write payout={...}"),
        ({"columns": {"x0": "years"}}, TermsError, "columns['x0'] 'years' is not what it must be"),
        ({"deadline": "2000d"}, TermsError, "the deadline 2000d is over 5 years ahead, which no contract takes"),
        ({"rounds": {"min_gain": 700_000}}, TermsError,
         "the start model scores 33.33%, from where no round can raise it by min_gain 70.00%: ask for less"),
        ({"model": LinearClassifier}, TermsError, "LinearClassifier cannot be trained encrypted: describe it as"),
        ({"model": LinearRegressor(4), "validation": (X, X[:, 0]), "target_column": "dose"}, TermsError,
         "the target column 'dose' is of classifiers: a regression's model names what it predicts, targets=['dose']"),
        ({"model": LinearRegressor(4), "validation": (X, Y.astype(float) * 1e6)}, ValidationSetError,
         "target 'target' lies beyond 16 scales on 67% of the records and would be clipped: give "),
        ({"model": LinearRegressor(4), "validation": (X, np.ones(30))}, ValidationSetError,
         "a target is the same in every validation record, so R2 has no value: give others"),
        ({"model": LinearRegressor(4, 2), "validation": (X, np.ones(30))}, ValidationSetError,
         "the targets have shape (30,), but the model predicts (records, 2)"),
        ({"model": LinearRegressor(4), "validation": (X, ["low"] * 30)}, ValidationSetError,
         "the targets are not all numbers"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_sentence_and_costs_nothing(stage, change: dict, error: type, says: str) -> None:
    with pytest.raises(error) as caught:
        stage.campaign(**change)
    assert says in str(caught.value)
    assert "/v1/keys" not in stage.capsule.requests
    assert stage.client_for(stage.owner).balance(stage.owner.address) == ether(100)


def test_a_deadline_before_one_training_could_end_is_refused(stage) -> None:
    # At the 3072 bits that this Capsule claims, 2,047 features are the work of minutes.
    stage.capsule.lies = {"info": {"key_bits": 3072}}
    session = stage.session(info={"key_bits": 3072})
    model = KernelClassifier(4, 3, count=2047)
    with pytest.raises(
        TermsError, match=r"the deadline is in -?\d s, but on a machine like this one a mine trains this"
    ):
        session.create_campaign(model, stage.validation, ether(1), 0.9, deadline=1)
    assert "/v1/keys" not in stage.capsule.requests


def test_a_deadline_before_a_network_could_be_trained_is_refused(stage) -> None:
    layers = (
        torch.nn.Linear(4, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 3),
    )
    model = pysonar.Network(
        torch.nn.Sequential(*layers), 4, classes=3, training={"epochs": 50, "batch_size": 1, "learning_rate": 0.001}
    )
    with pytest.raises(TermsError, match=r"the deadline is in -?\d s, but on a machine like this one a mine trains"):
        stage.campaign(model=model, deadline=2, min_records=2000)
    assert "/v1/keys" not in stage.capsule.requests


def test_no_capsule_and_a_wrong_network_are_told_from_each_other(stage) -> None:
    sonar = stage.session()
    sonar.capsule = CapsuleClient("http://127.0.0.1:9", sonar.domain, stage.owner)
    with pytest.raises(CapsuleUnavailableError, match=r"the Capsule at http://127\.0\.0\.1:9 does not answer"):
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    sonar.capsule.close()
    with pytest.raises(CapsuleError, match="was closed, as its session was: connect anew"):
        sonar.create_campaign(LinearClassifier(4, 3), stage.validation, ether(1), 0.9, "2h")
    other = stage.network.model_copy(update={"chain_id": 5})
    with pytest.raises(WrongChainError, match="chain"):
        pysonar.connect(other, account=stage.owner)
    with pytest.raises(RpcUnavailableError, match=r"127\.0\.0\.1:9"):
        pysonar.connect(stage.network, account=stage.owner, chain="http://127.0.0.1:9")
    empty = stage.network.model_copy(update={"contract": "0x" + "11" * 20})
    with pytest.raises(ChainError, match="0x1111"):
        pysonar.connect(empty, account=stage.owner)
    with pytest.raises(UnknownCampaignError, match=r"has no campaign 0xabab.*: check the id and the network"):
        stage.session().campaign("ab" * 32)


def test_a_start_that_knows_nothing_is_warned_of_where_it_is_made(stage) -> None:
    with pytest.warns(
        ColdStartWarning, match=r"all zero and scores 33\.33%, so the first round takes nearly all"
    ) as seen:
        stage.campaign()
    assert all(one.filename.endswith("conftest.py") for one in seen)
    with pytest.warns() as none:
        stage.campaign(model=LinearClassifier(4, 3, weights=KNOWS))
    assert not [one for one in none if one.category is ColdStartWarning]
