"""A campaign spec for a network: what it writes, what contradicts itself, and how its parameters lie in rows."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from sonar import canonical
from sonar.network import Graph, NetworkTraining
from sonar.protocol.errors import ProtocolError, SpecError
from sonar.protocol.payloads import decode_validation, decode_weights, encode_validation, encode_weights
from sonar.protocol.spec import Encoding, Feature, NetworkTerms, Payout, Rounds, Spec, Target

ACCOUNT = "0x1111111111111111111111111111111111111111"


def graph(features=2, hidden=5, outputs=3):
    return Graph.model_validate({"takes": (features,), "layers": (
        {"op": "linear", "of": (0,), "units": hidden}, {"op": "tanh", "of": (1,)},
        {"op": "linear", "of": (2,), "units": outputs},
    )})  # fmt: skip


def network_spec(**changes):
    network = {"graph": graph(), **changes.pop("network", {})}
    return Spec.build(**{
        "name": "network", "mode": "network", "features": (Feature(name="a"), Feature(name="b")),
        "classes": ("x", "y", "z"), "network": NetworkTerms(**network), "encoding": Encoding.for_network(),
        "payout": Payout(target=900_000), **changes,
    })  # fmt: skip


def test_a_network_spec_survives_its_own_bytes_and_says_nothing_of_maps():
    spec = network_spec(network={"accounts": (ACCOUNT,)})
    assert Spec.parse(spec.to_bytes()) == spec
    written = json.loads(spec.to_bytes())
    assert not {"feature_map", "training"} & written.keys()
    assert written["network"]["accounts"] == [ACCOUNT]


def test_a_linear_spec_says_nothing_of_networks():
    spec = Spec.build(name="linear", features=(Feature(name="a"),), classes=("x", "y"), payout=Payout(target=900_000))
    assert "network" not in json.loads(spec.to_bytes())
    assert Spec.parse(spec.to_bytes()) == spec
    told = {**json.loads(spec.to_bytes()), "network": None}
    with pytest.raises(SpecError, match="canonical form"):
        Spec.parse(canonical.dumps(told))


def test_the_parameters_fill_the_plaintexts_of_a_usual_key():
    spec = network_spec(network={"graph": graph(hidden=100)})
    assert spec.network.graph.size == 100 * 2 + 100 + 300 + 3
    assert spec.shape == (6, 118)
    assert spec.outputs == 3
    assert network_spec().shape == (1, 33)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "encrypted-linear"}, "contradict"),
        ({"network": None, "mode": "network"}, "contradict"),
        ({"feature_map": {"kind": "polynomial"}}, "leave both out"),
        ({"training": {"epochs": 3}}, "leave both out"),
        ({"features": (Feature(name="a"),)}, "takes 2 numbers"),
        ({"classes": ("x", "y")}, "3 classes|2 classes"),
        ({"encoding": Encoding()}, "scale of its weights"),
        ({"rounds": Rounds(round_size=64)}, "step_bits"),
        ({"payout": Payout(target=900_000, bond=0)}, "everybody is given the weights"),
    ],
)
def test_a_network_spec_that_contradicts_itself_is_refused(changes, said):
    values = {
        "name": "network", "mode": "network", "features": (Feature(name="a"), Feature(name="b")),
        "classes": ("x", "y", "z"), "network": NetworkTerms(graph=graph()), "encoding": Encoding.for_network(),
        "payout": Payout(target=900_000), **changes,
    }  # fmt: skip
    with pytest.raises(SpecError, match=said):
        Spec.build(**values)


def test_losses_go_with_what_is_learnt():
    numbers = {"metric": "r2", "classes": (), "targets": tuple(Target(name=n) for n in "xyz")}
    assert network_spec(**numbers, network={"training": NetworkTraining(loss="mse")}).outputs == 3
    with pytest.raises(SpecError, match="by mse"):
        network_spec(**numbers)
    with pytest.raises(SpecError, match="by mse"):
        network_spec(network={"training": NetworkTraining(loss="mse")})


def test_more_parameters_than_a_round_can_hold_are_refused():
    large = {"graph": graph(hidden=150_000 // 6)}
    assert network_spec(network=large).shape[0] > 1000
    with pytest.raises(SpecError, match="a round: choose a smaller round_size"):
        network_spec(network=large | {"graph": graph(hidden=60_000, outputs=3)}, rounds=Rounds(round_size=50),
                     encoding=Encoding.for_network().model_copy(update={"step_bits": 8, "slot_width": 27}))  # fmt: skip
    with pytest.raises(SpecError, match="narrower slots"):
        network_spec(network=large | {"graph": graph(hidden=65_000)}, rounds=Rounds(round_size=2, min_mines=2),
                     encoding=Encoding.for_network().model_copy(update={"slot_width": 128}))  # fmt: skip


def test_linear_campaigns_need_bits_for_their_map():
    with pytest.raises(SpecError, match="map_bits 0"):
        Spec.build(name="linear", features=(Feature(name="a"),), classes=("x", "y"), payout=Payout(target=900_000),
                   encoding=Encoding.for_network())  # fmt: skip


def test_a_network_whose_terms_name_accounts_needs_no_bond():
    spec = network_spec(network={"accounts": (ACCOUNT,)}, payout=Payout(target=900_000, bond=0))
    assert Spec.parse(spec.to_bytes()) == spec


def test_a_batch_that_fills_a_mines_memory_is_refused():
    wide = {"graph": graph(hidden=20_000)}
    with pytest.raises(SpecError, match="choose a batch_size of at most 6710"):
        network_spec(network=wide | {"training": NetworkTraining(batch_size=1 << 16)})
    assert network_spec(network=wide | {"training": NetworkTraining(batch_size=6710)}).network is not None


def test_decay_may_not_make_a_change_tell_of_the_last_batch_alone():
    with pytest.raises(ValidationError, match="the last few batches alone"):
        NetworkTraining(optimizer="sgd", learning_rate=1.0, weight_decay=1.0, batch_size=1)
    assert NetworkTraining(learning_rate=0.1, weight_decay=0.1).weight_decay == 0.1


def test_numbers_behind_the_last_parameter_are_refused():
    spec = network_spec(network={"graph": graph(hidden=100)})
    weights = np.zeros(spec.shape, dtype=np.int64)
    assert (decode_weights(encode_weights(weights), spec) == 0).all()
    weights[-1, -1] = 1
    with pytest.raises(ProtocolError, match="behind the network's last parameter"):
        decode_weights(encode_weights(weights), spec)


def test_a_validation_set_that_takes_hours_to_judge_is_refused():
    spec = network_spec(network={"graph": graph(hidden=20_000)}, rounds=Rounds(round_size=10))
    rng = np.random.default_rng(1)
    few, many = (encode_validation(rng.normal(size=(n, 2)), rng.integers(0, 3, n)) for n in (100, 1000))
    decode_validation(few, spec)
    with pytest.raises(ProtocolError, match="fewer records, or a smaller round_size"):
        decode_validation(many, spec)
