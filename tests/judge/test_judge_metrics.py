"""The judge's metrics against scikit-learn's, and their noise against resampling."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from capsule.judge._exact import gram, sum_of_squares, times_ratio
from capsule.judge.determination import Determination
from capsule.judge.game import Estimate
from capsule.judge.measure import INFLUENCE_BITS, VALUE_BITS, Metric
from capsule.judge.metrics import Accuracy, AreaUnderCurve, BalancedAccuracy, MacroF1
from capsule.judge.validation import ValidationSet, score
from sonar.protocol.spec import Feature, Payout, Spec

OF_CLASSES: dict[str, Any] = {
    "accuracy": Accuracy, "balanced_accuracy": BalancedAccuracy, "macro_f1": MacroF1, "auc": AreaUnderCurve,
}  # fmt: skip


def by_scikit(name: str, labels: Any, scores: Any) -> float:
    """`scores` (classes, records)."""
    predicted = scores.argmax(axis=0)
    if name == "accuracy":
        return float(sk.accuracy_score(labels, predicted))
    if name == "balanced_accuracy":
        return float(sk.balanced_accuracy_score(labels, predicted))
    if name == "macro_f1":
        return float(sk.f1_score(labels, predicted, average="macro", zero_division=0.0))
    if len(scores) == 2:
        return float(sk.roc_auc_score(labels, scores[1] - scores[0]))
    return float(np.mean([sk.roc_auc_score(labels == k, scores[k]) for k in range(len(scores))]))


@st.composite
def classified(draw: st.DrawFn) -> tuple[Any, Any]:
    """Labels with every class among them, and integer scores (classes, records) with many ties."""
    classes, extra = draw(st.integers(2, 5)), draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, extra)]))
    width = draw(st.sampled_from([1, 3, 2**40]))
    return labels, rng.integers(-width, width + 1, size=(classes, len(labels)))


@pytest.mark.parametrize("name", OF_CLASSES)
@given(drawn=classified())
def test_a_metric_of_classes_is_scikit_learns(name: str, drawn: tuple[Any, Any]) -> None:
    labels, scores = drawn
    metric = OF_CLASSES[name](labels, len(scores))
    exact = metric.exact(scores, 30)
    assert float(exact) == pytest.approx(by_scikit(name, labels, scores), abs=1e-12)
    measured = metric.measure(scores[None].astype(np.float64), 30)
    assert 0 <= exact - Fraction(int(measured.values[0]), 1 << VALUE_BITS) < Fraction(len(scores) + 1, 1 << VALUE_BITS)


def determination(targets: Any) -> Determination:
    return Determination(np.rint(targets * 2.0**16))


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([0.01, 0.5, 20.0]))
def test_r2_is_scikit_learns_above_zero_and_zero_below(seed: int, outputs: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(30, outputs))
    predictions = targets + noise * rng.normal(size=targets.shape)
    metric, scores = determination(targets), np.rint(predictions.T * 2.0**40).astype(np.int64)
    expected = max(0.0, float(sk.r2_score(targets, predictions)))
    exact = metric.exact(scores, 40)
    assert float(exact) == pytest.approx(expected, abs=2e-5)
    measured = metric.measure(scores[None], 40)
    assert 0 <= exact - Fraction(int(measured.values[0]), 1 << VALUE_BITS) < Fraction(1, 1 << VALUE_BITS)


def test_one_prediction_beyond_all_measure_leaves_no_r2() -> None:
    targets = np.random.default_rng(0).normal(size=(50, 1))
    scores = np.rint(targets.T * 2.0**40).astype(np.int64)
    assert determination(targets).exact(scores, 40) > Fraction(99, 100)
    for far in (2**61, -(2**61)):
        scores[0, 7] = far
        assert determination(targets).exact(scores, 40) == 0
        assert not determination(targets).measure(scores[None], 40).influences.any()


def resampled_error(of: Any, count: int, rng: np.random.Generator) -> float:
    """The standard deviation of a metric over bootstrap samples of its records."""
    return float(np.std([of(rng.integers(0, count, count)) for _ in range(400)]))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_the_noise_of_a_metric_is_that_of_resampled_records(name: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.choice(classes, 300, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    scores = rng.normal(size=(classes, 300)) + 1.3 * np.eye(classes)[:, labels]
    whole = np.rint(scores * 2.0**30)
    measured = OF_CLASSES[name](labels, classes).measure(whole[None], 30)
    error = math.sqrt(Estimate.of(Fraction(), measured.influences[0]).variance)
    expected = resampled_error(lambda rows: by_scikit(name, labels[rows], scores[:, rows]), 300, rng)
    assert error == pytest.approx(expected, rel=0.12)


def test_the_noise_of_r2_is_that_of_resampled_records() -> None:
    rng = np.random.default_rng(3)
    targets = rng.normal(size=(300, 2))
    predictions = targets + 0.7 * rng.normal(size=targets.shape)
    measured = determination(targets).measure(np.rint(predictions.T * 2.0**30)[None], 30)
    error = math.sqrt(Estimate.of(Fraction(), measured.influences[0]).variance)
    expected = resampled_error(lambda rows: float(sk.r2_score(targets[rows], predictions[rows])), 300, rng)
    assert error == pytest.approx(expected, rel=0.12)


def test_the_noise_of_the_area_is_delongs() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 2, 80)
    scores = np.rint(np.stack([rng.normal(size=80), rng.normal(size=80) + labels]) * 2.0**20)
    measured = AreaUnderCurve(labels, 2).measure(scores[None], 20)
    ranked = scores[1] - scores[0]
    wins = (ranked[labels == 1][:, None] > ranked[labels == 0]) + 0.5 * (
        ranked[labels == 1][:, None] == ranked[labels == 0]
    )
    components = wins.mean(axis=1), wins.mean(axis=0)
    variance = sum(float(part.var()) / len(part) for part in components)
    assert float(Estimate.of(Fraction(), measured.influences[0]).variance) == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("metric", [cls(np.array([0, 1, 1, 0]), 2) for cls in OF_CLASSES.values()])
def test_influences_of_one_model_are_the_same_in_a_batch(metric: Metric) -> None:
    models = np.random.default_rng(0).integers(-4, 5, size=(7, 2, 4)).astype(np.float64)
    together = metric.measure(models, 20)
    for at, model in enumerate(models):
        alone = metric.measure(model[None], 20)
        assert together.values[at] == alone.values[0]
        assert (together.influences[at] == alone.influences[0]).all()


@given(st.lists(st.integers(-(2**36), 2**36), min_size=1, max_size=30))
def test_squares_are_summed_exactly(numbers: list[int]) -> None:
    assert sum_of_squares(np.array(numbers)) == sum(n * n for n in numbers)


@given(st.integers(-(2**34), 2**34), st.integers(0, 2**80), st.integers(1, 2**80))
def test_a_product_with_a_ratio_is_near_and_never_overflows(number: int, numerator: int, denominator: int) -> None:
    found = int(times_ratio(np.array([number]), numerator, denominator)[0])
    exact = Fraction(number * numerator, denominator)
    clipped = max(-(2**62), min(2**62, exact))
    assert abs(found - clipped) <= abs(clipped) / 2**25 + 1


@given(st.integers(0, 2**32 - 1))
def test_a_gram_matrix_is_that_of_the_rounded_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-(2**60), 2**60, 40).astype(object) >> int(rng.integers(0, 60)) for _ in range(3)]
    found = gram(rows)
    rounded = []
    for row in rows:
        shift = max(0, max(abs(int(n)) for n in row).bit_length() - 23)  # (52 - 6) / 2, of 40 columns
        rounded.append([(int(n) + ((1 << shift) >> 1)) >> shift for n in row])
    assert found == [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rounded] for one in rounded]


def test_more_columns_than_are_exact_are_refused() -> None:
    with pytest.raises(ValueError, match="4194305 columns"):
        gram([np.zeros((1 << 22) + 1, dtype=np.int64)])


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_a_campaign_is_scored_by_its_metric(metric: str) -> None:
    spec = Spec.build(
        name="m", metric=metric, features=(Feature(name="a"), Feature(name="b")), classes=("x", "y", "z"),
        payout=Payout(target=900_000),
    )  # fmt: skip
    rng = np.random.default_rng(4)
    features, labels = rng.normal(size=(90, 2)), rng.integers(0, 3, 90)
    weights = rng.integers(-(2**26), 2**26, size=(3, 3))
    scores = np.c_[features, np.ones(90)] @ weights
    expected = by_scikit(metric, labels, scores.T)
    assert score(ValidationSet.of(spec, features, labels), weights) == pytest.approx(expected * 1e6, abs=1)


def test_a_regression_is_scored_by_r2_of_its_scaled_targets() -> None:
    spec = Spec.build(
        name="m", metric="r2", features=(Feature(name="a", scale=2.0),), targets=({"name": "t", "offset": 100.0,
        "scale": 10.0},), payout=Payout(target=900_000),
    )  # fmt: skip
    rng = np.random.default_rng(4)
    features = rng.normal(size=(90, 1))
    targets = 100 + 10 * features + 3 * rng.normal(size=(90, 1))
    weights = np.rint(np.array([[1.9], [0.01]]) * 2.0**24).astype(np.int64)
    predictions = 100 + 10 * (features / 2 * 1.9 + 0.01)
    found = score(ValidationSet.of(spec, features, targets), weights)
    assert found == pytest.approx(1e6 * sk.r2_score(targets, predictions), abs=20)


def test_an_influence_is_cut_off_where_a_class_is_next_to_nothing() -> None:
    labels = np.zeros(40_000, dtype=np.int64)
    labels[0] = 1
    scores = np.stack([1 - labels, labels]).astype(np.float64)
    found = BalancedAccuracy(labels, 2).measure(scores[None], 20).influences
    assert np.abs(found).max() <= 4096 << INFLUENCE_BITS
