"""Parameters as integers in rows, and local training: what federated averaging does on one client."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sonar.network import NetworkError, NetworkTraining, ParameterError
from sonar.network.building import build
from sonar.network.parameters import decode, encode, in_rows, joined, out_of_rows, parted
from sonar.network.tracing import trace
from sonar.network.training import clipped, outputs_of, train


def records(count=60, seed=3):
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, 5))
    return found, np.eye(3)[found[:, :3].argmax(axis=1)]


def test_parameters_go_into_one_row_and_come_back(cnn):
    graph, tensors = trace(cnn, (1, 8, 8))
    row = joined(graph, tensors)
    assert row.shape == (graph.size,)
    assert all(torch.equal(a.double(), b) for a, b in zip(tensors, parted(graph, row), strict=True))


def test_parameters_of_another_network_and_such_as_are_not_finite_are_refused(cnn, mlp):
    graph, tensors = trace(mlp, (5,))
    with pytest.raises(ParameterError, match="same architecture"):
        joined(graph, trace(cnn, (1, 8, 8))[1])
    tensors[0][0, 0] = torch.nan
    with pytest.raises(ParameterError, match="not finite"):
        joined(graph, tensors)
    with pytest.raises(ParameterError, match=r"\(3,\)"):
        parted(graph, np.zeros(3))


@settings(deadline=None)
@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=50), st.integers(1, 7))
def test_integers_in_rows_are_filled_up_with_zeros_that_must_stay(integers, width):
    given = np.array(integers, dtype=np.int64)
    shape = (-(-len(given) // width), width)
    table = in_rows(given, shape)
    assert table.shape == shape
    assert (out_of_rows(table, len(given)) == given).all()
    if table.size > len(given):
        table[-1, -1] = 1
        with pytest.raises(ParameterError, match="refuse"):
            out_of_rows(table, len(given))


def test_numbers_are_rounded_to_the_grid_and_never_beyond_its_bound():
    assert encode(np.array([0.5, -0.26, 1.0]), 2, 4).tolist() == [2, -1, 4]
    assert decode(np.array([2, -1]), 2).tolist() == [0.5, -0.25]
    for wrong in (1.2, np.nan, np.inf):
        with pytest.raises(ParameterError, match="above the bound"):
            encode(np.array([wrong]), 2, 4)


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_that_of_torch_by_hand(mlp, optimizer, decay):
    graph, tensors = trace(mlp, (5,))
    start, (x, y) = joined(graph, tensors), records()
    training = NetworkTraining(optimizer=optimizer, learning_rate=0.05, weight_decay=decay,
                               momentum=0.5 if optimizer == "sgd" else 0.0,
                               epochs=3, batch_size=16, clip_norm=1000.0)  # fmt: skip
    change = train(graph, start, x, y, training, seed=11)

    by_hand = mlp.train()
    kind = {
        "sgd": lambda p: torch.optim.SGD(p, 0.05, 0.5, weight_decay=decay),
        "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=decay),
    }
    steps, order = kind[optimizer](by_hand.parameters()), torch.Generator().manual_seed(11)
    for _ in range(3):
        for batch in torch.randperm(60, generator=order).split(16):
            steps.zero_grad()
            loss = nn.functional.cross_entropy(
                by_hand(torch.tensor(x[batch], dtype=torch.float32)), torch.tensor(y[batch]).argmax(1)
            )
            loss.backward()
            steps.step()
    ours = build(graph, parted(graph, start + change))
    assert np.allclose(joined(graph, ours.tensors()), joined(graph, by_hand.parameters()), atol=1e-4)


def test_the_same_seed_gives_the_same_change_and_leaves_torchs_own_generator_alone(cnn):
    graph, tensors = trace(cnn, (1, 8, 8))
    random = np.random.default_rng(5)
    x, y = random.normal(size=(40, 64)), np.eye(10)[random.integers(0, 10, 40)]
    training = NetworkTraining(epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = (train(graph, joined(graph, tensors), x, y, training, seed=4) for _ in range(2))
    assert (one == other).all()
    assert torch.equal(before, torch.get_rng_state())
    assert (train(graph, joined(graph, tensors), x, y, training, seed=5) != one).any()


def test_a_change_is_clipped_to_the_specs_length(mlp):
    graph, tensors = trace(mlp, (5,))
    x, y = records()
    change = train(graph, joined(graph, tensors), x, y, NetworkTraining(learning_rate=0.1, clip_norm=0.5), seed=1)
    assert np.linalg.norm(change) == pytest.approx(0.5)
    assert (clipped(np.array([0.3, 0.4]), 1.0) == [0.3, 0.4]).all()


def test_training_that_diverges_says_so():
    graph, tensors = trace(nn.Sequential(nn.Linear(5, 1)), (5,))
    x, _ = records()
    with pytest.raises(NetworkError, match="learning rate"):
        train(graph, joined(graph, tensors), x * 1e15, x[:, :1] * 1e15,
              NetworkTraining(optimizer="sgd", loss="mse", learning_rate=10.0, epochs=50), seed=1)  # fmt: skip


def test_regressions_train_on_numbers():
    graph, tensors = trace(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), (5,))
    x, _ = records(200)
    y = x[:, :1] * 0.5 + 0.1
    start = joined(graph, tensors)
    change = train(graph, start, x, y, NetworkTraining(loss="mse", epochs=60, learning_rate=0.01), seed=2)
    errors = [
        float(((outputs_of(build(graph, parted(graph, row)), x) - y) ** 2).mean()) for row in (start, start + change)
    ]
    assert errors[1] < errors[0] / 20


def test_records_and_targets_of_another_shape_are_refused(mlp):
    graph, tensors = trace(mlp, (5,))
    x, y = records()
    for wrong in ((x[:, :4], y), (x, y[:-1]), (x, y[:, :2])):
        with pytest.raises(NetworkError, match="do not fit"):
            train(graph, joined(graph, tensors), *wrong, NetworkTraining(), seed=1)


def test_training_loads_no_compiler():
    code = """
import sys, numpy as np
from sonar.network import Graph, NetworkTraining
from sonar.network.training import train
graph = Graph.model_validate({"takes": (2,), "layers": ({"op": "linear", "of": (0,), "units": 2},)})
train(graph, np.zeros(graph.size), np.ones((4, 2)), np.eye(2)[[0, 1, 0, 1]], NetworkTraining(), seed=1)
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
