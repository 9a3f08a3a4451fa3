"""What a model is worth on the validation set: the spec's metric in exact integers, and what each record adds to it.

scikit-learn defines the metrics and the tests compare with it. It is not used here: the judge needs thousands of values
a round, every one the same on every machine, and sums of floats depend on their order.
"""

from abc import abstractmethod
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from capsule.judge._exact import Floats, Ints, times_ratio
from capsule.judge.determination import Determination
from capsule.judge.measure import INFLUENCE_BITS, VALUE_BITS, Measured, Metric, Scores, clipped
from sonar.protocol.payloads import TARGET_BITS, scaled_targets
from sonar.protocol.spec import MetricName, Spec

__all__ = ["metric_of"]


def metric_of(spec: Spec, labels: npt.NDArray[np.int64] | Floats) -> Metric:
    """The spec's metric for labels as `decode_validation` gives them."""
    if spec.metric == "r2":
        return Determination(np.rint(scaled_targets(spec, labels.astype(np.float64)) * 2.0**TARGET_BITS))
    classes = len(spec.classes)
    if spec.metric == "auc":
        return AreaUnderCurve(labels.astype(np.int64), classes)
    return _OF_CONFUSION[spec.metric](labels.astype(np.int64), classes)


class _OfConfusion(Metric):
    """Metrics of the predicted classes: functions of how many of each class are right, and are predicted."""

    centred = True

    def __init__(self, labels: Ints, classes: int) -> None:
        self.labels, self.classes = labels, classes
        self.counts: Ints = np.bincount(labels, minlength=classes)

    @property
    def records(self) -> int:
        return len(self.labels)

    def exact(self, scores: Ints, bits: int) -> Fraction:  # noqa: ARG002  (classes compare at any scale)
        right, predicted = self._confusion(_predicted(scores[None]))
        terms = self._terms(right, predicted)
        return sum((Fraction(int(n), int(d)) for n, d in zip(*(t[0] for t in terms), strict=True)), Fraction())

    def values(self, scores: Scores, bits: int) -> Ints:  # noqa: ARG002
        return self._values(*self._confusion(_predicted(scores)))

    def measure(self, scores: Scores, bits: int) -> Measured:  # noqa: ARG002
        predicted = _predicted(scores)
        right, counts = self._confusion(predicted)
        values = self._values(right, counts)
        hit = predicted == self.labels
        per_hit, per_true, per_predicted = self._influences(right, counts)
        found = np.where(hit, per_hit[:, self.labels], 0) - per_true[:, self.labels]
        if per_predicted is not None:
            found -= np.take_along_axis(per_predicted, predicted, axis=1)
        return Measured(values, clipped(found))

    def _values(self, right: Ints, predicted: Ints) -> Ints:
        numerators, denominators = self._terms(right, predicted)
        total: Ints = ((numerators << VALUE_BITS) // denominators).sum(axis=1)
        return total

    def _confusion(self, predicted: Ints) -> tuple[Ints, Ints]:
        """How many of each class (models, classes) are right, and how many are predicted."""
        models = len(predicted)
        places = predicted + self.classes * np.arange(models)[:, None]
        size = models * self.classes
        counts = np.bincount(places.ravel(), minlength=size)
        right = np.bincount(places[predicted == self.labels], minlength=size)
        return right.reshape(models, -1), counts.reshape(models, -1)

    @abstractmethod
    def _terms(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints]:
        """Numerators and denominators (models, terms) of the fractions whose sum is the metric."""

    @abstractmethod
    def _influences(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints, Ints | None]:
        """What a record adds for being right, less for being of a class, less for being predicted (models, classes)."""


class Accuracy(_OfConfusion):
    """The part of the records that are right; ties go to the lower class."""

    def values(self, scores: Scores, bits: int) -> Ints:  # noqa: ARG002
        return self._parts(_predicted(scores) == self.labels)

    def measure(self, scores: Scores, bits: int) -> Measured:  # noqa: ARG002
        # The same as from the confusion, which takes most of the time where there is nothing to balance.
        hits = _predicted(scores) == self.labels
        return Measured(self._parts(hits), hits.astype(np.int64) << INFLUENCE_BITS)

    def _parts(self, hits: npt.NDArray[np.bool_]) -> Ints:
        parts: Ints = (hits.sum(axis=1, dtype=np.int64) << VALUE_BITS) // self.records
        return parts

    def _terms(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints]:  # noqa: ARG002
        return right.sum(axis=1, keepdims=True), np.full((len(right), 1), self.records)

    def _influences(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints, Ints | None]:  # noqa: ARG002
        return np.full(right.shape, 1 << INFLUENCE_BITS), np.zeros_like(right), None


class BalancedAccuracy(_OfConfusion):
    """The mean of the classes' recalls."""

    def _terms(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints]:  # noqa: ARG002
        return right, np.broadcast_to(self.counts * self.classes, right.shape)

    def _influences(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints, Ints | None]:  # noqa: ARG002
        unit = self.records << INFLUENCE_BITS
        per_hit = np.broadcast_to(unit // (self.counts * self.classes), right.shape)
        return per_hit, unit * right // (self.counts * self.counts * self.classes), None


class MacroF1(_OfConfusion):
    """The mean of the classes' F1, 2 TP / (records of the class + records predicted as it)."""

    def _terms(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints]:
        return 2 * right, (self.counts + predicted) * self.classes

    def _influences(self, right: Ints, predicted: Ints) -> tuple[Ints, Ints, Ints | None]:
        both, unit = self.counts + predicted, self.records << INFLUENCE_BITS
        # Divided twice: the product of both divisors may pass 63 bits together with the classes.
        lost = unit * 2 * right // both // (both * self.classes)
        return 2 * unit // (both * self.classes), lost, lost


class AreaUnderCurve(Metric):
    """The area under the ROC curve: how often a record of the class scores above one that is not, ties counting half.

    Of two classes the difference of the scores ranks; of more it is the mean over classes, each by its own score.
    """

    def __init__(self, labels: Ints, classes: int) -> None:
        self.labels, self.centred = labels, classes == 2
        self._positive = [np.flatnonzero(labels == k) for k in range(classes)]
        self._negative = [np.flatnonzero(labels != k) for k in range(classes)]
        self._ranked = [1] if classes == 2 else list(range(classes))

    @property
    def records(self) -> int:
        return len(self.labels)

    def exact(self, scores: Ints, bits: int) -> Fraction:  # noqa: ARG002  (ranks are the same at any scale)
        areas = [Fraction(int(self._beaten(scores, k)[0].sum()), 2 * self._pairs(k)) for k in self._ranked]
        return sum(areas, Fraction()) / len(areas)

    def measure(self, scores: Scores, bits: int) -> Measured:  # noqa: ARG002
        values = np.zeros(len(scores), dtype=np.int64)
        influences = np.zeros((len(scores), self.records), dtype=np.int64)
        for model, one in enumerate(scores):
            for k in self._ranked:
                area = self._add_area(one, k, influences[model])
                values[model] += area
        return Measured(values, clipped(influences))

    def _add_area(self, scores: Scores, k: int, influences: Ints) -> int:
        """The class's part of the value; adds its part of the influences."""
        above, beaten_by = self._beaten(scores, k)
        pairs, many = self._pairs(k), len(self._ranked)
        total = int(above.sum())
        unit = self.records << INFLUENCE_BITS
        for places, halves in ((self._positive[k], above), (self._negative[k], beaten_by)):
            # halves * places / 2 pairs is the record's own area, total / 2 pairs that of all.
            centred = halves * len(places) - total
            influences[places] += times_ratio(centred, unit, 2 * pairs * len(places) * many)
        return (total << VALUE_BITS) // (2 * pairs * many)

    def _beaten(self, scores: Scores, k: int) -> tuple[Ints, Ints]:
        """For each positive how many negatives are below it, for each negative how many positives above, in halves."""
        ranked = scores[1] - scores[0] if self.centred else scores[k]
        positive, negative = ranked[self._positive[k]], ranked[self._negative[k]]
        ups, downs = np.sort(positive), np.sort(negative)
        above = np.searchsorted(downs, positive, "left") + np.searchsorted(downs, positive, "right")
        below = np.searchsorted(ups, negative, "left") + np.searchsorted(ups, negative, "right")
        return above.astype(np.int64), 2 * len(positive) - below.astype(np.int64)

    def _pairs(self, k: int) -> int:
        return len(self._positive[k]) * len(self._negative[k])


_OF_CONFUSION: dict[MetricName, type[_OfConfusion]] = {
    "accuracy": Accuracy, "balanced_accuracy": BalancedAccuracy, "macro_f1": MacroF1,
}  # fmt: skip


def _predicted(scores: Scores) -> Ints:
    """The class (models, records) of the highest score, the lowest of several."""
    best = scores[:, 0].copy()
    found = np.zeros(best.shape, dtype=np.int64)
    for k in range(1, scores.shape[1]):
        found[scores[:, k] > best] = k
        np.maximum(best, scores[:, k], out=best)
    return found
