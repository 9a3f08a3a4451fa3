"""By how much chance alone moves a model's score on a validation set of so many records."""

import math

import numpy as np
import numpy.typing as npt

from sonar.protocol.spec import MetricName

__all__ = ["standard_error"]


def standard_error(metric: MetricName, score: float, counts: npt.NDArray[np.int64]) -> float:
    """About the standard error of a metric where its true value is `score`, in (0, 1).

    `counts` (classes,) says how many validation records each class has, one at least; for R2 it is (1,), all
    records. Of the single classes nothing is known, so each is taken to be as good as the whole, and what chance does
    to one as independent of the others:

    - accuracy: p (1 - p) / n, the variance of a mean of n noughts and ones; so has each class's recall, of which
      balanced accuracy is the mean;
    - macro F1 as balanced accuracy: a class's F1 alone moves less than its recall, but a record that one class loses
      another gains, which moves both;
    - AUC: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
      Radiology 143 (1982), each class against the rest;
    - R2: 2 (1 - R2) sqrt(R2 / n), of errors and targets that are normal (Olkin and Finn, "Correlations redux",
      Psychological Bulletin 118, 1995); several targets are taken to go together.
    """
    records = int(counts.sum())
    if metric == "accuracy":
        return math.sqrt(score * (1 - score) / records)
    if metric == "r2":
        return 2 * (1 - score) * math.sqrt(score / records)
    if metric == "auc":
        variances = [_auc_variance(score, int(count), records - int(count)) for count in counts]
        # Of two classes each against the rest is the same question.
        return math.sqrt(variances[0]) if len(counts) == 2 else math.sqrt(sum(variances)) / len(counts)
    return math.sqrt(sum(score * (1 - score) / count for count in counts.tolist())) / len(counts)


def _auc_variance(area: float, positives: int, negatives: int) -> float:
    above = area / (2 - area)  # that two positives both score above one negative
    below = 2 * area**2 / (1 + area)  # that a positive scores above two negatives
    spread = area * (1 - area) + (positives - 1) * (above - area**2) + (negatives - 1) * (below - area**2)
    return spread / (positives * negatives)
