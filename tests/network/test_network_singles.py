"""Gradients of records one by one: what autograd gives of each alone, whatever the layer and the other records are."""

import typing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sonar.network import Graph, NetworkError, NetworkTraining
from sonar.network.building import Network, build
from sonar.network.layers import ACTIVATIONS, AnyLayer
from sonar.network.parameters import parted
from sonar.network.separable import SEPARABLE, check_separable
from sonar.network.singles import Singles
from sonar.network.training import loss_of


def conv(of: int, *kernel: int, **more: Any) -> dict[str, Any]:
    ones = (1,) * len(kernel)
    return {"op": "conv", "of": (of,), "channels": 4, "kernel": kernel, "stride": ones, "padding": ones,
            "dilation": ones, **more}  # fmt: skip


def head(of: int) -> list[dict[str, Any]]:
    return [{"op": "flatten", "of": (of,)}, {"op": "linear", "of": (of + 1,), "units": 3}]


def pool(op: str, *kernel: int) -> dict[str, Any]:
    return {"op": op, "of": (1,), "kernel": kernel, "stride": kernel, "padding": (1,) * len(kernel)}


LINE, PICTURE, ROW = (2, 8), (2, 8, 8), (5,)
GRAPHS: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "conv1d": (LINE, [conv(0, 3), *head(1)]),
    "conv2d in groups": (PICTURE, [conv(0, 3, 3, groups=2, bias=False), *head(1)]),
    "conv2d with gaps": (PICTURE, [conv(0, 3, 3, stride=(2, 2), dilation=(2, 2)), *head(1)]),
    **{f"{op} of {len(k)}": (LINE if len(k) == 1 else PICTURE, [conv(0, *(3,) * len(k)), pool(op, *k), *head(2)])
       for op in ("max_pool", "avg_pool") for k in ((2,), (2, 2))},
    "adaptive1d": (LINE, [conv(0, 3), {"op": "adaptive_avg_pool", "of": (1,), "windows": (3,)}, *head(2)]),
    "adaptive2d": (PICTURE, [conv(0, 3, 3), {"op": "adaptive_avg_pool", "of": (1,), "windows": (3, 2)}, *head(2)]),
    **{op: (ROW, [{"op": "linear", "of": (0,), "units": 6}, {"op": op, "of": (1,)},
                  {"op": "linear", "of": (2,), "units": 3}]) for op in ACTIVATIONS},
    "layer_norm": ((2, 5), [{"op": "layer_norm", "of": (0,), "dimensions": 2}, *head(1)]),
    "group_norm": (PICTURE, [conv(0, 3, 3), {"op": "group_norm", "of": (1,), "groups": 2}, *head(2)]),
    "embedding": (ROW, [{"op": "embedding", "of": (0,), "count": 7, "width": 3}, {"op": "transpose", "of": (1,)},
                        conv(2, 3), *head(3)]),
    "dropout and a sum": (ROW, [{"op": "linear", "of": (0,), "units": 6}, {"op": "dropout", "of": (1,), "part": 0.5},
                                {"op": "add", "of": (1, 2)}, {"op": "linear", "of": (3,), "units": 3}]),
}  # fmt: skip
RECORDS = 6


def graph_of(name: str) -> Graph:
    takes, layers = GRAPHS[name]
    return Graph.model_validate({"takes": takes, "layers": tuple(layers)})


def network_of(graph: Graph) -> Network:
    numbers = np.random.default_rng(5).normal(size=graph.size) * 0.4
    return build(graph, parted(graph, numbers), dtype=torch.float32)


def records_of(graph: Graph, count: int = RECORDS) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(6).normal(size=(count, *graph.takes)) * 2, dtype=torch.float32)


def one_by_one(network: Network, records: torch.Tensor, wanted: torch.Tensor, training: NetworkTraining) -> np.ndarray:
    """The slow and obvious way: a backward pass for each record."""
    found = []
    for at in range(len(records)):
        network.zero_grad()
        loss_of(network.eval()(records[at : at + 1]), wanted[at : at + 1], training).backward()
        found.append(torch.cat([parameter.grad.reshape(-1) for parameter in network.tensors()]).numpy())
    return np.array(found)


@pytest.mark.parametrize("name", GRAPHS)
def test_each_gradient_is_what_autograd_gives_of_that_record_alone(name: str) -> None:
    graph = graph_of(name)
    network, records = network_of(graph), records_of(graph)
    for training, wanted in (
        (NetworkTraining(), torch.arange(RECORDS) % 3),
        (NetworkTraining(loss="mse"), torch.linspace(-1, 1, 3 * RECORDS).reshape(RECORDS, 3)),
    ):
        found = Singles(network, training).gradients(records, wanted).numpy()
        expected = one_by_one(network, records, wanted, training)
        assert found.shape == (RECORDS, graph.size)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["conv2d in groups", "max_pool of 2", "group_norm", "embedding", "gelu"])
def test_a_gradient_does_not_depend_on_the_other_records_to_the_last_bit(name: str) -> None:
    graph = graph_of(name)
    singles, records = Singles(network_of(graph), NetworkTraining()), records_of(graph, 16)
    wanted = torch.arange(16) % 3
    before = singles.gradients(records, wanted)
    for others in (torch.zeros_like(records), records.flip(0) * 9, torch.full_like(records, torch.nan)):
        for at in (0, 7, 15):
            changed = others.clone()
            changed[at] = records[at]
            assert torch.equal(singles.gradients(changed, wanted)[at], before[at])


def test_every_layer_that_can_be_declared_is_differentiated_by_these_tests() -> None:
    declared = {
        op
        for layer in typing.get_args(typing.get_args(AnyLayer)[0])
        for op in typing.get_args(layer.model_fields["op"].annotation)
    }
    tried = {layer["op"] for _, layers in GRAPHS.values() for layer in layers}
    assert tried == declared == SEPARABLE


def test_a_layer_that_may_mix_records_is_refused_by_its_name() -> None:
    mixing: Any = SimpleNamespace(layers=(SimpleNamespace(op="linear"), SimpleNamespace(op="batch_norm")))
    with pytest.raises(NetworkError, match=r"layer 1 \(batch_norm\) is not known to keep records apart"):
        check_separable(mixing)
