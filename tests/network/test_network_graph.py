"""Declared networks: what is read, what is refused before anything is built, and that no torch is needed for it."""

import json
import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from sonar import canonical
from sonar.network import MAX_PARAMETERS, Graph, NetworkError
from sonar.network.graph import MAX_GRAPH_BYTES, MAX_LAYERS

LINEAR = {"op": "linear", "of": [0], "units": 3, "bias": True}


def declared(layers, takes=(4,)):
    return canonical.dumps({"takes": list(takes), "layers": layers})


def conv(of=0, channels=4, kernel=(3, 3), stride=(1, 1), padding=(0, 0), **more):
    return {
        "op": "conv", "of": [of], "channels": channels, "kernel": list(kernel), "stride": list(stride),
        "padding": list(padding), "dilation": [1] * len(kernel), "groups": 1, "bias": True, **more,
    }  # fmt: skip


def test_a_graph_is_read_as_it_was_written():
    data = declared([conv(), {"op": "relu", "of": [1]}, {"op": "flatten", "of": [2]}, {**LINEAR, "of": [3]}], (1, 8, 8))
    graph = Graph.parse(data)
    assert graph.to_bytes() == data
    assert graph.shapes == ((1, 8, 8), (4, 6, 6), (4, 6, 6), (144,), (3,))
    assert [(one.layer, one.name, one.shape) for one in graph.parameters] == [
        (0, "weight", (4, 1, 3, 3)), (0, "bias", (4,)), (3, "weight", (3, 144)), (3, "bias", (3,)),
    ]  # fmt: skip
    assert graph.size == 36 + 4 + 432 + 3
    assert (graph.features, graph.outputs) == (64, 3)


@pytest.mark.parametrize(
    ("layers", "takes", "said"),
    [
        ([], (4,), "1 entries or more"),
        ([{"op": "relu", "of": [0]}], (4,), "nothing to train"),
        ([{**LINEAR, "of": [1]}], (4,), "not yet there"),
        ([LINEAR, {**LINEAR, "of": [0]}], (4,), "layer 0 gives is never used"),
        ([LINEAR], (2, 4), "give a row"),
        ([{**LINEAR, "units": 0}], (4,), "at least 1"),
        ([{**LINEAR, "units": 3.0}], (4,), "whole number"),
        ([{**LINEAR, "more": 1}], (4,), "no such field"),
        ([{"op": "lstm", "of": [0]}], (4,), "must be one of"),
        ([LINEAR, {"op": "add", "of": [0, 1]}], (4,), "cannot be added"),
        ([{"op": "add", "of": [0]}], (4,), "layers.0.add.of"),
        ([conv()], (4,), "more dimensions"),
        ([conv()], (1, 2, 2), "does not fit"),
        ([conv(groups=3)], (1, 8, 8), "no multiples"),
        ([conv(stride=[1])], (1, 8, 8), "2 numbers each"),
        ([{"op": "max_pool", "of": [0], "kernel": [2], "stride": [2], "padding": [2]}], (1, 8), "half of the kernel"),
        ([{"op": "dropout", "of": [0], "part": 1.0}], (4,), "less than 1"),
        ([{"op": "group_norm", "of": [0], "groups": 3, "epsilon": 1e-5, "affine": True}], (4, 4), "no multiple"),
        ([{"op": "group_norm", "of": [0], "groups": 4, "epsilon": 1e-5, "affine": True}], (4,), "a single number"),
        ([{"op": "layer_norm", "of": [0], "dimensions": 2, "epsilon": 1e-5, "affine": True, "bias": True}], (4,),
         "no 2 dim"),
        ([{"op": "embedding", "of": [0], "count": 5, "width": 2}], (1, 4), "a row of numbers"),
        ([{"op": "transpose", "of": [0]}], (4,), "two dimensions"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_built_is_refused_in_words(layers, takes, said):
    with pytest.raises(NetworkError, match=said):
        Graph.parse(declared(layers, takes))


@pytest.mark.parametrize(
    ("layers", "takes", "said"),
    [
        (
            [{"op": "embedding", "of": [0], "count": 60_000, "width": 100}, {**LINEAR, "of": [1]}],
            (4,),
            "parameters, above the limit",
        ),
        ([{**LINEAR, "units": 1}], (65536, 65536, 65536), "numbers"),
        ([conv(channels=65536, kernel=(1, 1))], (1, 64, 64), "numbers a record, above"),
        (
            [conv(channels=64, kernel=(31, 31), padding=(15, 15))],
            (1, 64, 64),
            "multiplications a record|numbers a record",
        ),
        # What padding adds is nothing's output, and yet somebody may make it.
        (
            [conv(channels=1, kernel=(2, 2), padding=(1024, 1024), dilation=[2048, 2048])],
            (1, 1, 1),
            "numbers a record, above",
        ),
        (
            [
                {
                    "op": "max_pool",
                    "of": [0],
                    "kernel": [1, 2048],
                    "stride": [65536, 2048],
                    "padding": [0, 1024],
                }
            ],
            (1, 2047, 1),
            "numbers a record, above",
        ),
        # Few numbers are given and few come out, but each of 65,536 windows has 2,000.
        (
            [{"op": "adaptive_avg_pool", "of": [0], "windows": [65536, 1]}],
            (1, 1, 2000),
            "multiplications a record, above",
        ),
        # What takes as long as sixteen multiplications counts as them.
        ([{"op": "tanh", "of": [n]} for n in range(5)], (1, 2048, 2048), "numbers|multiplications"),
    ],
)
def test_a_network_too_large_is_refused_before_anything_of_it_is_made(layers, takes, said):
    with pytest.raises(NetworkError, match=said):
        Graph.parse(declared(layers, takes))


def test_work_is_counted_by_what_a_number_takes():
    def work(*ops):
        layers = [{"op": op, "of": [place]} for place, op in enumerate(ops)]
        return Graph.parse(declared([*layers, {**LINEAR, "of": [len(ops)]}], (1000,))).work

    assert work() == 3 * 1000 + 4 * 3
    assert work("relu") == work() + 4 * 1000
    for op in ("elu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"):
        assert work(op, op) == work() + 2 * 16 * 1000


def test_windows_of_means_count_with_every_number_that_is_in_them():
    given, windows = (3, 7, 12), (5, 30)
    layers = [
        {"op": "adaptive_avg_pool", "of": [0], "windows": list(windows)},
        {"op": "flatten", "of": [1]},
        {**LINEAR, "of": [2], "units": 1},
    ]
    sizes = [[-(-(at + 1) * n // m) - at * n // m for at in range(m)] for n, m in zip(given[1:], windows, strict=True)]
    summed, gives = 3 * sum(sizes[0]) * sum(sizes[1]), 3 * math.prod(windows)
    assert Graph.parse(declared(layers, given)).work == 4 * (summed + gives) + 4 * gives + gives + 4


def test_a_million_parameters_are_within_the_limits():
    layers = [
        {**LINEAR, "units": 1000},
        {"op": "relu", "of": [1]},
        {**LINEAR, "of": [2], "units": 180},
        {**LINEAR, "of": [3]},
    ]
    graph = Graph.parse(declared(layers, (819,)))
    assert 1_000_000 <= graph.size < MAX_PARAMETERS


def test_more_layers_and_bytes_than_anybody_needs_are_refused():
    with pytest.raises(NetworkError, match=f"{MAX_LAYERS} entries at most"):
        Graph.parse(declared([LINEAR] + [{"op": "relu", "of": [n]} for n in range(1, MAX_LAYERS + 1)]))
    with pytest.raises(NetworkError, match=str(MAX_GRAPH_BYTES)):
        Graph.parse(b" " * (MAX_GRAPH_BYTES + 1))


def test_only_canonical_bytes_are_read():
    data = declared([LINEAR])
    with pytest.raises(NetworkError, match="canonical"):
        Graph.parse(json.dumps(json.loads(data)).encode())
    without = json.loads(data)
    del without["layers"][0]["bias"]
    with pytest.raises(NetworkError, match="canonical form"):
        Graph.parse(canonical.dumps(without))
    for bytes_ in (b"", b"[" * 10_000, b"null", b"\xff"):
        with pytest.raises(NetworkError):
            Graph.parse(bytes_)


def test_a_graph_cannot_be_changed():
    graph = Graph.parse(declared([LINEAR]))
    with pytest.raises(ValidationError):
        graph.takes = (5,)


def test_reading_a_graph_loads_no_torch():
    code = "import sonar.network, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
