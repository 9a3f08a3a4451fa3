"""How long a network trains and is judged on a machine like this one, by a few batches and one run of it."""

import math
import time

import numpy as np

from sonar.network import Graph
from sonar.protocol.networks import NetworkTerms

__all__ = ["judging_seconds", "network_seconds"]

_BATCHES = 8
_RUNS = 3
_RUN_RECORDS = 256
_EXACT = 10
"""Gradients up to which every coalition of them is run; of more, samples."""


def network_seconds(terms: NetworkTerms, records: int) -> float:
    """Seconds that a mine's training on so many records takes, encryption not counted."""
    from sonar.network.training import train

    graph, training = terms.graph, terms.training
    batch = min(training.batch_size, records)
    # What the numbers are makes no difference to how long they take; of 0 there is an embedding, too.
    inputs, targets = np.zeros((batch, graph.features), np.float32), np.zeros((batch, graph.outputs), np.float32)

    def timed(epochs: int) -> float:
        began = time.perf_counter()
        short = training.model_copy(update={"epochs": epochs, "batch_size": batch})
        train(graph, np.zeros(graph.size), inputs, targets, short, seed=0)
        return time.perf_counter() - began

    timed(1)  # what is done once in a process
    # The quickest counts: what else the machine does passes.
    once, more = (min(timed(epochs) for _ in range(_RUNS)) for epochs in (1, 1 + _BATCHES))
    each = max(more - once, 0.0) / _BATCHES
    return once + each * training.epochs * math.ceil(records / batch)


def judging_seconds(graph: Graph, records: int, gradients: int) -> float:
    """Seconds that it takes to run the models of a round's coalitions on so many validation records, on one core."""
    from sonar.network.building import build
    from sonar.network.parameters import parted
    from sonar.network.training import outputs_of, threads

    some = min(records, _RUN_RECORDS)
    network, inputs = build(graph, parted(graph, np.zeros(graph.size))), np.zeros((some, graph.features))

    def timed() -> float:
        began = time.perf_counter()
        outputs_of(network, inputs)
        return time.perf_counter() - began

    with threads(1):
        timed()
        run = min(timed() for _ in range(_RUNS))
    return run * math.ceil(records / some) * _models(gradients)


def _models(gradients: int) -> int:
    """How many models a round of so many gradients is judged by: steps of the whole, and each coalition at several."""
    return 50 + (5 << gradients if gradients <= _EXACT else 512 * gradients)
