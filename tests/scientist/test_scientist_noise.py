"""What chance does to a score on a validation set of so many records, and the warning where that is too much."""

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from pysonar._inputs import warn_of_few
from pysonar._noise import standard_error
from pysonar.errors import FewRecordsWarning
from sonar.protocol.spec import MetricName


def scored(metric: MetricName, scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """scikit-learn's word."""
    if metric == "auc":
        if scores.shape[1] == 2:
            return float(metrics.roc_auc_score(labels, scores[:, 1] - scores[:, 0]))
        areas = [metrics.roc_auc_score(labels == k, scores[:, k]) for k in range(scores.shape[1])]
        return float(np.mean(areas))
    predicted = scores.argmax(axis=1)
    if metric == "macro_f1":
        return float(metrics.f1_score(labels, predicted, average="macro"))
    score = metrics.accuracy_score if metric == "accuracy" else metrics.balanced_accuracy_score
    return float(score(labels, predicted))


def halves(records: int) -> npt.NDArray[np.int64]:
    """So many records of two classes, as equal as can be."""
    return np.array([records - records // 2, records // 2])


@pytest.mark.parametrize(("records", "target", "seen"), [(3, 1.0, "34.6%"), (30, 0.9, "11.0%"), (143, 0.95, "5.0%")])
def test_a_validation_set_too_small_to_show_five_points_is_warned_of(records: int, target: float, seen: str) -> None:
    with pytest.warns(FewRecordsWarning, match=rf"{records} validation .* the accuracy .* {seen} only.* 144 records"):
        warn_of_few(halves(records), "accuracy", target, 2.0)


@pytest.mark.parametrize(("records", "noise"), [(144, 2.0), (359, 2.0), (36, 1.0), (3, 0.0)])
def test_a_validation_set_that_shows_five_points_is_not_warned_of(records: int, noise: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few(halves(records), "accuracy", 0.9, noise)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "auc"])
def test_a_rare_class_makes_a_validation_set_small_for_the_metrics_that_count_classes(metric: MetricName) -> None:
    counts = np.array([490, 10])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few(counts, "accuracy", 0.9, 2.0)
        warn_of_few(halves(500), metric, 0.9, 2.0)
    with pytest.warns(FewRecordsWarning, match=rf"500 .* the {metric.replace('_', ' ')} near 90%") as caught:
        warn_of_few(counts, metric, 0.9, 2.0)
    needed = int(str(caught[0].message).rpartition("give ")[2].split()[0])
    assert needed > 500
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few(counts * -(-needed // 500), metric, 0.9, 2.0)


@pytest.mark.parametrize("counts", [[40, 40], [150, 30], [40, 60, 30, 70]])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_the_noise_that_is_warned_of_is_that_of_drawn_validation_sets(metric: MetricName, counts: list[int]) -> None:
    rng, labels = np.random.default_rng(5), np.repeat(np.arange(len(counts)), counts)
    drawn = []
    for _ in range(200):
        scores = rng.normal(size=(len(labels), len(counts)))
        scores[np.arange(len(labels)), labels] += 2.0
        drawn.append(scored(metric, scores, labels))
    told = standard_error(metric, float(np.mean(drawn)), np.array(counts))
    assert 0.7 < told / np.std(drawn) < 1.45


def test_the_noise_of_r2_is_that_of_drawn_validation_sets() -> None:
    rng, drawn = np.random.default_rng(6), []
    for _ in range(300):
        predicted = rng.normal(size=200)
        drawn.append(metrics.r2_score(predicted + rng.normal(size=200) * 0.5, predicted))
    told = standard_error("r2", float(np.mean(drawn)), np.array([200]))
    assert 0.8 < told / np.std(drawn) < 1.25
    with pytest.warns(FewRecordsWarning, match="20 validation records tell the r2 near 50%"):
        warn_of_few(np.array([20]), "r2", 0.5, 2.0)
