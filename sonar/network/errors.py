"""Errors of networks; the tree is drawn in `sonar.network`."""

from sonar.errors import SonarError

__all__ = ["NetworkError", "ParameterError", "UnknownLayerError"]


class NetworkError(SonarError):
    """A network cannot be declared, built or trained."""

    exit_code = 7


class UnknownLayerError(NetworkError):
    """A module does something that no declared layer does; the message names it."""


class ParameterError(NetworkError):
    """Parameters of another network, or numbers that are not finite or beyond the grid's bound."""
