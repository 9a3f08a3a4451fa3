"""How few records the policy lets a mine train on, however a spec batches, weighs and maps them."""

import numpy as np
import pytest

from mine.errors import PolicyError
from mine.policy import Policy
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec


def spec(features=3, **changes):
    values = {
        "name": "test",
        "features": tuple({"name": f"x{at}"} for at in range(features)),
        "classes": ("no", "yes"),
        "payout": {"target": 900_000},
    }
    return Spec.build(**{**values, **changes})


def gathered(of, labels):
    features = np.random.default_rng(1).normal(size=(len(labels), len(of.features)))
    batch = design_matrix(of, features), np.eye(2)[labels]
    return of.training.schedule.gather([batch], *of.shape)


def test_fewer_records_than_the_policy_wants_are_refused():
    Policy(min_records=20).check_records(20, spec())
    with pytest.raises(PolicyError, match="19 records are fewer than `min_records` 20: each would show"):
        Policy(min_records=20).check_records(19, spec())


def test_batches_of_fewer_records_than_the_policy_wants_are_refused():
    of = spec(training={"batch_size": 30})
    Policy(min_records=30).check_records(1000, of)
    with pytest.raises(PolicyError, match="batches of 30 records, fewer than `min_records` 31: each would show"):
        Policy(min_records=31).check_records(1000, of)


@pytest.mark.parametrize(
    ("feature_map", "outputs"),
    [({"kind": "fourier", "count": 70, "gamma": 1.0}, 70), ({"kind": "polynomial", "degree": 3}, 55)],
    ids=["fourier", "polynomial"],
)
def test_a_map_needs_twice_as_many_records_as_it_gives_features(feature_map, outputs):
    of = spec(features=2 if outputs == 70 else 5, feature_map=feature_map)
    assert of.mapping.outputs == outputs
    Policy().check_records(2 * outputs, of)
    with pytest.raises(
        PolicyError,
        match=f"{2 * outputs - 1} records are fewer than {2 * outputs}, twice the {outputs} features of its "
        f"{feature_map['kind']} map: each would show",
    ):
        Policy().check_records(2 * outputs - 1, of)


def test_plain_features_may_outnumber_the_records():
    Policy().check_records(20, spec(features=100))


@pytest.mark.parametrize("batch_size", [None, 100])
def test_class_weights_that_leave_fewer_records_than_the_policy_wants_are_refused(batch_size):
    labels = (np.arange(1000) == 7).astype(int)
    of = spec(training={"batch_size": batch_size, "class_weights": (1.0, 50.0)})
    found = gathered(of, labels)
    assert found.effective_records == pytest.approx(1049**2 / (999 + 2500))
    size = batch_size or 1000
    count = (size + 49) ** 2 / (size - 1 + 2500)
    Policy(min_records=int(count)).check_gathered(found, of)
    with pytest.raises(PolicyError, match=rf"class weights .* of a batch count as {count:.1f}, fewer than"):
        Policy(min_records=int(count) + 1).check_gathered(found, of)


def test_what_was_gathered_is_counted_again():
    with pytest.raises(PolicyError, match="9 records are fewer than `min_records` 10"):
        Policy().check_gathered(gathered(spec(), np.arange(9) % 2), spec())
