"""Who knows all records but one, and reads the released sums, learns of that one no more than epsilon and delta allow.

The attack is the best there is for what it knows (Neyman and Pearson): the likelihood ratio of the released sums under
"the record is in" and "it is not". It comes near the bound, so that noise of half the size does not pass.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mine.privacy.accountant import rho_of
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.descent import train_privately
from mine.privacy.mechanism import NoisedSums
from mine.privacy.steps import Noise, variance_of_round
from sonar.network import Graph, NetworkTraining

EPSILON, DELTA = 1.0, 0.05
"""A large delta, so that what happens with its probability happens often enough to be counted."""
TRIALS = 5_000
CHANCE = 1e-6


@dataclass(frozen=True)
class Attack:
    """Released sums of the same records with and without the one that is sought, as log likelihood ratios."""

    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def on(cls, target: np.ndarray, label: int, rho: Fraction) -> "Attack":
        """Draws TRIALS releases of each; the attacker believes in noise for a cost of `rho`."""
        rng = np.random.default_rng(1)
        rows, labels = rng.normal(size=(20, len(target))), rng.integers(0, 2, 20)

        def sums(rows: np.ndarray, labels: np.ndarray) -> IntegerSums:
            design = np.hstack([rows, np.ones((len(rows), 1))])
            return IntegerSums.of([(design, np.eye(2)[labels])], len(target) + 1, 2, Clip.of(len(target), 1.0, 1.0))

        known = sums(rows, labels)
        whole = sums(np.vstack([rows, target]), np.append(labels, label))
        upper = np.triu_indices(len(target) + 1, 1)

        def flat(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
            return np.concatenate([np.diag(gram), math.sqrt(2) * gram[upper], moment.ravel()]).astype(float)

        direction = flat(whole.gram - known.gram, whole.moment - known.moment)

        def ratio(noised: NoisedSums) -> float:
            found = flat(noised.gram - known.gram, noised.moment - known.moment)
            return float((found @ direction - direction @ direction / 2) / noised.variance)

        return cls(
            np.array([ratio(NoisedSums.release(whole, rho)) for _ in range(TRIALS)]),
            np.array([ratio(NoisedSums.release(known, rho)) for _ in range(TRIALS)]),
        )

    def excess(self, epsilon: float) -> tuple[float, float]:
        """P(told to be in | in) - exp(epsilon) P(told to be in | not), largest where the ratio is above epsilon.

        The second number is what chance may add to it.
        """
        true, false = float((self.inside > epsilon).mean()), float((self.outside > epsilon).mean())
        spread = math.sqrt((true * (1 - true) + math.exp(2 * epsilon) * false * (1 - false)) / len(self.inside))
        return true - math.exp(epsilon) * false, float(stats.norm.isf(CHANCE)) * spread


LONGEST = np.array([math.sqrt(2.0), 0.0])
"""A record that is as long as the clip lets it be: nobody shows more."""


def test_a_record_shows_no_more_than_epsilon_allows_and_nearly_as_much() -> None:
    attack = Attack.on(LONGEST, 1, rho_of(EPSILON, DELTA))
    excess, chance = attack.excess(EPSILON)
    assert excess <= DELTA + chance
    # At every threshold: true positives are bounded by exp(epsilon) times false ones and delta.
    for threshold in np.linspace(-2, 2, 41):
        true, false = (attack.inside > threshold).mean(), (attack.outside > threshold).mean()
        slack = 5.5 * math.sqrt((0.25 + math.exp(2 * EPSILON) * max(false * (1 - false), 1e-4)) / TRIALS)
        assert true <= math.exp(EPSILON) * false + DELTA + slack
        assert 1 - false <= math.exp(EPSILON) * (1 - true) + DELTA + slack
    # Such a record shows all that was paid for: the mean of the ratio, a Kullback-Leibler divergence, is rho itself.
    rho = float(rho_of(EPSILON, DELTA))
    spread = 6 * math.sqrt(2 * rho / TRIALS)
    assert attack.inside.mean() == pytest.approx(rho, abs=spread)
    assert attack.outside.mean() == pytest.approx(-rho, abs=spread)
    # And guessing right beyond chance is what two Gaussians so far apart allow.
    advantage = float((attack.inside > 0).mean() - (attack.outside > 0).mean())
    best = 2 * stats.norm.cdf(math.sqrt(2 * rho) / 2) - 1
    assert advantage == pytest.approx(best, abs=5 * math.sqrt(0.5 / TRIALS))


def test_half_the_noise_shows_too_much() -> None:
    excess, chance = Attack.on(LONGEST, 1, 4 * rho_of(EPSILON, DELTA)).excess(EPSILON)
    assert excess > DELTA + chance


def test_a_record_far_out_shows_no_more_than_one_at_the_clip() -> None:
    excess, chance = Attack.on(np.array([16.0, -16.0]), 0, rho_of(EPSILON, DELTA)).excess(EPSILON)
    assert excess <= DELTA + chance


# ---- a network's round: the same attack on what steps with noise have made of the parameters

RECORD = np.array([[3.0, -2.0, 4.0]]), np.array([[0.0, 1.0]])
NOBODY = np.empty((0, 3)), np.empty((0, 2))
ROUND = NetworkTraining(optimizer="sgd", learning_rate=1e-6, epochs=2, batch_size=8)
ROUNDS = 600


def rounds(rho: Fraction, count: int = ROUNDS) -> Attack:
    """The attacker knows all other records, of which there are none: nobody's gradient is told apart more easily.

    She sees the change that two epochs make of a start at which the record's gradient is as long as the clip.
    """
    graph = Graph.model_validate({"takes": (3,), "layers": ({"op": "linear", "of": (0,), "units": 2},)})
    noise, start = Noise(variance_of_round(rho, ROUND.epochs), 0.5, 1), np.zeros(graph.size)

    def change(records: tuple[np.ndarray, np.ndarray], **more: Any) -> np.ndarray:
        return train_privately(graph, start, *records, ROUND, noise, **more)

    silent = change(RECORD, source=lambda _: SimpleNamespace(draw=lambda count: np.zeros(count, dtype=np.int64)))
    unit = ROUND.learning_rate * noise.clip / 2**16
    direction = silent / unit
    assert np.linalg.norm(direction) == pytest.approx(ROUND.epochs * 2**16, rel=1e-3)

    def ratio(found: np.ndarray) -> float:
        return float((found / unit @ direction - direction @ direction / 2) / (ROUND.epochs * noise.variance))

    return Attack(*(np.array([ratio(change(records)) for _ in range(count)]) for records in (RECORD, NOBODY)))


def test_a_networks_round_shows_no_more_of_a_record_than_epsilon_allows_and_nearly_as_much() -> None:
    attack, rho = rounds(rho_of(EPSILON, DELTA)), float(rho_of(EPSILON, DELTA))
    excess, chance = attack.excess(EPSILON)
    assert excess <= DELTA + chance
    spread = 6 * math.sqrt(2 * rho / ROUNDS)
    assert attack.inside.mean() == pytest.approx(rho, abs=spread)
    assert attack.outside.mean() == pytest.approx(-rho, abs=spread)
    assert attack.inside.std() == pytest.approx(math.sqrt(2 * rho), rel=6 / math.sqrt(2 * ROUNDS))


def test_a_quarter_of_a_rounds_noise_shows_too_much() -> None:
    excess, chance = rounds(16 * rho_of(EPSILON, DELTA), ROUNDS // 2).excess(EPSILON)
    assert excess > DELTA + chance
