"""Sonar for data scientists: train a model on data that nobody else can read, and pay by how much it improved.

    import pysonar
    sonar = pysonar.connect()
    campaign = sonar.create_campaign(
        model=pysonar.LinearClassifier(features=64, classes=10),
        validation=(X_val, y_val), bounty=pysonar.ether(1), target=0.92, deadline="2h")
    campaign.watch()
    model = campaign.result()

torch, web3 and the rest are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pysonar.errors import CampaignError
from sonar.units import ether, format_ether

if TYPE_CHECKING:
    from pysonar import aio as aio
    from pysonar.campaign import Campaign
    from pysonar.connecting import connect
    from pysonar.estimating.estimate import Estimate, estimate
    from pysonar.models import (
        Head,
        KernelClassifier,
        LinearClassifier,
        LinearRegressor,
        PolynomialClassifier,
        RidgeClassifier,
    )
    from pysonar.network import Network
    from pysonar.results import TrainedClassifier, TrainedRegressor
    from pysonar.session import Sonar

__all__ = [
    "Campaign", "CampaignError", "Estimate", "Head", "KernelClassifier", "LinearClassifier", "LinearRegressor",
    "Network", "PolynomialClassifier", "RidgeClassifier", "Sonar", "TrainedClassifier", "TrainedRegressor", "connect",
    "estimate", "ether", "format_ether",
]  # fmt: skip

_HOMES = {
    "Campaign": "pysonar.campaign",
    "Estimate": "pysonar.estimating.estimate",
    "Head": "pysonar.models",
    "KernelClassifier": "pysonar.models",
    "LinearClassifier": "pysonar.models",
    "LinearRegressor": "pysonar.models",
    "Network": "pysonar.network",
    "PolynomialClassifier": "pysonar.models",
    "RidgeClassifier": "pysonar.models",
    "Sonar": "pysonar.session",
    "TrainedClassifier": "pysonar.results",
    "TrainedRegressor": "pysonar.results",
    "connect": "pysonar.connecting",
    "estimate": "pysonar.estimating.estimate",
}


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("pysonar.aio")
    if name not in _HOMES:
        raise AttributeError(f"module 'pysonar' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
