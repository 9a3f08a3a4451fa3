"""What a campaign can train, described: names, public constants, feature map, start weights, metric, training.

base          Model: what all have in common
classifiers   LinearClassifier, RidgeClassifier
head          Head: a frozen public backbone
mapped        KernelClassifier, PolynomialClassifier
regressors    LinearRegressor
starts        where training starts: arrays, torch layers, results, fitted scikit-learn estimators
estimators    what such an estimator computes
parts         names, constants and maps as a notebook may give them
"""

from pysonar.models.base import Model
from pysonar.models.classifiers import Classifier, LinearClassifier, RidgeClassifier
from pysonar.models.head import Head
from pysonar.models.mapped import KernelClassifier, PolynomialClassifier
from pysonar.models.regressors import LinearRegressor

__all__ = [
    "Classifier", "Head", "KernelClassifier", "LinearClassifier", "LinearRegressor", "Model", "PolynomialClassifier",
    "RidgeClassifier",
]  # fmt: skip
