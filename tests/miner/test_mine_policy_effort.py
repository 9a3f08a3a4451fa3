"""What a training is estimated to take: the model's size decides, and nothing else."""

import pytest

from mine.policy.effort import training_seconds
from sonar.protocol.spec import Encoding, Spec


def spec(features, classes=2, **changes):
    values = {
        "name": "test",
        "features": tuple({"name": f"x{at}"} for at in range(features)),
        "classes": tuple(str(number) for number in range(classes)),
        "payout": {"target": 900_000},
    }
    return Spec.build(**{**values, **changes})


def test_larger_models_take_longer_and_epochs_and_records_make_no_difference():
    small, wide, tall = (training_seconds(of) for of in (spec(20), spec(20, 250), spec(200)))
    start = training_seconds(spec(1, 2))
    assert 0.5 < start < small < wide
    assert tall - start > 20 * (small - start)
    assert training_seconds(spec(20, training={"epochs": 1000}, min_records=10**6)) == small


def test_a_feature_maps_outputs_count_and_not_the_features():
    mapped = spec(5, feature_map={"kind": "fourier", "count": 200, "gamma": 1.0})
    assert training_seconds(mapped) == pytest.approx(training_seconds(spec(200)))


def network(layers, takes=4, **training):
    values = [{"op": "linear", "of": (at,), "units": units} for at, units in enumerate((*layers, 2))]
    graph = {"takes": (takes,), "layers": tuple(values)}
    return spec(takes, mode="network", network={"graph": graph, "training": training}, encoding=Encoding.for_network())


def test_each_batch_of_a_network_takes_its_time_however_small_it_is():
    few, many = (training_seconds(network([16], batch_size=size, epochs=10), 10_000) for size in (1000, 1))
    assert many > 20 + few
    deep, flat = (training_seconds(network([4] * depth, epochs=10), 10_000) for depth in (200, 1))
    assert deep > 10 * flat
    wide, thin = (training_seconds(network([units], batch_size=1), 10_000) for units in (60_000, 10))
    assert wide > 10 * thin


def test_noise_takes_its_time_for_each_parameter_of_each_step():
    few, many = (network([100] * 3, batch_size=size, epochs=10) for size in (1000, 10))
    assert training_seconds(few, 1000, noised=True) > 2 * training_seconds(few, 1000)
    assert training_seconds(many, 1000, noised=True) > 60 + training_seconds(few, 1000, noised=True)
    assert training_seconds(spec(20), 1000, noised=True) == training_seconds(spec(20), 1000)
