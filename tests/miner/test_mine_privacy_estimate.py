"""The loss to noise is estimated before it is spent, and is about what noise costs on records of the model's kind."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from statsmodels.datasets import randhie

from mine.privacy.accountant import rho_of
from mine.privacy.adassp import statistics_of
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.estimate import estimate
from mine.privacy.mechanism import NoisedSums
from mine.privacy.rule import PrivacyRule
from sonar.protocol.spec import Training
from sonar.syft.statistics import Statistics


def lost(records: int, features: int, rule: PrivacyRule, seeds: int) -> float:
    """What noise costs in accuracy on records of the estimate's kind, exactly known from the angle of the slopes."""
    slope, found = math.sin(0.4 * math.pi), []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(records, features))
        labels = (slope * rows[:, 0] + math.sqrt(1 - slope**2) * rng.normal(size=records) > 0).astype(int)
        design, targets = np.hstack([rows, np.ones((records, 1))]), np.eye(2)[labels]
        sums = IntegerSums.of([(design, targets)], features + 1, 2, Clip.of(features, rule.clip, 1.0))
        private = statistics_of(NoisedSums.release(sums, rho_of(rule.epsilon, rule.delta)), one_hot=True)
        plain = np.linalg.solve(design.T @ design, design.T @ targets)
        noised = np.linalg.solve(private.gram, private.moment)
        for sign, solved in ((1, plain), (-1, noised)):
            way = (solved[:, 1] - solved[:, 0])[:-1]
            found.append(sign * math.asin(slope * way[0] / np.linalg.norm(way)) / math.pi)
    return sum(found) / seeds


@pytest.mark.parametrize(
    ("records", "features", "epsilon"), [(500, 8, 1.0), (2000, 30, 1.0), (500, 30, 3.0), (80, 4, 3.0)]
)
def test_the_estimate_is_about_what_noise_costs(records: int, features: int, epsilon: float) -> None:
    rule = PrivacyRule(epsilon=epsilon, budget=10.0)
    expected, found = estimate(records, features, rule).loss, lost(records, features, rule, 30)
    assert expected / 2.5 < found < expected * 2.5


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    return data.data, data.target


def health_insurance() -> tuple[np.ndarray, np.ndarray]:
    table = randhie.load_pandas().data
    return table.drop(columns="mdvis").to_numpy(float), (table["mdvis"] > 1).to_numpy(np.int64)


def of_real_records(
    values: np.ndarray, classes: np.ndarray, records: int, epsilon: float, seeds: int
) -> tuple[float, float]:
    """What noise costs a mine with so many of the records in accuracy on the others, by the default training.

    And how many times as long as without noise its gradient is at most.
    """
    rule, lost, longest = PrivacyRule(epsilon=epsilon, budget=10.0), 0.0, 0.0
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(values))
        mine, others = order[:records], order[records:]
        scales = values[others].std(axis=0)
        design = np.hstack([((values - values[others].mean(axis=0)) / scales).clip(-16, 16), np.ones((len(values), 1))])
        targets, features = np.eye(2)[classes], values.shape[1]
        sums = IntegerSums.of([(design[mine], targets[mine])], features + 1, 2, Clip.of(features, rule.clip, 1.0))
        noised = NoisedSums.release(sums, rho_of(rule.epsilon, rule.delta))
        plain = Statistics(
            design[mine].T @ design[mine], design[mine].T @ targets[mine], records, float(records), float(records)
        )  # fmt: skip
        ways = [Training().schedule.training_map(one).constant for one in (plain, statistics_of(noised, one_hot=True))]
        right = [((design[others] @ way).argmax(axis=1) == classes[others]).mean() for way in ways]
        lost += (right[0] - right[1]) / seeds
        longest = max(longest, float(np.linalg.norm(ways[1]) / np.linalg.norm(ways[0])))
    return lost, longest


@pytest.mark.parametrize(
    ("table", "records", "epsilon"),
    [(breast_cancer, 69, 1.0), (breast_cancer, 69, 10.0), (breast_cancer, 341, 1.0), (health_insurance, 2423, 0.1),
     (health_insurance, 2423, 0.3)],
)  # fmt: skip
def test_on_real_records_no_more_is_lost_than_was_estimated(
    table: Callable[[], tuple[np.ndarray, np.ndarray]], records: int, epsilon: float
) -> None:
    values, classes = table()
    found, _ = of_real_records(values, classes, records, epsilon, 25)
    said = estimate(records, values.shape[1], PrivacyRule(epsilon=epsilon, budget=10.0))
    assert said.loss / 4 < found < 1.25 * said.loss
    assert found < said.at_worst


def test_a_noised_gradient_of_few_records_is_not_longer_than_their_signal() -> None:
    assert max(of_real_records(*breast_cancer(), 69, epsilon, 40)[1] for epsilon in (0.1, 0.3, 1.0)) < 1.75


def test_more_records_lose_less_and_more_features_more() -> None:
    rule = PrivacyRule()
    losses = [estimate(records, 20, rule).loss for records in (1000, 4000, 16000, 64000)]
    assert losses == sorted(losses, reverse=True)
    assert estimate(4000, 80, rule).loss > estimate(4000, 20, rule).loss
    found = estimate(3, 20, rule)
    assert estimate(found.enough, 20, rule).loss <= 0.01 < estimate(found.enough - 1, 20, rule).loss


def test_the_sentence_says_what_would_do() -> None:
    found = estimate(341, 30, PrivacyRule(epsilon=1.0)).sentence
    assert found.startswith(
        "with 341 records, 30 features and epsilon 1 a model of this data set alone is expected to "
    )
    assert "17.8 points of accuracy to the noise (up to 26.4 points), and 7.4 points averaged with four alike" in found
    assert found.endswith("records would lose one point")
    assert "would lose" not in estimate(10**6, 10, PrivacyRule()).sentence


def test_a_regression_is_told_in_r2() -> None:
    found = estimate(442, 10, PrivacyRule(), targets=1)
    assert "points of R2" in found.sentence
    assert estimate(442, 10, PrivacyRule(target_clip=1.0), targets=1).loss < found.loss <= 0.5
