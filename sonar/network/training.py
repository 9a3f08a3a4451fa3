"""The local training of a network: seeded, in torch, and the change of the parameters that comes of it, clipped.

    B. McMahan and others, Communication-efficient learning of deep networks from decentralized data, AISTATS 2017

One call is what federated averaging does on one client. It uses the cores that torch is given; the same seed gives the
same change on the same machine with as many threads, and nearly so elsewhere.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from sonar.network.building import Network, build
from sonar.network.errors import NetworkError
from sonar.network.graph import Graph
from sonar.network.optimizers import optimizer_for
from sonar.network.parameters import joined, parted
from sonar.network.schedule import NetworkTraining
from sonar.syft.encoding import Floats
from sonar.syft.engines.base import Progress

__all__ = ["Inputs", "clipped", "loss_of", "outputs_of", "tensors_of", "threads", "train", "worth_threads"]

Inputs = npt.NDArray[np.floating[Any]]
"""Records in float32, which is what they are trained in, or float64."""

_WORTH_THREADS = 1 << 26
"""Multiplications of a batch below which threads wait for each other longer than they work."""
_NUMBERS_AT_ONCE = 1 << 23
"""How many numbers of records on their way through the layers are in memory at once: 64 MiB of float64."""


def train(
    graph: Graph,
    start: Floats,
    records: Inputs,
    targets: Inputs,
    training: NetworkTraining,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Floats:
    """The clipped change (graph.size,) of parameters `start` (graph.size,) by the training on a mine's records.

    `records` are (records, features) as the model sees them, `targets` (records, outputs): of classes 1 for the
    record's and 0 elsewhere, else scaled numbers. `seed` decides the order of batches and dropout; it must be secret
    where the order of records is. Raises NetworkError for shapes that do not fit and where training diverges.
    """
    given, wanted = tensors_of(graph, records, targets, training)
    network = build(graph, parted(graph, start), dtype=torch.float32).train()
    optimizer = optimizer_for(network.tensors(), training)
    steps = training.epochs * math.ceil(len(records) / training.batch_size)
    order, done = torch.Generator().manual_seed(seed), 0
    with torch.random.fork_rng(devices=[]), threads(worth_threads(graph, training.batch_size)):
        torch.manual_seed(seed)  # dropout draws from the generator of all
        for _ in range(training.epochs):
            places = torch.randperm(len(records), generator=order)
            for batch in torch.split(places, training.batch_size):
                loss = loss_of(network(given[batch]), wanted[batch], training)
                if not torch.isfinite(loss):
                    raise NetworkError("the training diverges: its learning rate is too high for these records")
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                done += 1
                if progress is not None:
                    progress(done / steps)
    change = joined(graph, network.tensors()) - start
    return clipped(change, training.clip_norm)


def tensors_of(graph: Graph, records: Inputs, targets: Inputs, training: NetworkTraining) -> tuple[Tensor, Tensor]:
    """Records and targets as `train` takes them, as float32 that the first layer and `loss_of` take.

    They are not copied where they are float32 already, and not changed.

    Raises NetworkError for shapes that do not fit.
    """
    if records.ndim != 2 or records.shape[1] != graph.features or targets.shape != (len(records), graph.outputs):
        raise NetworkError(
            f"records of shape {records.shape} and targets of shape {targets.shape} do not fit a network of "
            f"{graph.features} features and {graph.outputs} outputs"
        )
    given = torch.as_tensor(records, dtype=torch.float32).reshape(len(records), *graph.takes)
    wanted = torch.as_tensor(targets, dtype=torch.float32)
    return given, wanted.argmax(dim=1) if training.loss == "cross_entropy" else wanted


def worth_threads(graph: Graph, batch: int) -> int:
    """How many threads a batch of so many records keeps busy: those that torch is given, or one."""
    return 1 if graph.work * batch < _WORTH_THREADS else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Has torch keep so many threads busy within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def clipped(change: Floats, length: float) -> Floats:
    """The change, shortened to at most this Euclidean length."""
    norm = float(np.linalg.norm(change))
    return change if norm <= length else change * (length / norm)


def outputs_of(network: Network, records: Floats) -> Floats:
    """The outputs (records, outputs) of records (records, features), in evaluation mode and the network's precision.

    As many records at once as fit into memory, always as many for one graph.
    """
    network.eval()
    many = max(1, _NUMBERS_AT_ONCE // network.graph.numbers)
    kind = next(network.parameters()).dtype
    with torch.inference_mode():
        parts = [network(torch.tensor(records[at : at + many], dtype=kind)) for at in range(0, len(records), many)]
    return np.concatenate([part.to(torch.float64).numpy() for part in parts])


def loss_of(outputs: Tensor, wanted: Tensor, training: NetworkTraining) -> Tensor:
    """The mean loss of outputs (records, outputs): of classes (records,), or of targets (records, outputs)."""
    return (
        functional.cross_entropy(outputs, wanted)
        if training.loss == "cross_entropy"
        else functional.mse_loss(outputs, wanted)
    )
