"""Steps down a gradient, as `torch.optim` takes them: SGD with momentum, and Adam.

    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015

torch's own optimizers load its compiler with their first step: seconds, a gigabyte of address space, and a directory to
write to, which a process that reads a mine's records does not have.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sonar.network.schedule import NetworkTraining

__all__ = ["Optimizer", "optimizer_for"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Optimizer(Protocol):
    """Changes parameters by their gradients."""

    def step(self) -> None:
        """Takes one step, and forgets the gradients."""


def optimizer_for(parameters: Sequence[torch.nn.Parameter], training: NetworkTraining) -> Optimizer:
    """What a training asks for, at its beginning."""
    return (_Sgd if training.optimizer == "sgd" else _Adam)(parameters, training)


class _Sgd:
    def __init__(self, parameters: Sequence[torch.nn.Parameter], training: NetworkTraining) -> None:
        self._parameters, self._training = parameters, training
        self._velocities: list[Tensor | None] = [None] * len(parameters)

    @torch.no_grad()
    def step(self) -> None:
        for place, parameter in enumerate(self._parameters):
            gradient = _gradient(parameter, self._training.weight_decay)
            before = self._velocities[place]
            if self._training.momentum and before is not None:
                gradient = before.mul_(self._training.momentum).add_(gradient)
            self._velocities[place] = gradient
            parameter.sub_(gradient, alpha=self._training.learning_rate)


class _Adam:
    def __init__(self, parameters: Sequence[torch.nn.Parameter], training: NetworkTraining) -> None:
        self._parameters, self._training, self._steps = parameters, training, 0
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self) -> None:
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in _BETAS)
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            gradient = _gradient(parameter, self._training.weight_decay)
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            spread = (square.sqrt() / second**0.5).add_(_EPSILON)
            parameter.addcdiv_(mean, spread, value=-self._training.learning_rate / first)


def _gradient(parameter: torch.nn.Parameter, decay: float) -> Tensor:
    found = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    parameter.grad = None
    return found.add(parameter, alpha=decay) if decay else found
