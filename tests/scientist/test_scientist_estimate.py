"""Estimates without a network: gas as the contract's benchmark has it, sizes as the wire format has them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pysonar
from capsule.secret import SecretKey
from pysonar.errors import TermsError
from pysonar.estimating.gas import GAS_COIN, GAS_TOKEN
from pysonar.estimating.speed import Speed
from sonar import syft
from sonar.protocol.payloads import encode_validation

MEASURED = json.loads((Path(__file__).parents[2] / "scripts" / "gas.json").read_text())
X, Y = np.random.default_rng(0).normal(size=(200, 20)), np.arange(200) % 4
CAMPAIGN = {
    "model": pysonar.LinearClassifier(20, 4), "validation": (X, Y), "bounty": pysonar.ether(1), "target": 0.9,
    "deadline": "2h",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "gas"), [("coin", GAS_COIN), ("token", GAS_TOKEN)])
def test_gas_is_what_the_benchmark_of_the_contract_recorded(kind: str, gas) -> None:
    assert gas.create == MEASURED[f"createCampaign, {kind}"]
    assert gas.close == MEASURED[f"close, {kind}"]
    assert gas.withdraw == MEASURED[f"withdraw, {kind}, to oneself"]
    assert gas.submit == MEASURED["submitGradient, later of a mine, joins a round"]
    assert gas.submit_first == MEASURED["submitGradient, first of a mine, joins a round"]
    for gradients in (1, 2, 4, 8, 16, 32, 64):
        for new, words in ((0, ""), (gradients, ", new mines")):
            recorded = MEASURED[f"settleRound, {kind}{words}: {gradients}"]
            assert gas.settlement(gradients, new) == pytest.approx(recorded, rel=0.01)


def test_sizes_are_those_of_the_artifacts(paillier: SecretKey) -> None:
    told = pysonar.estimate(**CAMPAIGN, mines=4, rounds_run=1, key_bits=512)
    encoding = CAMPAIGN["model"].encoding()
    encrypted = syft.encrypt(
        np.zeros((21, 4), dtype=object), paillier.public, syft.Obfuscator(paillier.public),
        slot_width=encoding.slot_width, scale=encoding.weight_bits, bound=encoding.weight_bound,
        stride=encoding.stride(paillier.public, 4),
    )  # fmt: skip
    assert told.model_bytes == pytest.approx(len(syft.dump_model(encrypted)), rel=0.05)
    assert told.validation_bytes == pytest.approx(len(encode_validation(X, Y)), rel=0.02)


def test_more_work_takes_more_of_everything_and_a_round_that_is_not_full_waits() -> None:
    small = pysonar.estimate(**CAMPAIGN, mines=2, rounds_run=1, key_bits=512)
    more = pysonar.estimate(**CAMPAIGN, mines=8, rounds_run=3, key_bits=512)
    assert small.round_seconds > 300 > more.round_seconds
    assert more.stored_bytes > 8 * small.stored_bytes - small.validation_bytes * 8
    assert more.settlement_gas > 3 * small.settlement_gas
    assert more.seconds > 2 * more.round_seconds
    token = pysonar.estimate(**CAMPAIGN, mines=2, rounds_run=1, key_bits=512, token="0x" + "11" * 20)
    assert token.owner_gas > small.owner_gas
    assert "2 mines, 1 rounds, keys of 512 bits" in str(small)
    assert "<table>" in small._repr_html_()


def test_longer_keys_and_larger_models_train_longer() -> None:
    larger = {**CAMPAIGN, "model": pysonar.KernelClassifier(20, 4, count=500)}
    small, long, large = (
        pysonar.estimate(**given, mines=2, key_bits=bits)
        for given, bits in ((CAMPAIGN, 512), (larger, 512), (larger, 2048))
    )
    assert small.training_seconds < long.training_seconds < large.training_seconds
    assert Speed.measured(2048).lookup > Speed.measured(512).lookup > 0


@pytest.mark.parametrize(("mines", "rounds"), [(1, 1), (2, 0), (2, 21)])
def test_what_the_campaign_cannot_have_is_not_estimated(mines: int, rounds: int) -> None:
    with pytest.raises(TermsError, match=f"{mines} mines and {rounds} rounds are not what this campaign can have"):
        pysonar.estimate(**CAMPAIGN, mines=mines, rounds_run=rounds, key_bits=512)


def network(width: int, **training) -> pysonar.Network:
    layers = torch.nn.Linear(20, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.Linear(width, 4)
    return pysonar.Network(torch.nn.Sequential(*layers), 20, classes=4, training={"batch_size": 4, **training})


def test_a_networks_training_takes_time_by_its_records_and_its_judging_by_its_gradients() -> None:
    given = {**CAMPAIGN, "model": network(64, epochs=20), "key_bits": 512, "rounds_run": 1}
    few, many = (pysonar.estimate(**given, mines=3, records=records) for records in (100, 20_000))
    # 100,000 steps of some layers are the work of seconds on any machine.
    assert many.training_seconds > few.training_seconds + 2
    sizes = {"round_size": 10, "min_mines": 3}
    small, large = (pysonar.estimate(**given, mines=mines, records=100, rounds=sizes) for mines in (3, 10))
    # Of ten gradients a thousand coalitions are run; what is not full waits, which is no work.
    assert large.round_seconds - large.training_seconds > small.round_seconds - small.training_seconds - 300 + 0.2
    assert pysonar.estimate(**given, mines=3).training_seconds < many.training_seconds
    words = torch.nn.Sequential(torch.nn.Embedding(9, 6), torch.nn.Flatten(), torch.nn.Linear(120, 4))
    model = pysonar.Network(words, 20, classes=4)
    asked = {**given, "model": model, "validation": (np.zeros_like(X), Y)}
    assert pysonar.estimate(**asked, mines=3).training_seconds > 0


@pytest.mark.parametrize(
    "wrong",
    [{"mines": 2.0}, {"mines": "4"}, {"mines": None}, {"mines": True}, {"records": 0}, {"records": "many"},
     {"rounds_run": 1.5}, {"key_bits": 100}, {"key_bits": "long"}, {"gas_price": -1}, {"gas_price": "1 gwei"}],
    ids=str,
)  # fmt: skip
def test_numbers_that_are_none_are_refused_with_what_they_may_be(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(TermsError, match=f"{name} is {wrong[name]!r}: give a whole number, "):
        pysonar.estimate(**{**CAMPAIGN, "mines": 4, "key_bits": 512, **wrong})
