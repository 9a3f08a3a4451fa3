"""Zero-concentrated differential privacy: what statistics cost together, and what that is in epsilon and delta.

A mechanism is rho-zCDP if for all neighbouring data and all alpha > 1 the Renyi divergence of order alpha between its
outputs is at most rho alpha. Costs add up, also where later mechanisms depend on what earlier ones said, and where it
depends on that how much they cost: a sum that is checked before it is spent from is a filter.

    M. Bun, T. Steinke, Concentrated differential privacy: simplifications, extensions, and lower bounds, TCC 2016
    V. Feldman, T. Zrnic, Individual privacy accounting via a Renyi filter, NeurIPS 2021
    C. L. Canonne, G. Kamath, T. Steinke, The discrete Gaussian for differential privacy, NeurIPS 2020
"""

import math
from fractions import Fraction
from functools import lru_cache

__all__ = ["epsilon_of", "rho_of"]

_STEPS = 120
_ROUNDING = 1e-9
"""Relative; far more than what float64 may lose in the formula, and nothing that anybody would notice."""


def epsilon_of(rho: Fraction | float, delta: float) -> float:
    """An epsilon for which every rho-zCDP mechanism is (epsilon, delta)-differentially private; rho >= 0.

    The least over alpha > 1 of rho alpha + log(1 - 1/alpha) + (log(1/delta) - log(alpha)) / (alpha - 1), as
    Proposition 12 of Canonne, Kamath and Steinke gives it: tighter than rho + 2 sqrt(rho log(1/delta)) of Bun and
    Steinke, Proposition 1.3. Any alpha gives a true bound, so a search that misses the least only says too much.
    """
    if rho <= 0:
        return 0.0
    cost = float(rho)

    def bound(exponent: float) -> float:
        above = math.exp(exponent)  # alpha - 1
        alpha = 1 + above
        return cost * alpha - math.log1p(1 / above) + (-math.log(delta) - math.log(alpha)) / above

    low, high = -20.0, 60.0
    for _ in range(_STEPS):
        third = (high - low) / 3
        if bound(low + third) < bound(high - third):
            high -= third
        else:
            low += third
    return max(0.0, bound(low)) * (1 + _ROUNDING)


@lru_cache(maxsize=64)
def rho_of(epsilon: float, delta: float) -> Fraction:
    """The largest rho, to float64, that `epsilon_of` says is within epsilon > 0; exact as a fraction from then on."""
    low, high = 0.0, 2 * epsilon + 1
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if epsilon_of(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return Fraction(low)
