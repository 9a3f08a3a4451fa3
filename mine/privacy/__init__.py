"""Differential privacy of what a mine gives away."""
