"""The noise has the promised scale, records are bounded in integers, and what both cost is what the accountant says."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mine.errors import LedgerError
from mine.privacy.accountant import epsilon_of, rho_of
from mine.privacy.adassp import noise_bound, statistics_of
from mine.privacy.clipping import SENSITIVITY, Clip, IntegerSums
from mine.privacy.gaussian import DiscreteGaussian
from mine.privacy.mechanism import NoisedSums, variance_for
from sonar.syft import Schedule, Statistics
from sonar.syft.errors import TrainingError

CHANCE = 1e-6
"""How often a test of drawn numbers may fail by chance."""


def drawn_variance_is(draws: np.ndarray, variance: float) -> bool:
    """Whether independent Gaussian draws may have this variance."""
    squares = float(((draws / math.sqrt(variance)) ** 2).sum())
    low, high = stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], draws.size)
    return bool(low < squares < high)


@pytest.mark.parametrize("variance", [1, 2, 7, 40])
def test_small_noise_has_the_probabilities_of_the_discrete_gaussian(variance: int) -> None:
    draws = DiscreteGaussian(variance).draw(60_000)
    reach = math.isqrt(variance) * 3
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-(np.arange(-60 * reach, 60 * reach + 1.0) ** 2) / (2 * variance))
    inside = np.exp(-(places**2) / (2 * variance)) / weights.sum()
    counts = np.array([*((draws == place).sum() for place in places), (np.abs(draws) > reach).sum()])
    found = stats.chisquare(counts, len(draws) * np.array([*inside, 1 - inside.sum()]))
    assert found.pvalue > CHANCE


@pytest.mark.parametrize("variance", [10**6 + 1, 3 << 70, 1 << 112])
def test_large_noise_has_its_variance_and_is_gaussian(variance: int) -> None:
    draws = DiscreteGaussian(variance).draw(20_000).astype(float)
    assert drawn_variance_is(draws, variance)
    assert not drawn_variance_is(draws, variance * 1.2)
    assert stats.kstest(draws / math.sqrt(variance), "norm").pvalue > CHANCE
    assert abs(draws.mean()) < 6 * math.sqrt(variance / len(draws))


def test_what_random_words_leave_open_further_words_decide() -> None:
    third = (1 << 64) // 3  # the first 64 bits of 1/3, and so are the next

    def outcome(*words: int) -> bool:
        data = b"".join(word.to_bytes(8, "little") for word in words)
        return DiscreteGaussian(1, random_bytes=lambda _: data)._bernoulli(1, 3)

    assert outcome(third - 1)
    assert not outcome(third + 1)
    assert outcome(third, third, third - 1)
    assert not outcome(third, third, third + 1)


def test_all_noise_comes_from_the_randomness_that_is_given() -> None:
    def fixed(count: int) -> bytes:
        return np.random.default_rng(7).bytes(count)

    one, two = (DiscreteGaussian(1 << 70, random_bytes=fixed).draw(100) for _ in range(2))
    assert (one == two).all()
    assert (one != DiscreteGaussian(1 << 70).draw(100)).any()


@pytest.mark.parametrize("variance", [0, -4, (1 << 112) + 1])
def test_a_variance_out_of_range_is_refused(variance: int) -> None:
    with pytest.raises(ValueError, match=f"a variance of {variance} cannot be drawn"):
        DiscreteGaussian(variance)


# ---- the accountant


def gaussian_delta(rho: float, epsilon: float) -> float:
    """The exact delta of a Gaussian mechanism (B. Balle, Y.-X. Wang, ICML 2018, theorem 8)."""
    mu = math.sqrt(2 * rho)
    return float(stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("rho", [1e-6, 1e-3, 0.02, 0.5, 3.0])
def test_the_reported_epsilon_is_true_and_tighter_than_the_textbooks(rho: float, delta: float) -> None:
    epsilon = epsilon_of(rho, delta)
    assert gaussian_delta(rho, epsilon) <= delta
    assert epsilon == 0 or gaussian_delta(rho, 0.8 * epsilon) > delta
    assert epsilon < rho + 2 * math.sqrt(rho * math.log(1 / delta))


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 3.0, 100.0])
def test_a_cost_for_an_epsilon_is_the_largest_within_it(epsilon: float) -> None:
    rho = rho_of(epsilon, 1e-6)
    assert epsilon_of(rho, 1e-6) <= epsilon < epsilon_of(rho * Fraction(1001, 1000), 1e-6)


def test_nothing_released_costs_nothing_and_more_costs_more() -> None:
    assert epsilon_of(Fraction(0), 1e-6) == 0
    costs = [epsilon_of(rho, 1e-6) for rho in (1e-9, 1e-6, 1e-3, 0.1, 1, 10, 1000)]
    assert all(less < more for less, more in pairwise(costs))
    # Two statistics cost less than twice as much as one: zCDP adds up, epsilon would overstate it.
    one = rho_of(1.0, 1e-6)
    assert 1.3 < epsilon_of(2 * one, 1e-6) < 1.5


# ---- clipped records

floats = st.floats(-16, 16, allow_nan=False) | st.sampled_from([16.0, -16.0, 0.0, -0.0, 1e-300, 2.0**-21])
records = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(0, 7)), elements=floats)
clips = st.floats(0.01, 16)


def with_constant(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))])


@settings(deadline=None)
@given(records, clips, st.floats(0.01, 16), st.booleans(), st.data())
def test_every_record_is_bounded_in_integers_whatever_it_holds(
    rows: np.ndarray, clip: float, target_clip: float, weighted: bool, data: st.DataObject
) -> None:
    outputs = data.draw(st.integers(1, 3))
    if weighted:
        targets = np.eye(outputs)[data.draw(arrays(np.int64, len(rows), elements=st.integers(0, outputs - 1)))]
    else:
        targets = data.draw(arrays(np.float64, (len(rows), outputs), elements=floats))
    weights = tuple(data.draw(st.floats(1, 100)) for _ in range(outputs)) if weighted else None
    sums = IntegerSums.empty(rows.shape[1] + 1, outputs, Clip.of(rows.shape[1], clip, target_clip), weights)
    whole, aims = sums.integers(with_constant(rows), targets)
    for x, y in zip(whole.tolist(), aims.tolist(), strict=True):
        x_squares, y_squares = sum(v * v for v in x), sum(v * v for v in y)
        assert x_squares <= SENSITIVITY
        assert x_squares * y_squares <= SENSITIVITY**2
    sums.add_batch(with_constant(rows), targets)
    exact = whole.astype(object)
    assert (sums.gram == exact.T @ exact).all()
    assert (sums.moment == exact.T @ aims.astype(object)).all()
    # A record is taken alike wherever it stands and whatever the others are.
    for at in range(len(rows)):
        alone, aim = sums.integers(with_constant(rows[at : at + 1]), targets[at : at + 1])
        assert (alone[0] == whole[at]).all()
        assert (aim[0] == aims[at]).all()


def table(seed: int, count: int, features: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    return with_constant(rng.normal(size=(count, features)) + np.eye(classes, features)[labels]), np.eye(classes)[
        labels
    ]


def test_sums_do_not_depend_on_the_batches_or_the_order() -> None:
    design, targets = table(1, 9000)
    clip = Clip.of(4, 1.0, 1.0)
    whole = IntegerSums.of([(design, targets)], 5, 3, clip)
    order = np.random.default_rng(2).permutation(9000)
    parts = IntegerSums.of(((design[part], targets[part]) for part in np.array_split(order, 17)), 5, 3, clip)
    assert (whole.gram == parts.gram).all()
    assert (whole.moment == parts.moment).all()
    assert whole.records == parts.records == 9000


def test_a_record_that_lies_out_counts_for_less_and_is_not_bent() -> None:
    clip = Clip.of(2, 1.0, 1.0)
    sums = IntegerSums.of([(np.array([[16.0, 0.0, 1.0]]), np.array([[0.0, 1.0]]))], 3, 2, clip)
    unit = clip.rows**2 / 2**32
    expected = 3 / 257  # the square of sqrt(3) / |x|
    assert sums.gram[2, 2] * unit == pytest.approx(expected, rel=1e-3)
    assert sums.gram[0, 2] * unit == pytest.approx(16 * expected, rel=1e-3)
    assert sums.moment[0, 1] * clip.rows / 2**32 == pytest.approx(16 * expected, rel=1e-3)


def test_only_ratios_of_class_weights_matter_and_none_makes_a_record_count_more() -> None:
    design, targets = table(3, 500)
    clip = Clip.of(4, 4.0, 1.0)
    plain = IntegerSums.of([(design, targets)], 5, 3, clip)
    one = IntegerSums.of([(design, targets)], 5, 3, clip, class_weights=(1.0, 2.0, 4.0))
    many = IntegerSums.of([(design, targets)], 5, 3, clip, class_weights=(100.0, 200.0, 400.0))
    assert (one.gram == many.gram).all()
    assert (np.diag(one.gram) <= np.diag(plain.gram)).all()


def test_records_that_are_no_numbers_are_refused_with_their_place() -> None:
    design, targets = table(1, 10)
    design[6, 2] = np.nan
    with pytest.raises(TrainingError, match="first in its record 7"):
        IntegerSums.of([(design, targets)], 5, 3, Clip.of(4, 1.0, 1.0))


# ---- the release


def test_noise_on_every_part_of_a_release_has_the_promised_scale() -> None:
    features, outputs = 40, 30
    empty = IntegerSums.of([], features, outputs, Clip.of(features - 1, 1.0, 1.0))
    rho = rho_of(1.0, 1e-6)
    noised = [NoisedSums.release(empty, rho) for _ in range(12)]
    variance = noised[0].variance
    assert SENSITIVITY**2 / variance == pytest.approx(float(rho), rel=1e-9)
    upper = np.triu_indices(features, 1)
    assert drawn_variance_is(np.concatenate([one.gram[upper] for one in noised]).astype(float), variance / 2)
    assert drawn_variance_is(np.concatenate([np.diag(one.gram) for one in noised]).astype(float), variance)
    assert drawn_variance_is(np.concatenate([one.moment.ravel() for one in noised]).astype(float), variance)
    assert all((one.gram == one.gram.T).all() for one in noised)
    # The bound that the ridge is made of holds the largest eigenvalue of nearly all of them.
    bound = noise_bound(features, math.sqrt(variance))
    assert sum(np.linalg.eigvalsh(one.gram)[-1] <= bound for one in noised) >= 9


@given(st.fractions(Fraction(1, 10**9), 100))
def test_a_release_never_costs_more_than_was_asked_for(rho: Fraction) -> None:
    variance = variance_for(rho)
    assert variance % 2 == 0
    assert Fraction(SENSITIVITY**2, variance) <= rho < Fraction(SENSITIVITY**2, max(1, variance - 2))


def test_a_release_is_the_same_after_it_was_written_down() -> None:
    design, targets = table(1, 50)
    made = NoisedSums.release(
        IntegerSums.of([(design, targets)], 5, 3, Clip.of(4, 1.0, 1.0), (1.0, 2.0, 3.0)), Fraction(1, 50)
    )
    read = NoisedSums.parse(made.to_bytes())
    assert (read.gram == made.gram).all()
    assert (read.moment == made.moment).all()
    assert (read.clip, read.variance, read.class_weights) == (made.clip, made.variance, made.class_weights)
    with pytest.raises(LedgerError, match="cannot be read"):
        NoisedSums.parse(made.to_bytes()[:-8])


def test_with_much_budget_training_is_that_without_privacy() -> None:
    design, targets = table(5, 4000)
    sums = IntegerSums.of([(design, targets)], 5, 3, Clip.of(4, 16.0, 1.0))
    private = statistics_of(NoisedSums.release(sums, Fraction(10**6)), one_hot=True)
    plain = Statistics.of([(design, targets)], 5, 3)
    assert private.records == 4000
    for loss in ("ridge", "taylor-logistic"):
        schedule = Schedule(epochs=50, rate=1.0, l2=1e-3, loss=loss)
        found, expected = schedule.training_map(private), schedule.training_map(plain)
        assert np.abs(found.change - expected.change).max() < 0.02
        assert np.abs(found.constant - expected.constant).max() < 0.02


@pytest.mark.parametrize("count", [0, 1, 5, 60])
@pytest.mark.parametrize("epsilon", [0.01, 1.0])
def test_noise_above_the_data_still_makes_statistics_that_train(count: int, epsilon: float) -> None:
    design, targets = table(6, count, features=30)
    sums = IntegerSums.of([(design, targets)], 31, 3, Clip.of(30, 1.0, 1.0))
    for one_hot in (True, False):
        found = statistics_of(NoisedSums.release(sums, rho_of(epsilon, 1e-6)), one_hot=one_hot)
        assert np.linalg.eigvalsh(found.gram)[0] > 0
        assert found.weight == found.gram[-1, -1] >= 1
        for loss in ("ridge", "taylor-logistic"):
            Schedule(epochs=1000, rate=1.0, l2=0.0, loss=loss).training_map(found)


def test_the_ridge_is_none_where_the_data_speak_louder_than_the_noise() -> None:
    design, targets = table(7, 200_000)
    sums = IntegerSums.of([(design, targets)], 5, 3, Clip.of(4, 1.0, 1.0))
    loud = statistics_of(NoisedSums.release(sums, rho_of(3.0, 1e-6)), one_hot=True)
    unit = sums.clip.rows**2 / 2**32
    assert np.abs(loud.gram - sums.gram * unit).max() < 1e-3 * len(design)


@pytest.mark.parametrize("odd", [0, 1])
def test_the_last_bits_of_a_release_tell_nothing_of_what_was_noised(odd: int) -> None:
    sums = IntegerSums.empty(40, 30, Clip.of(39, 1.0, 1.0))
    sums.gram += 2 * 12345 + odd
    sums.moment += 2 * 54321 + odd
    noised = NoisedSums.release(sums, rho_of(100.0, 1e-6))
    for matrix in (noised.gram[np.triu_indices(40)], noised.moment.ravel()):
        counts = np.bincount(matrix % 8, minlength=8)
        assert stats.chisquare(counts).pvalue > CHANCE
