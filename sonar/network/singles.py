"""The gradients of records one by one, which differential privacy clips: a batch's sum tells nothing of its parts.

Each record is given a copy of all parameters, by reference, and the network is mapped over both (`torch.func.vmap`):
the sum of all losses then has a record's own gradient at its copy. `torch.func.grad` would do the same, and loads
torch's compiler, as torch's optimizers do. Opacus has hooks on modules of its own; a graph has known layers alone.

    M. Abadi and others, Deep learning with differential privacy, CCS 2016
"""

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from sonar.network.building import Network
from sonar.network.schedule import NetworkTraining
from sonar.network.separable import check_separable
from sonar.network.training import loss_of

__all__ = ["Singles"]


class Singles:
    """A network whose loss is differentiated record by record.

    It is in evaluation mode, so dropout drops nothing: which numbers it drops would depend on how many records there
    are, and noise does more of what it is for. Raises NetworkError as `check_separable` does.
    """

    def __init__(self, network: Network, training: NetworkTraining) -> None:
        check_separable(network.graph)
        self._network = network.eval()
        self._training = training
        self._names = [f"steps.{one.layer}.{one.name}" for one in network.graph.parameters]
        self._losses = vmap(self._loss)

    def gradients(self, records: Tensor, wanted: Tensor) -> Tensor:
        """The gradients (records, graph.size) of each record's loss, in the graph's order of parameters.

        `records` are (records, *graph.takes), `wanted` classes (records,) or targets (records, outputs). What a row is
        depends on its record and place alone, to the last bit, whatever stands in the others, for as many rows.
        """
        count = len(records)
        copies = tuple(
            tensor.detach().expand(count, *tensor.shape).requires_grad_() for tensor in self._network.tensors()
        )
        total: Tensor = self._losses(copies, records, wanted).sum()
        found = torch.autograd.grad(total, copies)
        return torch.cat([part.reshape(count, -1) for part in found], dim=1)

    def _loss(self, parameters: tuple[Tensor, ...], record: Tensor, wanted: Tensor) -> Tensor:
        outputs = functional_call(self._network, dict(zip(self._names, parameters, strict=True)), (record[None],))
        return loss_of(outputs, wanted[None], self._training)
