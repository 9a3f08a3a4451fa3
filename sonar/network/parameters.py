"""Parameters as integers: all of a network's numbers in one row on a public grid, cut into rows that fill a plaintext.

The row is filled up with zeros, which must stay zeros: whatever else is there is no network's.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from sonar.network.errors import ParameterError
from sonar.network.graph import Graph
from sonar.syft.encoding import Floats

__all__ = ["Ints", "decode", "encode", "in_rows", "joined", "out_of_rows", "parted"]

Ints = npt.NDArray[np.int64]


def joined(graph: Graph, tensors: Iterable[torch.Tensor]) -> Floats:
    """All numbers (graph.size,) of tensors in the graph's order; raises ParameterError unless they fit."""
    given = [tensor.detach().to("cpu", torch.float64) for tensor in tensors]
    shapes = [tuple(tensor.shape) for tensor in given]
    if shapes != [one.shape for one in graph.parameters]:
        raise ParameterError(
            f"{len(given)} tensors of {sum(tensor.numel() for tensor in given)} numbers are not the network's "
            f"{len(graph.parameters)} of {graph.size}: take those of the same architecture"
        )
    row = torch.cat([tensor.reshape(-1) for tensor in given]).numpy()
    if not np.isfinite(row).all():
        raise ParameterError("a parameter is not finite: train with a lower learning rate, or clip")
    return np.asarray(row, dtype=np.float64)


def parted(graph: Graph, row: Floats) -> tuple[torch.Tensor, ...]:
    """The tensors, in the graph's order, of all numbers (graph.size,)."""
    if row.shape != (graph.size,):
        raise ParameterError(f"numbers of shape {row.shape} are not the network's ({graph.size},)")
    found, start = [], 0
    for parameter in graph.parameters:
        part = row[start : start + parameter.size]
        found.append(torch.tensor(part, dtype=torch.float64).reshape(parameter.shape))
        start += parameter.size
    return tuple(found)


def encode(row: Floats, bits: int, bound: int) -> Ints:
    """The integers nearest to row * 2^bits; raises ParameterError for one above `bound` in magnitude."""
    found = np.rint(row * 2.0**bits)
    largest = float(np.abs(found).max(initial=0.0))
    if not largest <= bound:
        raise ParameterError(
            f"a parameter of {largest / 2**bits:.6g} is above the bound of {bound / 2**bits:.6g}: start from smaller "
            "ones, or allow larger ones in the encoding"
        )
    return found.astype(np.int64)


def decode(integers: Ints, bits: int) -> Floats:
    """The numbers integers / 2^bits."""
    return integers / 2.0**bits


def in_rows(integers: Ints, shape: tuple[int, int]) -> Ints:
    """One row of integers as (rows, width), filled up with zeros."""
    filled = np.zeros(shape[0] * shape[1], dtype=np.int64)
    filled[: len(integers)] = integers
    return filled.reshape(shape)


def out_of_rows(table: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    """The first `size` integers of a table (rows, width); raises ParameterError where the others are not zero."""
    row = table.reshape(-1)
    if row[size:].any():
        raise ParameterError(f"there are numbers behind the network's {size}: refuse the artifact")
    return row[:size]
