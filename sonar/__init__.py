"""Sonar: a blockchain-backed marketplace for federated learning. What every actor shares."""

__version__ = "0.1.0"
