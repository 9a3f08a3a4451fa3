"""From a campaign's spec and the weights that its Capsule delivers to the module that its owner gets."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pysonar.attribution import Origin, parts_of
from pysonar.results.base import TrainedModel
from pysonar.results.classifier import TrainedClassifier
from pysonar.results.regressor import TrainedRegressor
from sonar.protocol.spec import Spec

if TYPE_CHECKING:
    from pysonar.campaign import Campaign

__all__ = ["delivered", "module_of"]


def delivered(campaign: "Campaign", weights: npt.NDArray[np.int64]) -> TrainedModel:
    """The module of a campaign's last weights, which knows where they come from."""
    model, spec = module_of(campaign.spec, weights), campaign.spec
    if spec.network is None:
        model._origin = Origin(spec, weights, lambda: parts_of(campaign, weights))
    return model


def module_of(spec: Spec, weights: npt.NDArray[np.int64]) -> TrainedModel:
    """The module of integer weights, of the spec's shape, at the spec's scale 2^weight_bits."""
    if spec.network is not None:
        from pysonar.results.network import trained_network

        return trained_network(spec, weights)
    kind = TrainedRegressor if spec.targets else TrainedClassifier
    return kind.from_encoded(spec, weights)
