"""The loss to noise is estimated before it is spent, and is about what noise costs on records of the model's kind."""

import math

import numpy as np
import pytest

from mine.privacy.accountant import rho_of
from mine.privacy.adassp import statistics_of
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.estimate import estimate
from mine.privacy.mechanism import NoisedSums
from mine.privacy.rule import PrivacyRule


def lost(records: int, features: int, rule: PrivacyRule, seeds: int) -> float:
    """What noise costs in accuracy on records of the estimate's kind, exactly known from the angle of the slopes."""
    slope, found = math.sin(0.3 * math.pi), []
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
    assert "points of accuracy to the noise, and " in found
    assert found.endswith("records would lose one point")
    assert "would lose" not in estimate(10**6, 10, PrivacyRule()).sentence


def test_a_regression_is_told_in_r2() -> None:
    found = estimate(442, 10, PrivacyRule(), targets=1)
    assert "points of R2" in found.sentence
    assert estimate(442, 10, PrivacyRule(target_clip=1.0), targets=1).loss < found.loss <= 0.5
