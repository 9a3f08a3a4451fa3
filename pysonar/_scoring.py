"""A campaign's metrics in floats, for what a data scientist can compute herself; the Capsule's are exact."""

import numpy as np
import numpy.typing as npt

from sonar.protocol.spec import MetricName

__all__ = ["measured"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def measured(metric: MetricName, outputs: Floats, labels: Ints | Floats) -> float:
    """The metric, 0 to 1, of outputs (records, classes or targets) for class indices (records,) or targets.

    Targets (records, targets) are scaled as the outputs are. Differs from the Capsule's word where a record lies on the
    border of two classes, which is decided there by integers of 16 fractional bits.
    """
    if metric == "r2":
        missed, spread = ((labels - outputs) ** 2).sum(axis=0), ((labels - labels.mean(axis=0)) ** 2).sum(axis=0)
        return max(0.0, float((1 - missed / spread).mean()))
    indices, classes = labels.astype(np.int64), outputs.shape[1]
    if metric == "auc":
        if classes == 2:
            return _area(outputs[:, 1] - outputs[:, 0], indices == 1)
        return float(np.mean([_area(outputs[:, k], indices == k) for k in range(classes)]))
    found = outputs.argmax(axis=1)
    right = np.bincount(indices[found == indices], minlength=classes)
    if metric == "accuracy":
        return float(right.sum() / len(indices))
    counts, predicted = (np.bincount(values, minlength=classes) for values in (indices, found))
    parts = right / counts if metric == "balanced_accuracy" else 2 * right / (counts + predicted)
    return float(parts.mean())


def _area(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """How often a positive record scores above a negative one, ties counting half."""
    above, below = scores[positive], np.sort(scores[~positive])
    halves = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(halves.sum() / (2 * len(above) * len(below)))
