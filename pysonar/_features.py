"""The public feature maps in torch, the same as `sonar.syft.features` has them in numpy.

Only that Fourier features and a backbone's outputs are not rounded, which would leave nothing to differentiate: 1e-6
of the former at most lies between, and 1e-5 of the latter.
"""

import math
from typing import Self

import numpy as np
import torch

from sonar.network.building import build
from sonar.network.frozen import Frozen
from sonar.network.parameters import parted
from sonar.syft.features import CLIP, FeatureMap, Identity, Polynomial, RandomFourier

__all__ = ["torch_map"]


def torch_map(mapping: FeatureMap) -> torch.nn.Module:
    """A module without parameters that maps scaled features (records, inputs) to (records, outputs)."""
    match mapping:
        case Identity():
            return torch.nn.Identity()
        case RandomFourier():
            return _Fourier(mapping)
        case Polynomial():
            return _Polynomial(mapping)
        case Frozen():
            return _Backbone(mapping)
        case _:
            raise TypeError(f"there is no torch module for {mapping!r}")


class _Backbone(torch.nn.Module):
    """The network itself, whose parameters are not trained; what is no number counts as 0, as in the map."""

    def __init__(self, mapping: Frozen) -> None:
        super().__init__()
        self.network = build(mapping.graph, parted(mapping.graph, mapping.parameters)).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Frozen: a dropout in it never drops anything."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.network(scaled)
        return outputs.nan_to_num(0.0, CLIP, -CLIP).clamp(-CLIP, CLIP)


class _Fourier(torch.nn.Module):
    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, mapping: RandomFourier) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(mapping.frequencies))
        self.register_buffer("phases", torch.tensor(mapping.phases))

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        return torch.cos(scaled @ self.frequencies + self.phases) * math.sqrt(2)


class _Polynomial(torch.nn.Module):
    factors: torch.Tensor

    def __init__(self, mapping: Polynomial) -> None:
        super().__init__()
        # Shorter products are filled up with a constant 1 behind the inputs.
        factors = np.full((mapping.degree, mapping.outputs), mapping.inputs)
        for output, monomial in enumerate(mapping.monomials):
            factors[: len(monomial), output] = monomial
        self.register_buffer("factors", torch.tensor(factors))

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        filled = torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)
        product = filled[:, self.factors[0]]
        for places in self.factors[1:]:
            product = product * filled[:, places]
        return product.clamp(-CLIP, CLIP)
