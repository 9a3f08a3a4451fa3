"""What a campaign delivers: torch modules that predict, with scikit-learn's conventions.

base         TrainedModel: from features in raw units to outputs
classifier   TrainedClassifier: classes, probabilities
regressor    TrainedRegressor: numbers
estimator    parameters, tags and errors as scikit-learn asks for them
"""

from pysonar.results.base import TrainedModel
from pysonar.results.classifier import TrainedClassifier
from pysonar.results.regressor import TrainedRegressor

__all__ = ["TrainedClassifier", "TrainedModel", "TrainedRegressor"]
