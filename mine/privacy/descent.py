"""Training a network on sums of clipped gradients with noise: the steps that `mine.privacy.steps` reckons with.

Nothing of one record depends on another one, to the last bit. A record's seat is a batch and a row of an array that
always has the same shape; records that share a seat are taken one after the other in it. So with one record less the
others are computed at the same places of the same arrays, and their sums are of integers, in any order the same. What
comes after the noise - steps, momentum, the change - is post-processing.

Nor does the time tell how many there are: of each batch as many arrays are computed as records of the declared number
hardly ever exceed, partly for nobody. Numbers so small that processors take long over them count as zero.

    M. Abadi and others, Deep learning with differential privacy, CCS 2016
"""

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mine.privacy.clipping import GRID_BITS, Ints
from mine.privacy.gaussian import DiscreteGaussian
from mine.privacy.mechanism import Source
from mine.privacy.steps import SQUARED_SENSITIVITY, Noise
from sonar.network.building import build
from sonar.network.graph import Graph
from sonar.network.optimizers import optimizer_for
from sonar.network.parameters import joined, parted
from sonar.network.schedule import NetworkTraining
from sonar.network.singles import Singles
from sonar.network.training import Inputs, clipped, tensors_of, threads, worth_threads
from sonar.syft import Progress
from sonar.syft.encoding import Floats

__all__ = ["on_the_grid", "seated", "train_privately"]

_MOST_ROWS = 256
_MOST_BYTES = 1 << 28
"""What the gradients of one array of records may take, with what is computed from them."""
_BYTES_A_PARAMETER = 64
"""float32 twice, float64 and its squares, integers and theirs."""
_BYTES_A_NUMBER = 16
_WORTH_A_CALL = 1 << 20
"""Multiplications of an array below which the call takes longer than the work."""
_SHARE = 64
"""Otherwise rows are so many times fewer than a batch's records: the more to a seat, the less is done for nobody."""
_RARELY = 1e-3
"""How likely, about, a training of so many takes more arrays than are computed in any case."""
_BELOW = 1 - 2.0**-30


def train_privately(
    graph: Graph,
    start: Floats,
    records: Inputs,
    targets: Inputs,
    training: NetworkTraining,
    noise: Noise,
    *,
    progress: Progress | None = None,
    source: Source = DiscreteGaussian,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> Floats:
    """The clipped change (graph.size,) of parameters `start` (graph.size,) by noised training; costs `noise.rho`.

    `records` are (records, features) as the model sees them, `targets` (records, outputs), as many as there are, none
    at all among them. No record ends a training: one whose gradient is not finite adds nothing. Raises NetworkError for
    shapes that do not fit and layers that mix records, and where the noised parameters themselves run away.
    """
    rows, count = _rows(graph, noise.per_batch(training.batch_size)), noise.batches(training.batch_size)
    draws, done = source(noise.variance), 0
    unit = noise.clip / 2**GRID_BITS / noise.per_batch(training.batch_size)
    # Before torch does anything: threads that it starts do as this one does.
    with _without_tiny_numbers(), threads(worth_threads(graph, rows)):
        given, wanted = (_some(one) for one in tensors_of(graph, records, targets, training))
        network = build(graph, parted(graph, start), dtype=torch.float32)
        singles, optimizer = Singles(network, training), optimizer_for(network.tensors(), training)
        batches = seated(len(records), count, rows, random_bytes, least=_arrays(noise.most, count * rows))
        for _ in range(training.epochs):
            for layers in batches:
                total = np.zeros(graph.size, dtype=np.int64)
                for places in layers:
                    total += _sum(singles, given, wanted, places, noise.clip)
                noised = (total + draws.draw(graph.size)) * unit
                for parameter, part in zip(network.tensors(), parted(graph, noised), strict=True):
                    parameter.grad = part.to(torch.float32)
                optimizer.step()
                done += 1
                if progress is not None:
                    progress(done / (training.epochs * count))
    return clipped(joined(graph, network.tensors()) - start, training.clip_norm)


def seated(
    count: int, batches: int, rows: int, random_bytes: Callable[[int], bytes], *, least: int = 0
) -> list[npt.NDArray[np.int64]]:
    """Where records sit: for each batch the places (layers, rows) of records in order, -1 for nobody.

    Each of `count` records draws one of batches * rows seats by itself. Whoever finds it taken sits in the next layer.
    There are `least` layers in each batch, whoever sits there, or more where they are needed.
    """
    drawn = np.frombuffer(random_bytes(8 * count), dtype="<u8") % np.uint64(batches * rows)
    order = np.argsort(drawn, kind="stable")
    seats = drawn[order].astype(np.int64)
    layer = np.arange(count) - np.searchsorted(seats, seats)
    found = []
    for batch in range(batches):
        mine = slice(*np.searchsorted(seats, [batch * rows, (batch + 1) * rows]))
        places = np.full((max(least, int(layer[mine].max(initial=-1)) + 1), rows), -1, dtype=np.int64)
        places[layer[mine], seats[mine] - batch * rows] = order[mine]
        found.append(places)
    return found


def on_the_grid(gradients: Tensor, clip: float) -> Tensor:
    """Gradients (records, parameters) cut to the length `clip`, as integers in units of clip / 2^16.

    Each row's norm is at most 2^16, in integers, whatever it holds; one that is not finite is zero.
    """
    exact = gradients.to(torch.float64)
    lengths = exact.square().sum(dim=1).sqrt()
    finite = torch.isfinite(lengths)
    factors = torch.where(finite, 2.0**GRID_BITS / torch.clamp(lengths, min=clip), 0.0)
    scaled = torch.where(finite[:, None], exact, 0.0) * factors[:, None]
    whole = scaled.round().to(torch.int64)
    over = whole.square().sum(dim=1) > SQUARED_SENSITIVITY
    if over.any():
        whole[over] = (scaled[over] * _BELOW).trunc().to(torch.int64)
    # What all promises rest on is not left to reasoning about floats.
    whole[whole.square().sum(dim=1) > SQUARED_SENSITIVITY] = 0
    return whole


def _sum(singles: Singles, given: Tensor, wanted: Tensor, places: npt.NDArray[np.int64], clip: float) -> Ints:
    """The sum (parameters,) over the records at places (rows,); nobody's row is of zeros, and counts nothing."""
    at, there = torch.from_numpy(np.maximum(places, 0)), torch.from_numpy(places >= 0)
    rows, aims = given[at], wanted[at]
    rows[~there], aims[~there] = 0, 0
    whole = on_the_grid(singles.gradients(rows, aims), clip)
    total: Ints = whole.mul_(there[:, None]).sum(dim=0).numpy()
    return total


def _some(values: Tensor) -> Tensor:
    """Records or targets, one of zeros where there are none."""
    return values if len(values) else values.new_zeros((1, *values.shape[1:]))


def _arrays(records: int, seats: int) -> int:
    """How many layers a batch has in any case: so many records rarely need more.

    By Chernoff's bound a seat that m records draw on average is drawn by `many` or more with a probability of at most
    exp(-m) (e m / many)^many.
    """
    mean, limit = records / seats, math.log(_RARELY / seats)
    many = math.ceil(mean)
    while many < records and many * (1 + math.log(mean / many)) - mean > limit:
        many += 1
    return many


@contextmanager
def _without_tiny_numbers() -> Iterator[None]:
    """Has torch take for zero, within, what is smaller than float32's normal numbers.

    Some processors take a hundred times as long over one: a start could be made on which one record has many.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _rows(graph: Graph, per_batch: float) -> int:
    """How many records are computed at once: by what is public alone, and what memory holds."""
    most = _MOST_BYTES // (_BYTES_A_PARAMETER * graph.size + _BYTES_A_NUMBER * graph.numbers)
    wanted = max(per_batch / _SHARE, _WORTH_A_CALL / graph.work)
    return int(max(1, min(_MOST_ROWS, most, per_batch, wanted)))
