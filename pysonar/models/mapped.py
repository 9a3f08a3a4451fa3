"""Classifiers that stay encrypted on a public map of their features: kernel machines and polynomials."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pysonar.errors import ModelError
from pysonar.models.classifiers import Classifier
from pysonar.models.parts import SOLVED, l2_of, names_of
from sonar.protocol.spec import AnyMap, FourierMap, PolynomialMap

__all__ = ["KernelClassifier", "PolynomialClassifier"]


@dataclass(frozen=True, init=False, eq=False)
class KernelClassifier(Classifier):
    """A kernel machine: ridge on `count` random Fourier features of the Gaussian kernel exp(-gamma |x - y|^2).

    x are the scaled features. `count`, 1 to 2047, is how many random features there are: the more, the nearer to the
    kernel, and the more records a mine must have, twice as many (`least_records`). `gamma` is above 0, or "scale",
    which is 1 / (4 features): half the inverse of the mean squared distance of two records whose scaled features have
    variance 1, as `standardised` makes them, so that the kernel's width is that distance. A narrower kernel (a larger
    gamma) needs more features and records. `seed` draws the features. `l2` and how long a round trains are as of
    RidgeClassifier, everything else as of LinearClassifier.

    >>> model = KernelClassifier(64, 10, count=150)
    >>> model.feature_map.gamma, model.shape, model.least_records
    (0.00390625, (151, 10), 300)
    """

    def __init__(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        count: int = 256,
        gamma: float | str = "scale",
        seed: int = 0,
        l2: float = 3e-3,
        offset: Any = None,
        scale: Any = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        names = names_of(features, "x", "features", 1, 1 << 20)
        self._classify(
            names,
            classes,
            offset=offset,
            scale=scale,
            feature_map={"kind": "fourier", "count": count, "gamma": _gamma(gamma, len(names)), "seed": seed},
            weights=weights,
            metric=metric,
            training={"loss": "ridge", "l2": l2_of(l2), "epochs": SOLVED},
        )

    @classmethod
    def _map_options(cls, feature_map: AnyMap) -> dict[str, Any]:
        return _options_of(cls, feature_map, FourierMap, ("count", "gamma", "seed"))


@dataclass(frozen=True, init=False, eq=False)
class PolynomialClassifier(Classifier):
    """A classifier on the features and their products of up to `degree`, 2 or 3; without `powers` none holds one twice.

    Products of scaled features are clipped to +-16: standardise them. A mine needs twice as many records as there are
    products (`least_records`). `l2` is as of RidgeClassifier, everything else as of LinearClassifier.

    >>> PolynomialClassifier(["a", "b"], 2).mapping.names(["a", "b"])
    ('a', 'b', 'a^2', 'a*b', 'b^2')
    """

    def __init__(
        self,
        features: int | Iterable[str],
        classes: int | Iterable[Any],
        *,
        degree: int = 2,
        powers: bool = True,
        l2: float = 1e-3,
        offset: Any = None,
        scale: Any = None,
        weights: Any = None,
        metric: str = "accuracy",
    ) -> None:
        self._classify(
            features,
            classes,
            offset=offset,
            scale=scale,
            feature_map={"kind": "polynomial", "degree": degree, "powers": powers},
            weights=weights,
            metric=metric,
            training={"loss": "ridge", "l2": l2_of(l2), "epochs": SOLVED},
        )

    @classmethod
    def _map_options(cls, feature_map: AnyMap) -> dict[str, Any]:
        return _options_of(cls, feature_map, PolynomialMap, ("degree", "powers"))


def _options_of(
    model: type[Classifier], feature_map: AnyMap, kind: type[FourierMap | PolynomialMap], names: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(feature_map, kind):
        raise ModelError(
            f"the result has the feature map {feature_map.kind}, which a {model.__name__} has not: describe a "
            "LinearClassifier with it"
        )
    return {name: getattr(feature_map, name) for name in names}


def _gamma(given: Any, features: int) -> float:
    if given == "scale":
        return 1 / (4 * features)
    number = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not number or not 0 < given < math.inf:
        raise ModelError(f"gamma is {given!r}: give a number above 0, or 'scale' for 1 / (4 features)")
    return float(given)
