"""How few records the policy lets a mine train on once they were read, however a spec batches, weighs and maps them."""

import numpy as np
import pytest

from mine.errors import PolicyError
from mine.policy import Policy
from mine.policy.data_rules import check_records
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


def policy(records):
    return Policy(data={"min_records": records, "min_class_records": 1})


@pytest.mark.parametrize("batch_size", [None, 100])
def test_class_weights_that_leave_fewer_records_than_the_policy_wants_are_refused(batch_size):
    labels = (np.arange(1000) == 7).astype(int)
    of = spec(training={"batch_size": batch_size, "class_weights": (1.0, 50.0)})
    found = gathered(of, labels)
    assert found.effective_records == pytest.approx(1049**2 / (999 + 2500))
    size = batch_size or 1000
    count = (size + 49) ** 2 / (size - 1 + 2500)
    check_records(policy(int(count)), found, of)
    with pytest.raises(PolicyError, match=rf"class weights .* of a batch count as {count:.1f}, fewer than"):
        check_records(policy(int(count) + 1), found, of)


def test_what_was_gathered_is_counted_again():
    found = gathered(spec(), np.arange(99) % 2)
    check_records(policy(99), found, spec())
    with pytest.raises(PolicyError, match="99 records are fewer than `min_records` 100"):
        check_records(Policy(), found, spec())


@pytest.mark.parametrize("class_weights", [None, (1.0, 50.0)])
def test_the_classes_of_what_was_gathered_are_counted_again(class_weights):
    """The data may have changed since they were added, and a spec's ranges may leave one record of a class."""
    of = spec(training={"class_weights": class_weights})
    found = gathered(of, (np.arange(1000) < 9).astype(int))
    check_records(Policy(data={"min_records": 10, "min_class_records": 9}), found, of)
    with pytest.raises(PolicyError, match=r"the class 'yes' has 9 record\(s\), fewer than `min_class_records` 10"):
        check_records(Policy(data={"min_records": 10, "min_class_records": 10}), found, of)
    check_records(Policy(data={"min_class_records": 10}), gathered(of, np.zeros(1000, int)), of)


def test_what_was_gathered_is_compared_with_the_features_again():
    of = spec(51)
    found = gathered(of, np.arange(101) % 2)
    with pytest.raises(PolicyError, match="101 records are fewer than 102, twice the 51 features"):
        check_records(Policy(), found, of)
    check_records(Policy(data={"records_per_feature": 1}), found, of)
