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
    from pysonar.campaign import Campaign
    from pysonar.linear import LinearModel
    from pysonar.models import LinearClassifier
    from pysonar.session import Sonar, connect

__all__ = [
    "Campaign", "CampaignError", "LinearClassifier", "LinearModel", "Sonar", "connect", "ether", "format_ether",
]  # fmt: skip

_HOMES = {
    "Campaign": "pysonar.campaign",
    "LinearClassifier": "pysonar.models",
    "LinearModel": "pysonar.linear",
    "Sonar": "pysonar.session",
    "connect": "pysonar.session",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pysonar' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
