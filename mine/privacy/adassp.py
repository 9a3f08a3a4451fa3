"""From noised sums to statistics that training takes: post-processing, which costs no privacy.

Slopes are fitted as AdaSSP does, with a ridge that is as large as the noise needs and no larger. With d features beside
the constant, X'X of them about their means is S + E, where S is positive semidefinite and E symmetric Gaussian noise
whose largest eigenvalue is below b = tau (sqrt(2 d) + sqrt(2 log(1 / beta))) with probability 1 - beta. The ridge is
max(0, b - lambda_min(S + E)): none where the data speak louder than the noise in every direction. The noise scale is
known, so unlike in the paper no part of the budget is spent on lambda_min; the constant has no ridge, and is kept to
what records can have instead.

    Y.-X. Wang, Revisiting differentially private linear regression, UAI 2018, algorithm 2
    K. R. Davidson, S. J. Szarek, Local operator theory, random matrices and Banach spaces (2001), theorem 2.11: tau
        sqrt(2 d) is above the mean of the largest eigenvalue, for variances tau^2 on the diagonal, tau^2 / 2 beside it
"""

import math

import numpy as np

from mine.privacy.clipping import GRID_BITS, Floats
from mine.privacy.mechanism import NoisedSums
from sonar.syft.statistics import Statistics

__all__ = ["noise_bound", "statistics_of"]

_BETA = 0.05
_UNIT = 4.0**-GRID_BITS


def statistics_of(noised: NoisedSums, *, one_hot: bool) -> Statistics:
    """Statistics as `Schedule.training_map` takes them, with X'X positive semidefinite and a weight of at least 1.

    `one_hot` says that targets are classes, so that the columns of X'Y sum to the last column of X'X: both were noised,
    and what they say together is more exact than either. The number of records is the noised one, too.
    """
    rows, aims = noised.clip.rows, noised.clip.targets
    gram: Floats = noised.gram.astype(np.float64) * (rows * rows * _UNIT)
    moment: Floats = noised.moment.astype(np.float64) * (rows * aims * _UNIT)
    deviation = math.sqrt(noised.variance) * _UNIT
    if one_hot:
        _agree(gram, moment, rows * rows * deviation, rows * aims * deviation)
    features = len(gram) - 1
    weight = max(1.0, float(gram[-1, -1]))
    means = gram[:-1, -1] / weight
    # Clipped rows have norms up to `rows`, and so has their mean.
    means *= min(1.0, rows / max(float(np.linalg.norm(means)), 1e-300))
    spread = gram[:-1, :-1] - weight * np.outer(means, means)
    slopes = moment[:-1] - np.outer(means, moment[-1])
    _possible(moment, weight, aims, one_hot=one_hot)
    moment[:-1] = slopes + np.outer(means, moment[-1])
    if features:
        least = float(np.linalg.eigvalsh(spread)[0])
        spread[np.diag_indices(features)] += max(0.0, noise_bound(features, rows * rows * deviation) - least)
    whole: Floats = np.empty_like(gram)
    whole[:-1, :-1] = spread + weight * np.outer(means, means)
    whole[:-1, -1] = whole[-1, :-1] = weight * means
    whole[-1, -1] = weight
    return Statistics(whole, moment, max(1, round(weight)), weight, weight, noised.class_weights)


def noise_bound(features: int, deviation: float) -> float:
    """What the noise's largest eigenvalue stays below with probability 0.95; `deviation` is that of its diagonal."""
    return deviation * (math.sqrt(2 * features) + math.sqrt(-2 * math.log(_BETA)))


def _possible(moment: Floats, weight: float, aims: float, *, one_hot: bool) -> None:
    """Makes the sums of X'Y for the constant, its last row, ones that records can have, in place.

    So many records of each class are none or more, and all of them together; targets of a regression have a mean within
    their clip. The ridge bounds slopes by their noise, and nothing but this the constants: a gradient from few records
    would be as long as the noise, and be left out by a judge who bounds lengths.
    """
    if one_hot:
        counts = np.maximum(moment[-1], 0.0)
        share = counts / counts.sum() if counts.sum() > 0 else np.full(len(counts), 1 / len(counts))
        moment[-1] = weight * share
    else:
        moment[-1] *= min(1.0, weight * aims / max(float(np.linalg.norm(moment[-1])), 1e-300))


def _agree(gram: Floats, moment: Floats, gram_deviation: float, moment_deviation: float) -> None:
    """Makes the last column of X'X and the sums of X'Y over classes agree, in place, each moved by its own variance."""
    variance = np.full(len(gram), gram_deviation**2 / 2)
    variance[-1] *= 2
    total = variance + moment.shape[1] * moment_deviation**2
    difference = gram[:, -1] - moment.sum(axis=1)
    gram[:, -1] -= difference * variance / total
    gram[-1, :] = gram[:, -1]
    moment += (difference * moment_deviation**2 / total)[:, None]
