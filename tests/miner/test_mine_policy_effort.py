"""What a training is estimated to take: the model's size decides, and nothing else."""

import pytest

from mine.policy.effort import training_seconds
from sonar.protocol.spec import Spec


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
    assert 0 < small < wide
    assert tall > 20 * small
    assert training_seconds(spec(20, training={"epochs": 1000}, min_records=10**6)) == small


def test_a_feature_maps_outputs_count_and_not_the_features():
    mapped = spec(5, feature_map={"kind": "fourier", "count": 200, "gamma": 1.0})
    assert training_seconds(mapped) == pytest.approx(training_seconds(spec(200)))
